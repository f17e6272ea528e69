"""Code shared by all methods. Imports no method."""

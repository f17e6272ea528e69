"""Intervals and other statistics."""

"""What every method shares. Knows no method."""

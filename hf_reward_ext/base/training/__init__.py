"""The base trainer and its configuration, pairwise losses, and token rewards."""

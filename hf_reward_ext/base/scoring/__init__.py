"""Scoring text: one callable for every kind of reward, and ways to combine rewards."""

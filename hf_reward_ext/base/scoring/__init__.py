"""Scoring of text: one callable for every kind of reward, and combinations of rewards."""

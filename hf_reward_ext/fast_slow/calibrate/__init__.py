"""Calibration of a judge on held-out pairs, and monitoring after it."""

"""Calibration of a judge on held-out pairs, and monitoring of calibrated judges."""

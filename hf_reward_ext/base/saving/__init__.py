"""Checkpoints: pointers to base models, model cards, uploads, and merged weights."""

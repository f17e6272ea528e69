"""Checkpoints: the pointer to a base model, model cards, uploads, and merged weights."""

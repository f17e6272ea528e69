"""Fast path, slow path, and stopping criterion for `generate`."""

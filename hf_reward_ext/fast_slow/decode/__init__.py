"""The fast path, the slow path, and the hook into generation."""

"""Running a causal language model: forward, cache, shared prefill, and a guide that follows another generation."""

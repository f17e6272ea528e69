"""Running of causal language models: forward, cache, shared prefill, and cached guides."""

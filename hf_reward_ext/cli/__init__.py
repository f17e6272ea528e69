"""The `hf-reward-ext` console script, one file per command."""

"""Console script `hf-reward-ext`, one file per command."""

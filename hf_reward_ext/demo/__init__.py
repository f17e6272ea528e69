"""Demo: a small language model of two verifiable tasks, with its tokenizer and training script."""

"""Training of judges: stage 1 on preference pairs, stage 2 with GRPO."""

"""Fast-Slow reward models: one token when sure, a written judgement when not (arXiv 2603.20212)."""

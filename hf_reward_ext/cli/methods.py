"""What `hf-reward-ext train` can train."""

METHODS = {
    "genarm": "an autoregressive reward model that guides another model, from preference pairs",
    "sla": "a reward channel beside a frozen model, for look-ahead search, from preference pairs",
    "fast-slow": "a judge that answers in one token or in writing, from preference pairs with or without judgments",
    "elhsr": "a linear head on the policy's hidden states, from labelled completions or pairs",
}

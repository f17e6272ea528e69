"""Preference data as token ids and masks."""

from hf_reward_ext.base.preference.pairs import (
    prepare_preference_dataset,
    tokenize_completion,
    tokenize_preference,
    tokenize_prompt,
)

__all__ = ["prepare_preference_dataset", "tokenize_completion", "tokenize_preference", "tokenize_prompt"]

"""Checks of a policy for a head on its hidden states."""

from hf_reward_ext.base.lm.causal_lm import require_causal_lm


def require_states(policy) -> None:
    """
    Reject a policy whose hidden states do not correspond to its tokens.

    Args:
        policy (`PreTrainedModel` or `PeftModel`): A causal LM.

    Raises:
        TypeError: If it is not a causal LM.
        ValueError: If it is an encoder-decoder, or its adapter has virtual tokens.
    """
    require_causal_lm(policy, "policy")
    adapter = getattr(policy, "active_peft_config", None)
    if adapter is not None and adapter.is_prompt_learning:
        raise ValueError(
            f"`policy` must not have virtual tokens, got a `{type(adapter).__name__}`: its hidden states are not in "
            "line with the text, and `generate` reads them where a head cannot. Use LoRA or another adapter of weights."
        )

"""Feature vector of each token, from the outputs of a policy."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_reward_ext.base.lm.forward import positions_of
from hf_reward_ext.base.lm.layers import check_streams
from hf_reward_ext.elhsr.model_config import ELHSRModelConfig


def policy_features(output, config: ELHSRModelConfig, last: int | None = None) -> Float[Tensor, "batch seq features"]:
    """
    Return the features of the last `last` tokens (default: all) of a forward of the policy.

    Args:
        output (`ModelOutput`): Output with the `hidden_states` in `config.layers`, or with `logits`.
        config ([`ELHSRModelConfig`]): Which features.
        last (`int`, *optional*): Number of positions, counted from the end.

    Returns:
        `torch.Tensor` of shape `(batch, seq, features)`, in the policy's dtype.

    Raises:
        ValueError: If the output has no hidden states.
    """
    start = -last if last is not None else 0
    if config.features == "logits":
        logits = output.logits[:, start:]
        if config.top_logprobs is None:
            return logits
        return logits.float().log_softmax(-1).topk(config.top_logprobs, dim=-1).values
    hidden_states = getattr(output, "hidden_states", None)
    if hidden_states is None:
        raise ValueError(
            f"`{type(output).__name__}` of the policy has no hidden states, but the head reads "
            f"{len(config.layers)} of them. Use a policy that returns `hidden_states`, or `features='logits'`."
        )
    if len(hidden_states) != config.num_layers + 1:
        raise ValueError(
            f"The policy gave {len(hidden_states)} hidden states, but this head was made for {config.num_layers + 1}. "
            "Load the policy it was trained on, or make a head with `features='logits'`."
        )
    check_streams(hidden_states, config.layers, config.hidden_size, "head")
    return torch.cat([hidden_states[layer][:, start:] for layer in config.layers], dim=-1)


@torch.no_grad()
def teacher_forced_features(
    policy,
    config: ELHSRModelConfig,
    input_ids: Int[Tensor, "batch seq"],
    attention_mask: Int[Tensor, "batch seq"],
) -> Float[Tensor, "batch seq features"]:
    """Return the features of every position of given texts, right- or left-padded, by one forward of the policy."""
    kwargs = {"output_hidden_states": list(config.layers)} if config.features == "hidden_states" else {}
    output = policy(
        input_ids=input_ids,
        attention_mask=attention_mask,
        position_ids=positions_of(attention_mask),
        use_cache=False,
        **kwargs,
    )
    return policy_features(output, config)

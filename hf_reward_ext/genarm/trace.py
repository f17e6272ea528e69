"""Trace of the effect of guidance on each token of a completion."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hf_reward_ext.base.lm.tokens import completion_mask_from_ids, eos_token_ids, pad_token_id
from hf_reward_ext.genarm.combine import guided_logps


@dataclass(frozen=True)
class GuidanceTrace:
    r"""
    Per-token log-probabilities of policy, guides and their combination, in nats.

    $$ \log Z_t = \log\sum_v \pi_{base}(v)\prod_k\pi_k(v)^{\alpha_k}, \qquad
    KL_t = \sum_v \pi(v)\,\log\frac{\pi(v)}{\pi_{base}(v)} $$

    It is computed from finished sequences, so it is independent of the decoding mode, and can be computed for any text.

    Args:
        base_logps, guided_logps (`torch.Tensor` of shape `(rows, seq)`): Log-probabilities of the
            generated tokens.
        guide_logps (`torch.Tensor` of shape `(rows, seq, guides)`): Log-probabilities of the same tokens
            under each guide, which are its token rewards.
        kl (`torch.Tensor` of shape `(rows, seq)`): KL(guided || base) of the whole next-token distribution.
        log_z (`torch.Tensor` of shape `(rows, seq)`): Log of the normalizer, see `log_weights`.
        base_entropy (`torch.Tensor` of shape `(rows, seq)`): Entropy of the policy's next-token
            distribution.
        completion_mask (`torch.Tensor` of shape `(rows, seq)`): `True` up to and including EOS; other
            values are 0.

    Example:
    ```python
    >>> trace = trace_guidance(guided, sequences, prompt_length=5)
    >>> plt.plot(trace.kl[0])
    ```
    """

    base_logps: Float[Tensor, "rows seq"]
    guide_logps: Float[Tensor, "rows seq guides"]
    guided_logps: Float[Tensor, "rows seq"]
    kl: Float[Tensor, "rows seq"]
    log_z: Float[Tensor, "rows seq"]
    base_entropy: Float[Tensor, "rows seq"]
    completion_mask: Bool[Tensor, "rows seq"]

    @property
    def log_weights(self) -> Float[Tensor, " rows"]:
        r"""Log importance weight $\sum_t \log Z_t$ of samples for the product that is normalized over sequences."""
        return self.log_z.sum(-1)

    @classmethod
    def from_logits(
        cls,
        base_logits: Float[Tensor, "rows seq vocab"],
        guide_logits: Sequence[Float[Tensor, "rows seq guide_vocab"]],
        alpha: Float[Tensor, "rows seq guides"],
        tokens: Int[Tensor, "rows seq"],
        completion_mask: Bool[Tensor, "rows seq"],
        size: int,
    ) -> Self:
        """Compute the trace of `tokens` under logits that predict them; all models share `size` ids."""
        base = _logps(base_logits, size)
        guides = [_logps(logits, size).to(base.device) for logits in guide_logits]
        guided = guided_logps(base_logits, guide_logits, alpha, size)[..., :size]
        chosen = [logps.gather(-1, tokens[..., None]).squeeze(-1) for logps in (base, guided, *guides)]
        guide_chosen = torch.stack(chosen[2:], dim=-1)
        # A guide of weight 0 adds nothing, not even its impossible tokens.
        product = chosen[0] + torch.where(alpha == 0, 0, alpha * guide_chosen).sum(-1)
        values = {
            "base_logps": chosen[0],
            "guide_logps": guide_chosen,
            "guided_logps": chosen[1],
            "kl": _mean_under(guided, guided - base),
            "log_z": product - chosen[1],
            "base_entropy": -_mean_under(base, base),
        }
        masked = {
            name: value.masked_fill(~(completion_mask if value.dim() == 2 else completion_mask[..., None]), 0)
            for name, value in values.items()
        }
        return cls(**masked, completion_mask=completion_mask)

    @classmethod
    def cat(cls, traces: Sequence[Self]) -> Self:
        """Concatenate traces of several groups of rows."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: torch.cat([getattr(trace, name) for trace in traces]) for name in names})


@torch.no_grad()
def trace_guidance(
    guided,
    sequences: Int[Tensor, "rows seq"],
    prompt_length: int,
    attention_mask: Int[Tensor, "prompts prompt"] | None = None,
    rows_at_once: int = 8,
    *,
    completion_mask: Bool[Tensor, "rows new"] | None = None,
) -> GuidanceTrace:
    """
    Trace guidance on finished sequences with one forward of policy and guides.

    Args:
        guided (`GuidedCausalLM`): Policy, guides and weights. To trace a processor, create one with the same models.
        sequences (`torch.Tensor` of shape `(rows, seq)`): Output of `generate`, prompts included.
        prompt_length (`int`): Number of columns of the (left-padded) prompts.
        attention_mask (`torch.Tensor` of shape `(rows or prompts, prompt_length)`, *optional*): 0 on padding of the
            prompts. Default: no padding.
        rows_at_once (`int`, defaults to 8): Number of rows per forward, which limits the memory of logits.
        completion_mask (`torch.Tensor` of shape `(rows, new)`, *optional*): `True` on generated tokens, see
            [`watch_row_ends`]. Default: inferred from the ids, where EOS and padding after a stop string look alike.

    Returns:
        [`GuidanceTrace`], with a column per token after the prompt.

    Raises:
        ValueError: If the sequences have no tokens after the prompt.
    """
    rows, width = sequences.shape
    if width <= prompt_length:
        raise ValueError(
            f"`sequences` must have tokens after the {prompt_length} columns of the prompt, got {width} columns. Pass "
            "the output of `generate`."
        )
    mask = torch.ones_like(sequences)
    if attention_mask is not None:
        mask[:, :prompt_length] = attention_mask.repeat_interleave(rows // len(attention_mask), dim=0)
    config = guided.generation_config
    completion = completion_mask
    if completion is None:
        completion = completion_mask_from_ids(sequences[:, prompt_length:], eos_token_ids(config), pad_token_id(config))
    alpha = guided.weights_of_columns(torch.arange(prompt_length, width), prompt_length, rows, sequences.device)
    parts = zip(*(value.split(rows_at_once) for value in (sequences, mask, alpha, completion)), strict=True)
    return GuidanceTrace.cat([_trace(guided, prompt_length, *part) for part in parts])


def _trace(guided, prompt_length: int, ids: Tensor, mask: Tensor, alpha: Tensor, completion: Tensor) -> GuidanceTrace:
    tokens = ids[:, prompt_length:]
    base, *guides = (logits[:, :-1] for logits in guided.separate_logits(ids, mask, logits_to_keep=tokens.shape[1] + 1))
    size = guided.common_size(base, guides)
    return GuidanceTrace.from_logits(base, guides, alpha, tokens, completion, size)


def _logps(logits: Tensor, size: int) -> Tensor:
    return logits[..., :size].to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)


def _mean_under(logps: Tensor, values: Tensor) -> Tensor:
    """Return the expectation of values; impossible tokens are ignored."""
    probabilities = logps.exp()
    return torch.where(probabilities > 0, probabilities * values, 0).sum(-1)

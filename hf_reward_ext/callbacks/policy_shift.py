"""How far samples of a policy in training are from those of its start: divergence, and features of the texts."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate.utils import extract_model_from_parallel
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from hf_reward_ext.base.lm.forward import run_forward

_TOKENS_PER_FORWARD = 1024  # logits of the whole vocabulary are compared


class Shift(NamedTuple):
    """
    Position of a sample relative to the start of the training.

    Args:
        kl (`float`): KL divergence of the policy from the start at the tokens of the sample, in nats.
        features (`list[float]`): Mean last hidden state of the start over the completion.
    """

    kl: float
    features: list[float]


class StartPolicy:
    """
    Policy at the start of the training.

    It is `reference` if given; the model with its adapters disabled for PEFT; else a copy, taken by [`keep`].

    Args:
        reference (`PreTrainedModel`, *optional*): The policy at the start.
    """

    def __init__(self, reference: Any = None):
        self.reference = reference
        self._is_loaded = False

    def keep(self, model, step: int) -> None:
        """
        Take a copy of a model without adapters.

        Raises:
            ValueError: If the training began earlier, so that the model is not the start.
        """
        if self.reference is not None or _has_adapters(model):
            return
        if step > 0:
            raise ValueError(
                f"Training goes on from step {step}, so its policy is not that of the start. Pass `reference=`, the "
                "model before training."
            )
        self.reference = copy.deepcopy(extract_model_from_parallel(model)).eval().requires_grad_(False)
        vars(self.reference).pop("forward", None)  # trainers wrap it in closures, which would run the original

    @contextmanager
    def loaded(self, policy) -> Iterator:
        """Yield the policy at the start, given the policy in training."""
        if self.reference is not None:
            yield self.reference.to(policy.device).eval()
        elif self._is_loaded:
            yield policy  # leaving a second `disable_adapter` would enable the adapters in the first
        else:
            self._is_loaded = True
            try:
                with policy.disable_adapter():
                    yield policy
            finally:
                self._is_loaded = False


def _has_adapters(model) -> bool:
    return hasattr(extract_model_from_parallel(model), "peft_config")


@torch.no_grad()
def shift_from_start(
    policy,
    start: StartPolicy,
    sequences: Int[Tensor, "rows seq"],
    prompt_mask: Int[Tensor, "prompts prompt"],
    completion_mask: Bool[Tensor, "rows new"],
) -> list[Shift]:
    r"""
    Return the shift of each sample.

    $$ KL = \sum_t KL(\pi(\cdot \mid y_{<t}) \,\|\, \pi_0(\cdot \mid y_{<t})) $$

    Args:
        policy (`PreTrainedModel`): Policy in training.
        start ([`StartPolicy`]): Policy at the start.
        sequences (`torch.Tensor` of shape `(rows, seq)`): Prompts and samples, the samples of a prompt in a row.
        prompt_mask (`torch.Tensor` of shape `(prompts, prompt)`): 0 on the padding of prompts.
        completion_mask (`torch.Tensor` of shape `(rows, new)`): `True` on the tokens of samples.
    """
    repeats = len(sequences) // len(prompt_mask)
    attention_mask = torch.cat([prompt_mask.repeat_interleave(repeats, 0), completion_mask.long()], dim=-1)
    size = max(1, _TOKENS_PER_FORWARD // sequences.shape[1])
    shifts = []
    for rows in torch.arange(len(sequences)).split(size):
        shifts += _shift(policy, start, sequences[rows], attention_mask[rows], completion_mask[rows])
    return shifts


def _shift(policy, start: StartPolicy, ids: Tensor, attention_mask: Tensor, written: Tensor) -> list[Shift]:
    new = written.shape[1]
    logps = _logps(run_forward(policy, ids, attention_mask, logits_to_keep=new + 1), new)
    with start.loaded(policy) as reference:
        output = run_forward(reference, ids, attention_mask, logits_to_keep=new + 1, output_hidden_states=True)
    if output.hidden_states is None:
        raise ValueError(
            f"`{type(reference).__name__}` must return hidden states, whose shift is measured, got none. Use a policy "
            "that returns them."
        )
    states = output.hidden_states[-1][:, -new:].float()
    width = min(logps.shape[-1], output.logits.shape[-1])
    kl = F.kl_div(_logps(output, new)[..., :width], logps[..., :width], reduction="none", log_target=True).sum(-1)
    weights = written.float() / written.sum(-1, keepdim=True).clamp(min=1)
    features = torch.einsum("rt,rtf->rf", weights, states)
    totals = kl.masked_fill(~written, 0).sum(-1)
    return [Shift(total, row) for total, row in zip(totals.tolist(), features.tolist(), strict=True)]


def _logps(output, new: int) -> Float[Tensor, "rows new vocab"]:
    """Return the log-probabilities that predict the last tokens."""
    return output.logits[:, -new - 1 : -1].float().log_softmax(-1)


def feature_shift(features: Float[np.ndarray, "samples dims"], start: Float[np.ndarray, "samples dims"]) -> float:
    r"""
    Return how far the mean of features has moved, in deviations of the start.

    $$ \sqrt{\frac{1}{F} \sum_f \left(\frac{\mu_f - \mu^0_f}{\sigma^0_f}\right)^2} $$

    Features without deviation at the start are left out.

    Args:
        features, start (`np.ndarray` of shape `(samples, dims)`): Features of samples now, and at the start.

    Example:
    ```python
    >>> feature_shift(np.array([[2.0], [4.0]]), np.array([[0.0], [2.0]]))
    2.0
    ```
    """
    deviation = start.std(0)
    varies = deviation > 1e-8
    if not varies.any():
        return 0.0
    moved = (features.mean(0) - start.mean(0))[varies] / deviation[varies]
    return float(np.sqrt((moved**2).mean()))

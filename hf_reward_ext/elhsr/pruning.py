"""Best-of-N that stops weak candidates early."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from hf_reward_ext.base.lm.candidates import Candidates
from hf_reward_ext.base.lm.forward import generate_cache_name
from hf_reward_ext.base.lm.prefill import SharedPrefill
from hf_reward_ext.base.lm.tokens import completion_mask_from_ids
from hf_reward_ext.elhsr.decoding import HiddenStateReward
from hf_reward_ext.elhsr.model import ELHSRModel, gated_mean


@dataclass(frozen=True)
class Pruning:
    """
    Successive halving by the reward of what is written so far.

    After `steps[i]` tokens the best `ceil(num_candidates * keep ** (i + 1))` candidates of each prompt stay, and of
    those the ones that are not hopelessly behind the best. Finished candidates are never dropped, since nothing is
    saved by it. A head that is trained on prefixes too judges them better.

    Args:
        steps (`tuple[int, ...]`): Completion lengths, ascending, at which candidates are compared.
        keep (`float`, *optional*, defaults to 0.5): Share that stays at each step, in (0, 1]; 1 leaves it to `max_gap`.
        max_gap (`float`, *optional*): Candidates whose reward is lower than the best of their prompt by more than this
            are dropped. For a head trained with `"bce"` it is a difference of log-odds of being correct.

    Example:
    ```python
    >>> pipe(prompt, num_candidates=16, prune=Pruning(steps=(16, 32, 64)))  # 16 -> 8 -> 4 -> 2
    ```
    """

    steps: tuple[int, ...]
    keep: float = 0.5
    max_gap: float | None = None

    def __post_init__(self):
        object.__setattr__(self, "steps", tuple(self.steps))
        if not self.steps or list(self.steps) != sorted(set(self.steps)) or self.steps[0] < 1:
            raise ValueError(
                f"`steps={self.steps}` was given, but pruning needs ascending completion lengths of at least 1. "
                "Pass for example `steps=(16, 32)`."
            )
        if not 0 < self.keep <= 1 or (self.keep == 1 and self.max_gap is None):
            raise ValueError(
                f"`keep={self.keep}` was given with `max_gap={self.max_gap}`, but it is a share in (0, 1], and 1 alone "
                "drops nothing. Pass for example 0.5."
            )
        if self.max_gap is not None and self.max_gap < 0:
            raise ValueError(f"`max_gap={self.max_gap}` was given, but it is a distance. Pass a positive number.")

    def survivors(self, rung: int, num_candidates: int) -> int:
        """How many candidates of a prompt stay after step number `rung` (from 0)."""
        return max(1, math.ceil(num_candidates * self.keep ** (rung + 1)))


class _Rows:
    """Everything known of all candidates; only the `alive` ones are still in the batch."""

    def __init__(self, input_ids: Tensor, width: int, eos: list[int], pad: int):
        count, self.prompt_length = input_ids.shape
        self.eos, self.pad = eos, pad
        self.completion = input_ids.new_full((count, width), pad)
        self.gates = torch.zeros(count, width, device=input_ids.device)
        self.rewards = torch.zeros(count, width, device=input_ids.device)
        self.pruned = torch.zeros(count, dtype=torch.bool, device=input_ids.device)
        self.alive = torch.arange(count, device=input_ids.device)

    def write(self, sequences: Tensor, meter: HiddenStateReward) -> None:
        """Takes over what one stage has generated."""
        gates, rewards = (values.to(self.gates) for values in meter.token_rewards)
        end = sequences.shape[1] - self.prompt_length
        self.completion[self.alive, :end] = sequences[:, self.prompt_length :]
        self.gates[self.alive, end - gates.shape[1] : end] = gates
        self.rewards[self.alive, end - gates.shape[1] : end] = rewards

    def mask(self) -> Tensor:
        return completion_mask_from_ids(self.completion, self.eos, self.pad)

    def running_rewards(self) -> Tensor:
        return gated_mean(self.gates, self.rewards, self.mask())

    def finished(self) -> Tensor:
        return torch.isin(self.completion, torch.tensor(self.eos, device=self.completion.device)).any(-1)


@torch.no_grad()
def generate_pruned(
    policy,
    head: ELHSRModel,
    input_ids: Int[Tensor, "batch seq"],
    attention_mask: Int[Tensor, "batch seq"],
    num_candidates: int,
    prune: Pruning,
    *,
    max_new_tokens: int,
    eos_token_id,
    pad_token_id: int,
    **generate_kwargs,
) -> Candidates:
    """
    Samples candidates, dropping those whose running reward falls behind; dropped rows leave the batch and the cache.

    Args:
        policy, head: The model that generates and a head trained on it.
        input_ids, attention_mask (`torch.Tensor` of shape `(batch, seq)`): Prompts, padded on the left.
        num_candidates (`int`): Candidates per prompt at the start.
        prune ([`Pruning`]): When to compare and how many to keep.
        max_new_tokens (`int`), eos_token_id (`int` or `list[int]`), pad_token_id (`int`): As for `generate`.
        **generate_kwargs: For `generate`, at every stage.

    Returns:
        [`Candidates`]

    Raises:
        ValueError: If the policy's cache cannot drop rows.
    """
    prefill = SharedPrefill(policy, input_ids, attention_mask)
    cache = prefill.expanded_cache(num_candidates, last_use=True)
    if cache is None:
        raise ValueError(
            f"`prune` was given, but a prompt of {input_ids.shape[1]} token(s) or the cache of "
            f"`{type(policy).__name__}` does not allow rows to be dropped. Leave `prune` out."
        )
    eos = torch.as_tensor(eos_token_id).flatten().tolist()
    ids = input_ids.repeat_interleave(num_candidates, dim=0)
    mask = attention_mask.repeat_interleave(num_candidates, dim=0)
    rows = _Rows(ids, max_new_tokens, eos, pad_token_id)
    steps = [step for step in prune.steps if step < max_new_tokens]
    for rung, until in enumerate([*steps, max_new_tokens]):
        with HiddenStateReward(policy, head) as meter:
            ids = policy.generate(
                input_ids=ids,
                attention_mask=mask,
                use_cache=True,  # a checkpoint saved during a training with checkpointing says False
                **{generate_cache_name(): cache},
                max_new_tokens=until - (ids.shape[1] - input_ids.shape[1]),
                eos_token_id=eos_token_id,
                pad_token_id=pad_token_id,
                **generate_kwargs,
            )
        rows.write(ids, meter)
        if until == max_new_tokens:
            break
        stay = _staying(rows, num_candidates, prune.survivors(rung, num_candidates), prune.max_gap)
        if not stay.any():
            break
        rows.alive = rows.alive[stay]
        cache.batch_select_indices(stay.nonzero().squeeze(-1))
        ids = ids[stay]
        mask = torch.cat([mask[stay], mask.new_ones(len(ids), ids.shape[1] - mask.shape[1])], dim=-1)
    return Candidates(
        sequences=torch.cat([input_ids.repeat_interleave(num_candidates, dim=0), rows.completion], dim=-1),
        rewards=rows.running_rewards(),
        num_tokens=rows.mask().sum(-1),
        pruned=rows.pruned,
    )


def _staying(rows: _Rows, num_candidates: int, survivors: int, max_gap: float | None) -> Tensor:
    """Which of the rows in the batch go on; marks the others as pruned unless they are finished."""
    rewards = rows.running_rewards().masked_fill(rows.pruned, -torch.inf).view(-1, num_candidates)
    order = rewards.argsort(dim=-1, descending=True, stable=True)
    is_leader = torch.zeros_like(order, dtype=torch.bool).scatter(-1, order[:, :survivors], True)
    if max_gap is not None:
        is_leader &= rewards >= rewards.max(-1, keepdim=True).values - max_gap
    is_leader = is_leader.flatten()
    finished = rows.finished()
    rows.pruned |= ~is_leader & ~finished
    return (is_leader & ~finished)[rows.alive]

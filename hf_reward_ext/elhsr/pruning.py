"""Best-of-N that stops weak candidates early."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hf_reward_ext.base.lm.candidates import Candidates
from hf_reward_ext.base.lm.prefill import SharedPrefill
from hf_reward_ext.base.options import check_count, check_number
from hf_reward_ext.elhsr.decoding import HiddenStateReward
from hf_reward_ext.elhsr.model import ELHSRModel, gated_mean
from hf_reward_ext.elhsr.stages import Stages


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
        for step in self.steps:
            check_count("steps", step)
        if not self.steps or list(self.steps) != sorted(set(self.steps)):
            raise ValueError(
                f"`steps` must be ascending completion lengths, got {self.steps}. Pass for example `steps=(16, 32)`."
            )
        check_number("keep", self.keep, above=0, most=1)
        if self.max_gap is not None:
            check_number("max_gap", self.max_gap, least=0)
        elif self.keep == 1:
            raise ValueError(
                "`keep` must be below 1 without `max_gap`, got 1, which drops nothing. Pass for example 0.5."
            )

    def survivors(self, rung: int, num_candidates: int) -> int:
        """How many candidates of a prompt stay after step number `rung` (from 0)."""
        return max(1, math.ceil(num_candidates * self.keep ** (rung + 1)))


class _Rows:
    """Everything known of all candidates; only the `alive` ones are still in the batch."""

    def __init__(self, prompts: Int[Tensor, "rows prompt"], width: int, pad: int):
        count, self.prompt_length = prompts.shape
        self.completion = prompts.new_full((count, width), pad)
        self.gates = torch.zeros(count, width, device=prompts.device)
        self.rewards = torch.zeros(count, width, device=prompts.device)
        self.num_tokens = prompts.new_zeros(count)
        self.finished, self.pruned = (torch.zeros_like(self.num_tokens, dtype=torch.bool) for _ in range(2))
        self.alive = torch.arange(count, device=prompts.device)

    def write(self, sequences: Int[Tensor, "alive seq"], meter: HiddenStateReward) -> None:
        """Takes over what one stage has generated."""
        gates, rewards = (values.to(self.gates) for values in meter.token_rewards)
        mask = meter.completion_mask.to(self.gates.device)
        end = sequences.shape[1] - self.prompt_length
        start = end - mask.shape[1]
        filler = self.completion[self.alive, start:end]
        self.completion[self.alive, start:end] = torch.where(mask, sequences[:, -mask.shape[1] :], filler)
        self.gates[self.alive, start:end] = gates
        self.rewards[self.alive, start:end] = rewards
        self.num_tokens[self.alive] += mask.sum(-1)
        self.finished[self.alive] = meter.is_finished.to(self.finished.device)

    def running_rewards(self) -> Float[Tensor, " rows"]:
        mask = torch.arange(self.gates.shape[1], device=self.gates.device) < self.num_tokens[:, None]
        return gated_mean(self.gates, self.rewards, mask)


@torch.no_grad()
def generate_pruned(
    policy,
    head: ELHSRModel,
    input_ids: Int[Tensor, "batch seq"],
    attention_mask: Int[Tensor, "batch seq"],
    num_candidates: int,
    prune: Pruning,
    **generate_kwargs,
) -> Candidates:
    """
    Samples candidates, dropping those whose running reward falls behind; dropped rows leave the batch and the cache.

    Args:
        policy (`PreTrainedModel` or `PeftModel`): The model that generates.
        head ([`ELHSRModel`]): A head trained on it.
        input_ids, attention_mask (`torch.Tensor` of shape `(batch, seq)`): Prompts, padded on the left.
        num_candidates (`int`): Candidates per prompt at the start.
        prune ([`Pruning`]): When to compare and how many to keep.
        **generate_kwargs: Arguments of `generate`, which merges them with the policy's own settings as ever.

    Returns:
        [`Candidates`]

    Raises:
        ValueError: If the policy's cache cannot drop rows, or a setting of `generate` would mean something else where
            candidates are written in stages.

    Example:
    ```python
    >>> generate_pruned(policy, head, **inputs, num_candidates=16, prune=Pruning((16, 32)), do_sample=True)
    ```
    """
    check_count("num_candidates", num_candidates)
    stages = Stages(policy, generate_kwargs, input_ids.shape[1])
    prefill = SharedPrefill(policy, input_ids, attention_mask)
    cache = prefill.expanded_cache(num_candidates, last_use=True)
    if cache is None:
        raise ValueError(
            f"`prune` was given, but a prompt of {input_ids.shape[1]} token(s) or the cache of "
            f"`{type(policy).__name__}` does not allow rows to be dropped. Leave `prune` out."
        )
    prompts = input_ids.repeat_interleave(num_candidates, dim=0)
    ids, mask = prompts, attention_mask.repeat_interleave(num_candidates, dim=0)
    rows = _Rows(prompts, stages.max_new_tokens, stages.pad_token_id)
    steps = [step for step in prune.steps if step < stages.max_new_tokens]
    for rung, until in enumerate([*steps, stages.max_new_tokens]):
        written = ids.shape[1] - input_ids.shape[1]
        with HiddenStateReward(policy, head) as meter:
            ids = stages.generate(ids, mask, cache, written, until)
        rows.write(ids, meter)
        if until == stages.max_new_tokens or ids.shape[1] - input_ids.shape[1] < until:
            break
        stay = _staying(rows, num_candidates, prune.survivors(rung, num_candidates), prune.max_gap)
        if not stay.any():
            break
        rows.alive = rows.alive[stay]
        cache.batch_select_indices(stay.nonzero().squeeze(-1))
        ids = ids[stay]
        mask = torch.cat([mask[stay], mask.new_ones(len(ids), ids.shape[1] - mask.shape[1])], dim=-1)
    return Candidates(
        sequences=torch.cat([prompts, rows.completion], dim=-1),
        rewards=rows.running_rewards(),
        num_tokens=rows.num_tokens,
        pruned=rows.pruned,
    )


def _staying(rows: _Rows, num_candidates: int, survivors: int, max_gap: float | None) -> Bool[Tensor, " alive"]:
    """Which of the rows in the batch stay; marks the others as pruned unless they are finished."""
    rewards = _alike(rows.running_rewards(), rows.completion, num_candidates)
    rewards = rewards.masked_fill(rows.pruned, -torch.inf).view(-1, num_candidates)
    order = rewards.argsort(dim=-1, descending=True, stable=True)
    is_leader = torch.zeros_like(order, dtype=torch.bool).scatter(-1, order[:, :survivors], True)
    if max_gap is not None:
        is_leader &= rewards >= rewards.max(-1, keepdim=True).values - max_gap
    is_leader = is_leader.flatten()
    rows.pruned |= ~is_leader & ~rows.finished
    return (is_leader & ~rows.finished)[rows.alive]


def _alike(
    rewards: Float[Tensor, " rows"], completion: Int[Tensor, "rows new"], num_candidates: int
) -> Float[Tensor, " rows"]:
    """
    Rewards that are equal where a prompt's candidates are, so that the earliest stays.

    Rows of one batch differ by rounding, which would otherwise choose among copies.
    """
    prompts = torch.arange(len(rewards), device=rewards.device) // num_candidates
    _, group = torch.cat([prompts[:, None], completion], dim=-1).unique(dim=0, return_inverse=True)
    first = torch.full_like(group, len(group)).scatter_reduce(0, group, torch.arange(len(group)).to(group), "amin")
    return rewards[first[group]]

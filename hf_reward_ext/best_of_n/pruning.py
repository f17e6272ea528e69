"""Best-of-N that stops weak candidates early."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hf_reward_ext.base.lm.candidates import Candidates
from hf_reward_ext.base.lm.prefill import SharedPrefill
from hf_reward_ext.base.lm.reward_reader import RewardReader
from hf_reward_ext.base.options import check_count, check_number
from hf_reward_ext.best_of_n.stages import Stages


@dataclass(frozen=True)
class Pruning:
    """
    Successive halving by the reward of what is written so far.

    After `steps[i]` tokens the best `ceil(num_candidates * keep ** (i + 1))` candidates of each prompt stay, and of
    those the ones that are not hopelessly behind the best. Finished candidates are never dropped, since nothing is
    saved by it. A head that is trained on prefixes too judges them better.

    Args:
        steps (`tuple[int, ...]`): Completion lengths, ascending, at which candidates are compared.
        keep (`float`, *optional*, defaults to 0.5): Share that stays at each step, in (0, 1]; 1 leaves it to `max_gap`
            and `min_reward`.
        max_gap (`float`, *optional*): Candidates whose reward is lower than the best of their prompt by more than this
            are dropped. For a head trained with `"bce"` it is a difference of log-odds of being correct.
        min_reward (`float`, *optional*): Candidates whose reward is lower are dropped, but the best of their prompt.
            [`warm_up_threshold`] takes it from finished candidates.

    Example:
    ```python
    >>> pipe(prompt, num_candidates=16, prune=Pruning(steps=(16, 32, 64)))  # 16 -> 8 -> 4 -> 2
    ```
    """

    steps: tuple[int, ...]
    keep: float = 0.5
    max_gap: float | None = None
    min_reward: float | None = None

    def __post_init__(self):
        object.__setattr__(self, "steps", check_steps(self.steps))
        check_number("keep", self.keep, above=0, most=1)
        if self.max_gap is not None:
            check_number("max_gap", self.max_gap, least=0)
        if self.min_reward is not None:
            check_number("min_reward", self.min_reward)
        if self.keep == 1 and self.max_gap is None and self.min_reward is None:
            raise ValueError(
                "`keep` must be below 1 without `max_gap` and `min_reward`, got 1, which drops nothing. Pass for "
                "example 0.5."
            )

    def survivors(self, rung: int, num_candidates: int) -> int:
        """How many candidates of a prompt stay after step number `rung` (from 0)."""
        return max(1, math.ceil(num_candidates * self.keep ** (rung + 1)))

    def leaders(self, rung: int, rewards: Float[Tensor, "prompts candidates"]) -> Bool[Tensor, "prompts candidates"]:
        """Which candidates stay after step number `rung` (from 0); rewards are -inf for those dropped before."""
        order = rewards.argsort(dim=-1, descending=True, stable=True)
        survivors = self.survivors(rung, rewards.shape[-1])
        stay = torch.zeros_like(order, dtype=torch.bool).scatter(-1, order[:, :survivors], True)
        best = rewards.max(-1, keepdim=True).values
        if self.max_gap is not None:
            stay &= rewards >= best - self.max_gap
        if self.min_reward is not None:
            stay &= (rewards >= self.min_reward) | (rewards == best)
        return stay


def check_steps(steps: Sequence[int]) -> tuple[int, ...]:
    """
    Completion lengths in ascending order.

    Raises:
        TypeError: If one is not an integer.
        ValueError: If there is none, one is below 1, or they do not ascend.
    """
    steps = tuple(steps)
    for step in steps:
        check_count("steps", step)
    if not steps or list(steps) != sorted(set(steps)):
        raise ValueError(
            f"`steps` must be ascending completion lengths, got {steps}. Pass for example `steps=(16, 32)`."
        )
    return steps


def warm_up_threshold(rewards: Sequence[float], keep: float) -> float:
    """
    The reward that a share of finished candidates reaches, for `Pruning(min_reward=...)`.

    [DeepConf](https://huggingface.co/papers/2508.15260), section 3.3: the percentile $100 - \\eta$ of the lowest group
    confidences of a few candidates written in full (there 16; 10 or 90 % are kept).

    Args:
        rewards (`list[float]`): Rewards of warm-up candidates.
        keep (`float`): Share $\\eta / 100$ of them that is not below the threshold, in (0, 1].

    Raises:
        TypeError: If `keep` or a reward is not a number.
        ValueError: If `keep` is out of its range, or a reward is missing or not finite.

    Example:
    ```python
    >>> warm_up = pipe(prompt, num_candidates=16, return_all=True)
    >>> threshold = warm_up_threshold([record["score"] for record in warm_up], keep=0.9)
    >>> pipe(prompt, num_candidates=48, prune=Pruning((64, 128, 256), keep=1, min_reward=threshold))
    ```
    """
    check_number("keep", keep, above=0, most=1)
    if not len(rewards):
        raise ValueError("`rewards` must hold those of the warm-up candidates, got none. Sample some first.")
    for index, reward in enumerate(rewards):
        check_number(f"rewards[{index}]", reward)
    return float(sorted(rewards, reverse=True)[math.ceil(keep * len(rewards) - 1e-9) - 1])


class _Rows:
    """Everything that is recorded of all candidates; only the `alive` ones are still in the batch."""

    def __init__(self, prompts: Int[Tensor, "rows prompt"], width: int, pad: int):
        count, self.prompt_length = prompts.shape
        self.completion = prompts.new_full((count, width), pad)
        self.rewards = torch.zeros(count, device=prompts.device)
        self.num_tokens = prompts.new_zeros(count)
        self.finished, self.pruned = (torch.zeros_like(self.num_tokens, dtype=torch.bool) for _ in range(2))
        self.alive = torch.arange(count, device=prompts.device)

    def write(self, sequences: Int[Tensor, "alive seq"], reader: RewardReader) -> None:
        """Takes over what one stage has generated."""
        mask = reader.completion_mask.to(self.rewards.device)
        end = sequences.shape[1] - self.prompt_length
        start = end - mask.shape[1]
        filler = self.completion[self.alive, start:end]
        self.completion[self.alive, start:end] = torch.where(mask, sequences[:, -mask.shape[1] :], filler)
        rewards = reader.rewards.to(self.rewards.device)
        self.rewards = self.rewards.to(torch.promote_types(rewards.dtype, self.rewards.dtype))
        self.rewards[self.alive] = rewards.to(self.rewards.dtype)
        self.num_tokens[self.alive] += mask.sum(-1)
        self.finished[self.alive] = reader.is_finished.to(self.finished.device)

    def drop(self, stay: Bool[Tensor, " rows"]) -> Bool[Tensor, " alive"]:
        """Marks candidates that do not stay as pruned unless they are finished; which of the batch go on."""
        self.pruned |= ~stay & ~self.finished
        going_on = (stay & ~self.finished)[self.alive]
        self.alive = self.alive[going_on]
        return going_on

    def rewards_by_prompt(self, num_candidates: int) -> Float[Tensor, "prompts candidates"]:
        """Rewards of candidates, equal where what they have written is, and -inf where they were dropped."""
        rewards = _alike(self.rewards, self.completion, num_candidates)
        return rewards.masked_fill(self.pruned, -torch.inf).view(-1, num_candidates)


@torch.no_grad()
def generate_pruned(
    policy,
    reader: RewardReader,
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
        reader ([`HiddenStateReward`] or [`LogitsReward`]): Reads the rewards of what this policy writes.
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
    >>> reader = HiddenStateReward(policy, head)
    >>> generate_pruned(policy, reader, **inputs, num_candidates=16, prune=Pruning((16, 32)), do_sample=True)
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
    with reader:
        for rung, until in enumerate([*steps, stages.max_new_tokens]):
            ids = stages.generate(ids, mask, cache, ids.shape[1] - input_ids.shape[1], until)
            rows.write(ids, reader)
            if until == stages.max_new_tokens or ids.shape[1] - input_ids.shape[1] < until:
                break
            going_on = rows.drop(prune.leaders(rung, rows.rewards_by_prompt(num_candidates)).flatten())
            if not going_on.any():
                break
            kept = going_on.nonzero().squeeze(-1)
            reader.carry(kept)
            cache.batch_select_indices(kept)
            ids = ids[kept]
            mask = torch.cat([mask[kept], mask.new_ones(len(ids), ids.shape[1] - mask.shape[1])], dim=-1)
    return Candidates(
        sequences=torch.cat([prompts, rows.completion], dim=-1),
        rewards=rows.rewards,
        num_tokens=rows.num_tokens,
        pruned=rows.pruned,
    )


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

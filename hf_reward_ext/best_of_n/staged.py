"""Generation of candidates in stages, between which weak ones are dropped or replaced."""

from contextlib import nullcontext

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hf_reward_ext.base.lm.candidates import Candidates
from hf_reward_ext.base.lm.draws import Draws, drawing
from hf_reward_ext.base.lm.prefill import SharedPrefill
from hf_reward_ext.base.lm.reward_reader import RewardReader
from hf_reward_ext.base.options import check_count
from hf_reward_ext.best_of_n.pruning import Pruning
from hf_reward_ext.best_of_n.resampling import Resampling
from hf_reward_ext.best_of_n.stages import Stages


class _Rows:
    """State of all candidates; only the `alive` ones are still in the batch."""

    def __init__(self, prompts: Int[Tensor, "rows prompt"], width: int, pad: int):
        count, self.prompt_length = prompts.shape
        self.completion = prompts.new_full((count, width), pad)
        self.rewards = torch.zeros(count, device=prompts.device)
        self.earlier = torch.zeros(count, device=prompts.device)  # rewards at the previous step
        self.num_tokens = prompts.new_zeros(count)
        self.finished, self.pruned = (torch.zeros_like(self.num_tokens, dtype=torch.bool) for _ in range(2))
        self.alive = torch.arange(count, device=prompts.device)

    def write(self, sequences: Int[Tensor, "alive seq"], reader: RewardReader) -> None:
        """Store the tokens and rewards of one stage."""
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

    def drop(self, stay: Bool[Tensor, " rows"]) -> Int[Tensor, " kept"]:
        """Mark dropped candidates as pruned unless they are finished, and return the rows that continue."""
        self.pruned |= ~stay & ~self.finished
        going_on = (stay & ~self.finished)[self.alive]
        self.alive = self.alive[going_on]
        return going_on.nonzero().squeeze(-1)

    def replace(self, ancestors: Int[Tensor, " rows"]) -> Int[Tensor, " kept"]:
        """Make every candidate continue its ancestor, and return the rows that continue, in their new order."""
        positions = self.alive.new_full((len(ancestors),), -1)
        positions[self.alive] = torch.arange(len(self.alive), device=positions.device)
        for name in ("completion", "rewards", "num_tokens", "finished"):
            setattr(self, name, getattr(self, name)[ancestors])
        self.earlier = self.rewards.clone()
        self.alive = (~self.finished).nonzero().squeeze(-1)
        return positions[ancestors[self.alive]]

    def rewards_by_prompt(self, num_candidates: int) -> Float[Tensor, "prompts candidates"]:
        """Return rewards of candidates, equal for equal texts, and -inf for dropped ones."""
        rewards = _alike(self.rewards, self.completion, num_candidates)
        return rewards.masked_fill(self.pruned, -torch.inf).view(-1, num_candidates)


@torch.no_grad()
def generate_staged(
    policy,
    reader: RewardReader,
    input_ids: Int[Tensor, "batch seq"],
    attention_mask: Int[Tensor, "batch seq"],
    num_candidates: int,
    prune: Pruning | Resampling,
    draws: Draws | None = None,
    **generate_kwargs,
) -> Candidates:
    """
    Sample candidates in stages, between which weak ones are dropped or replaced in the batch and its cache.

    Args:
        policy (`PreTrainedModel` or `PeftModel`): Model that generates.
        reader ([`HiddenStateReward`] or [`LogitsReward`]): Reader of running rewards of this
            policy.
        input_ids, attention_mask (`torch.Tensor` of shape `(batch, seq)`): Prompts, padded on the left.
        num_candidates (`int`): Initial number of candidates per prompt.
        prune ([`Pruning`] or [`Resampling`]): Rule that drops or replaces candidates.
        draws ([`Draws`], *optional*): Random numbers of the candidates, which are dropped with them: the others are
            the same as without pruning.
        **generate_kwargs: Arguments of `generate`.

    Returns:
        [`Candidates`]

    Raises:
        ValueError: If the policy's cache cannot drop rows, or a setting of `generate` has another meaning if
            candidates are generated in stages.

    Example:
    ```python
    >>> reader = HiddenStateReward(policy, head)
    >>> generate_staged(policy, reader, **inputs, num_candidates=16, prune=Pruning((16, 32)), do_sample=True)
    ```
    """
    check_count("num_candidates", num_candidates)
    if draws and isinstance(prune, Resampling):
        raise ValueError(
            "`draws` must be left out with `Resampling`, which copies candidates: copies would share random numbers. "
            "Seed torch."
        )
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
    with reader, drawing(policy, draws) if draws else nullcontext():
        for rung, until in enumerate([*steps, stages.max_new_tokens]):
            ids = stages.generate(ids, mask, cache, ids.shape[1] - input_ids.shape[1], until)
            rows.write(ids, reader)
            if until == stages.max_new_tokens or ids.shape[1] - input_ids.shape[1] < until:
                break
            kept = _next_rows(rows, prune, rung, num_candidates)
            if not len(kept):
                break
            reader.carry(kept)
            if draws:
                draws.keep(kept.tolist())
            cache.batch_select_indices(kept)
            ids = ids[kept]
            mask = torch.cat([mask[kept], mask.new_ones(len(ids), ids.shape[1] - mask.shape[1])], dim=-1)
    return Candidates(
        sequences=torch.cat([prompts, rows.completion], dim=-1),
        rewards=rows.rewards,
        num_tokens=rows.num_tokens,
        pruned=rows.pruned,
    )


def _next_rows(rows: _Rows, prune: Pruning | Resampling, rung: int, num_candidates: int) -> Int[Tensor, " kept"]:
    """Return the rows that continue after a stage, in their new order."""
    if isinstance(prune, Pruning):
        return rows.drop(prune.leaders(rung, rows.rewards_by_prompt(num_candidates)).flatten())
    gains = (rows.rewards - rows.earlier).view(-1, num_candidates)
    chosen = prune.ancestors(gains, torch.rand(len(gains), dtype=torch.float64).to(gains.device))
    first = torch.arange(len(gains), device=gains.device)[:, None] * num_candidates
    return rows.replace((chosen + first).flatten())


def _alike(
    rewards: Float[Tensor, " rows"], completion: Int[Tensor, "rows new"], num_candidates: int
) -> Float[Tensor, " rows"]:
    """
    Return rewards that are equal for equal candidates of a prompt, so that the earliest is kept.

    Rows of one batch differ by rounding, which would otherwise decide between copies.
    """
    prompts = torch.arange(len(rewards), device=rewards.device) // num_candidates
    _, group = torch.cat([prompts[:, None], completion], dim=-1).unique(dim=0, return_inverse=True)
    first = torch.full_like(group, len(group)).scatter_reduce(0, group, torch.arange(len(group)).to(group), "amin")
    return rewards[first[group]]

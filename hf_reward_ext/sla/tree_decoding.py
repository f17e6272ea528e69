"""Decoder that runs the searches of many prompts in one batch, with a row for each live leaf."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import Cache, LogitsProcessorList, StoppingCriteriaList

from hf_reward_ext.base.lm.cache import can_select_rows, new_cache
from hf_reward_ext.base.lm.forward import positions_of, run_forward
from hf_reward_ext.sla.branching import Branching
from hf_reward_ext.sla.search import LookAheadSearch, SearchSettings
from hf_reward_ext.sla.step_reward import ReadStep, StepReward


class TreeDecoder:
    """
    Decoder that advances the look-ahead searches of a batch of prompts by one token per forward.

    A fork repeats rows of the cache, and a decision selects rows. All rows have one length, so that each forward reads
    one token of every live leaf of every prompt.

    Args:
        model: A causal LM.
        reward (`callable`): Reward function, see [`ReadStep`].
        settings (`list[SearchSettings]`): Settings of each prompt.
        input_ids (`torch.Tensor` of shape `(batch, seq)`): Prompts, padded on the left.
        attention_mask (`torch.Tensor` of shape `(batch, seq)`, *optional*): 0 on padding. Default: no padding.
        position_ids (`torch.Tensor` of shape `(batch, seq)`, *optional*): Position of each token. Default:
            counted along the mask.
        cache (`Cache`, *optional*): Cache, which may have the beginning of the prompts. Default: an empty one.
        logits_processor, stopping_criteria (*optional*): Processors and criteria prepared by `generate`,
            applied to leaves as rows.
        branching ([`Branching`], *optional*): Choice of next tokens.
        keep_trees (`bool`, defaults to `False`): Whether to keep dropped branches.

    Attributes:
        searches (`list[LookAheadSearch]`): Search of each prompt.
        num_forwards, num_row_tokens, max_rows (`int`): Number of forwards, number of rows summed over the forwards
            after the prefill, and maximum number of rows in a forward.

    Raises:
        ValueError: If the cache cannot repeat and select rows.
    """

    def __init__(
        self,
        model,
        reward: StepReward,
        settings: Sequence[SearchSettings],
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Int[Tensor, "batch seq"] | None = None,
        *,
        position_ids: Int[Tensor, "batch seq"] | None = None,
        cache: Cache | None = None,
        logits_processor: LogitsProcessorList | None = None,
        stopping_criteria: StoppingCriteriaList | None = None,
        branching: Branching | None = None,
        keep_trees: bool = False,
    ):
        self.model = model
        self.reward = reward
        self.searches = [LookAheadSearch(own, keep_trees) for own in settings]
        self.cache = _checked_cache(cache, model)
        self.logits_processor = logits_processor if logits_processor is not None else LogitsProcessorList()
        self.stopping_criteria = stopping_criteria if stopping_criteria is not None else StoppingCriteriaList()
        self.branching = branching or Branching()
        self.num_forwards = self.num_row_tokens = self.max_rows = 0
        self._ids = input_ids
        self._is_padded = attention_mask is not None and not bool(attention_mask.all())
        self._mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        self._positions = positions_of(self._mask) if position_ids is None else position_ids
        self._fixed_kwargs = _fixed_kwargs(reward)

    @property
    def is_finished(self) -> bool:
        """Whether all answers are complete."""
        return all(search.is_finished for search in self.searches)

    @torch.no_grad()
    def advance(self) -> None:
        """Run one forward: read every live leaf, and extend it by its next tokens."""
        rows = len(self._ids)
        output = self._forward()
        rewards, weights = self._rewards(output)
        logits = output.logits[:, -1].to(copy=True, dtype=torch.float32, device=self._ids.device)
        scores = self.logits_processor(self._ids, logits)  # pyright: ignore[reportArgumentType]
        counts = [search.num_proposals for search in self.searches for _ in search.live]
        parents, tokens = self.branching(scores, counts)
        is_fork = len(parents) > rows
        longer = torch.cat([self._ids[parents] if is_fork else self._ids, tokens[:, None]], dim=-1)
        ends = self._ends(longer, scores[parents] if is_fork else scores)
        proposals = _by_row(rows, parents.tolist(), tokens.tolist(), ends)
        self._keep(longer, parents.tolist(), self._survivors(rewards, weights, proposals))

    def _forward(self):
        unread = self._ids.shape[1] - int(self.cache.get_seq_length())
        if self.num_forwards:
            self.num_row_tokens += len(self._ids)
        self.num_forwards += 1
        self.max_rows = max(self.max_rows, len(self._ids))
        return run_forward(
            self.model,
            self._ids[:, -unread:],
            self._mask if self._is_padded else None,
            cache=self.cache,
            position_ids=self._positions[:, -unread:],
            logits_to_keep=1,
            **self._fixed_kwargs,
        )

    def _rewards(self, output) -> tuple[list[float], list[float] | None]:
        result = self.reward(ReadStep(self._ids, self._mask, output))
        rewards, weights = result if isinstance(result, tuple) else (result, None)
        rewards = torch.as_tensor(rewards)
        is_right_shape = rewards.shape == (len(self._ids),)
        values = rewards.tolist()
        if not is_right_shape or any(map(math.isnan, values)):
            what = "NaN" if is_right_shape else f"shape {tuple(rewards.shape)}"
            raise ValueError(
                f"The reward of a step has {what}, but the search compares one number for each of its "
                f"{len(self._ids)} rows. Run the model in bfloat16 or float32 instead of float16, or correct `reward`."
            )
        return values, None if weights is None else torch.as_tensor(weights).tolist()

    def _ends(self, ids: Tensor, scores: Tensor) -> list[bool]:
        return self.stopping_criteria(ids, scores).tolist() if self.stopping_criteria else [False] * len(ids)  # pyright: ignore

    def _survivors(self, rewards: list[float], weights: list[float] | None, proposals: list[list]) -> list[int]:
        """Advance every search, and return the indices of the proposals that are kept, counted over all rows."""
        offsets = [0]
        for own in proposals:
            offsets.append(offsets[-1] + len(own))
        survivors, first = [], 0
        for search in self.searches:
            rows = slice(first, first + len(search.live))
            if search.live:
                origins = search.advance(
                    rewards[rows],
                    [[proposal[1:] for proposal in own] for own in proposals[rows]],
                    None if weights is None else weights[rows],
                )
                survivors += [offsets[first + row] + choice for row, choice in origins]
            first = rows.stop
        return survivors

    def _keep(self, longer: Tensor, parents: list[int], survivors: list[int]) -> None:
        rows = [parents[index] for index in survivors]
        if rows != list(range(len(self._ids))):
            selected = torch.tensor(rows, dtype=torch.long)
            if rows:
                self.cache.batch_select_indices(selected)
            self._mask, self._positions = self._mask[selected], self._positions[selected]
        self._ids = longer if len(survivors) == len(longer) else longer[torch.tensor(survivors, dtype=torch.long)]
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(rows), 1)], dim=-1)
        self._positions = torch.cat([self._positions, self._positions[:, -1:] + 1], dim=-1)


def _by_row(rows: int, parents: list[int], tokens: list[int], ends: list[bool]) -> list[list[tuple[int, int, bool]]]:
    proposals: list[list[tuple[int, int, bool]]] = [[] for _ in range(rows)]
    for proposal in zip(parents, tokens, ends, strict=True):
        proposals[proposal[0]].append(proposal)
    return proposals


def _fixed_kwargs(reward) -> dict[str, Any]:
    kwargs: dict[str, Any] = {"return_dict": True}
    layers = getattr(reward, "layers", None)
    if layers is not None:
        kwargs["output_hidden_states"] = list(layers)
    return kwargs


def _checked_cache(given: Cache | None, model) -> Cache:
    """Return the given cache or a new one, after checking that rows can be repeated and selected."""
    cache = new_cache(model)
    if cache is not None and given is not None:
        cache = given
    if cache is not None and can_select_rows(cache):
        return cache
    kinds = ["no `DynamicCache`"] if cache is None else sorted({type(layer).__name__ for layer in cache.layers})
    raise ValueError(
        f"The cache of `{type(model).__name__}` has {', '.join(kinds or [type(cache).__name__])}, but the search "
        "repeats and drops rows, which only dynamic attention caches can. Leave `cache_implementation` and the cache "
        "out, and use a model with attention layers only."
    )

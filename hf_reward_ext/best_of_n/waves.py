"""Sampling of candidates in waves, until a stopping rule applies."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hf_reward_ext.base.lm.candidates import Candidates
from hf_reward_ext.base.lm.draws import candidate_draws
from hf_reward_ext.base.scoring.votes import check_answer
from hf_reward_ext.best_of_n.fitting import FittingBatches
from hf_reward_ext.best_of_n.options import BestOfNOptions
from hf_reward_ext.best_of_n.sampling import CandidateSampler
from hf_reward_ext.best_of_n.scoring import CandidateScores
from hf_reward_ext.best_of_n.stopping import Drawn, StopRule, reason_to_stop


@dataclass
class DrawnCandidates:
    """
    Candidates of prompts, with a different number for each prompt.

    Attributes:
        sequences (`torch.Tensor` of shape `(prompts, most, seq)`): Prompt and completion, padded on the right.
        num_tokens, pruned, scores (`torch.Tensor` of shape `(prompts, most)`): Values of each candidate; scores are
            NaN if missing.
        num_drawn (`torch.Tensor` of shape `(prompts,)`): Number of candidates of each prompt.
        stop_reasons (`list[str]`): Reason for stopping of each prompt.
    """

    sequences: Int[Tensor, "prompts most seq"]
    num_tokens: Int[Tensor, "prompts most"]
    pruned: Bool[Tensor, "prompts most"]
    scores: Float[Tensor, "prompts most"]
    num_drawn: Int[Tensor, " prompts"]
    stop_reasons: list[str]


class DrawnPrompt(Protocol):
    """Prompt whose candidates are drawn in waves."""

    stop_reason: str

    def drawn(self, options: BestOfNOptions) -> Drawn:
        """Return the candidates so far, for a stopping rule."""
        ...


@dataclass
class _Prompt:
    """State of one prompt with its candidates so far."""

    ids: list[int]  # ids of the prompt, without padding
    scoring: CandidateScores
    sequences: list[Tensor] = field(default_factory=list)
    num_tokens: list[int] = field(default_factory=list)
    pruned: list[bool] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    stop_reason: str = "num_candidates"

    def drawn(self, options: BestOfNOptions) -> Drawn:
        answers = None
        if options.vote is not None and options.extract_answer is not None:
            answers = [
                None if pruned else check_answer(options.extract_answer(text))
                for text, pruned in zip(self.texts, self.pruned, strict=True)
            ]
        scores = [
            None if pruned else score for score, pruned in zip(self.scoring.scores(options), self.pruned, strict=True)
        ]
        return Drawn(scores, self.num_tokens, self.texts, answers)


def sample_in_waves(
    sampler: CandidateSampler,
    options: BestOfNOptions,
    rule: StopRule,
    seed: int,
    scorings: Sequence[CandidateScores],
    decode: Callable[[list[list[int]]], list[str]],
    pad_token_id: int,
    fitting: FittingBatches | None = None,
) -> DrawnCandidates:
    """
    Sample candidates until a rule stops, or the maximum is reached, for each prompt separately.

    Without pruning a candidate depends on seed, prompt and its number only, and not on waves and batches, up to
    rounding.

    Args:
        sampler ([`CandidateSampler`]): Sampler of the prompts.
        options ([`BestOfNOptions`]): Options of the pipeline; `num_candidates` is the minimum and the maximum.
        rule (`callable`): Stopping rule, called with [`Drawn`] after each wave.
        seed (`int`): Random seed.
        scorings (`list` of [`CandidateScores`]): Scores of each prompt.
        decode (`callable`): Function from ids of completions to texts.
        pad_token_id (`int`): Id that fills shorter candidates.
        fitting ([`FittingBatches`], *optional*): Batches that fit in memory, into which waves are split.
    """
    width = sampler.input_ids.shape[1]
    prompts = [_Prompt(ids, scoring) for ids, scoring in zip(sampler.prompt_ids(), scorings, strict=True)]

    def draw(waiting: Sequence[_Prompt], numbers: range) -> None:
        def sample(part: range) -> Candidates:
            draws = None if options.prune else candidate_draws(seed, [one.ids for one in waiting], part)
            is_last = fitting is None and part.stop == options.most_candidates
            return sampler.sample(len(part), draws, last_use=is_last)

        for wave in [sample(numbers)] if fitting is None else fitting.sample(numbers, len(waiting), sample):
            _add(waiting, wave, width, decode)

    draw_in_waves(prompts, options, rule, draw, sampler.select)
    return _collect(prompts, options, pad_token_id)


def draw_in_waves(
    prompts: Sequence[DrawnPrompt],
    options: BestOfNOptions,
    rule: StopRule | None,
    draw: Callable[[Sequence[Any], range], None],
    select: Callable[[list[int]], None] | None = None,
) -> None:
    """
    Draw candidates wave by wave; a prompt waits for the next wave until the rule stops it.

    Args:
        prompts (`list` of [`DrawnPrompt`]): Prompts with their candidates; `stop_reason` is set.
        options ([`BestOfNOptions`]): Options of the call.
        rule (`callable`, *optional*): Stopping rule, required if minimum and maximum differ.
        draw (`callable`): Function of the waiting prompts and of the numbers of their candidates, which adds them.
        select (`callable`, *optional*): Function of the indices of the prompts that wait on, if some are done.
    """
    least, most = options.least_candidates, options.most_candidates
    size = least if options.candidates_per_batch in (None, "auto") else int(options.candidates_per_batch)
    waiting, number = list(prompts), 0
    while waiting and number < most:
        count = min(size, (least if number < least else most) - number)
        draw(waiting, range(number, number + count))
        number += count
        if rule is None or number < least or number == most:
            continue
        reasons = [reason_to_stop(rule, one.drawn(options)) for one in waiting]
        going_on = [index for index, reason in enumerate(reasons) if reason is None]
        for one, reason in zip(waiting, reasons, strict=True):
            one.stop_reason = reason or one.stop_reason
        if select is not None and going_on and len(going_on) < len(waiting):
            select(going_on)
        waiting = [waiting[index] for index in going_on]


def _add(prompts: Sequence[_Prompt], wave: Candidates, width: int, decode: Callable) -> None:
    """Add the candidates of a wave to each prompt."""
    count = len(wave.sequences) // len(prompts)
    for index, one in enumerate(prompts):
        rows = slice(index * count, (index + 1) * count)
        num_tokens = wave.num_tokens[rows].tolist()
        sequences = [ids[: width + length] for ids, length in zip(wave.sequences[rows], num_tokens, strict=True)]
        completion_ids = [ids[width:].tolist() for ids in sequences]
        texts = decode(completion_ids)
        one.scoring.add(texts, completion_ids, None if wave.rewards is None else wave.rewards[rows])
        one.sequences += sequences
        one.num_tokens += num_tokens
        one.pruned += wave.pruned[rows].tolist()
        one.texts += texts


def _collect(prompts: list[_Prompt], options: BestOfNOptions, pad_token_id: int) -> DrawnCandidates:
    counts = [len(one.sequences) for one in prompts]
    most = max(counts)
    width = max(len(ids) for one in prompts for ids in one.sequences)
    first = prompts[0].sequences[0]
    sequences = first.new_full((len(prompts), most, width), pad_token_id)
    num_tokens = torch.zeros(len(prompts), most, dtype=torch.long)
    pruned = torch.zeros(len(prompts), most, dtype=torch.bool)
    scores = torch.full((len(prompts), most), math.nan, dtype=torch.float64)
    for index, (one, count) in enumerate(zip(prompts, counts, strict=True)):
        for row, ids in enumerate(one.sequences):
            sequences[index, row, : len(ids)] = ids
        num_tokens[index, :count] = torch.tensor(one.num_tokens)
        pruned[index, :count] = torch.tensor(one.pruned)
        values = [math.nan if score is None else score for score in one.scoring.final_scores(options)]
        scores[index, :count] = torch.tensor(values, dtype=torch.float64)
    reasons = [one.stop_reason for one in prompts]
    return DrawnCandidates(sequences, num_tokens, pruned, scores, torch.tensor(counts), reasons)

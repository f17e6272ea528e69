"""Slow path: escalated rows continue from the cache of the fast path."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_reward_ext.base.lm.cache import can_select_rows
from hf_reward_ext.base.lm.context import longest_input
from hf_reward_ext.base.lm.forward import unwrap_peft
from hf_reward_ext.fast_slow.decode.prefill import JudgePrefill, forward, paddable_groups, read_prompts
from hf_reward_ext.fast_slow.judge.prompt import JudgePrompt


@dataclass
class WrittenJudgment:
    """
    One written judgment.

    Args:
        ids (`list[int]`): Token ids after the prompt: first verdict, prefix, analysis, marker and final verdict.
        verdict (`int`, *optional*): Index of the final verdict; `None` if the text has none.
        verdict_logits (`torch.Tensor` of shape `(verdicts,)`, *optional*): Logits of the verdicts at the position of
            the final verdict.
        is_cut (`bool`): Whether it reached `max_new_tokens`, or the end of the context, before it was complete.
    """

    ids: list[int]
    verdict: int | None = None
    verdict_logits: Tensor | None = None
    is_cut: bool = False
    expects_verdict: bool = field(default=False, repr=False)


class MarkerMatcher:
    """Matcher that detects the final marker at the end of token ids, under any tokenization."""

    def __init__(self, tokenizer, marker: str):
        self.tokenizer = tokenizer
        self.marker = marker.rstrip()
        self._window = len(tokenizer(marker, add_special_tokens=False)["input_ids"]) + 4
        self._may_end: dict[int, bool] = {}

    def __call__(self, ids: list[int]) -> bool:
        last = ids[-1]
        if last not in self._may_end:
            self._may_end[last] = self.tokenizer.decode([last]).rstrip().endswith(self.marker[-1])
        return self._may_end[last] and self.tokenizer.decode(ids[-self._window :]).rstrip().endswith(self.marker)


@torch.no_grad()
def write_judgments(
    model,
    prefill: JudgePrefill,
    rows: Int[Tensor, " escalated"],
    first_verdicts: Int[Tensor, " escalated"],
    judge_prompt: JudgePrompt,
    *,
    num_votes: int = 1,
    temperature: float = 0.0,
    max_new_tokens: int = 256,
    eos_ids: Sequence[int] = (),
) -> list[list[WrittenJudgment]]:
    """
    Continue chosen rows of a prefill: first verdict, analysis, final verdict.

    The prefill's cache is consumed: other rows are removed from it, and finished rows leave the batch. Models whose
    cache cannot select rows (linear attention) read the chosen prompts again. Models without a cache read all tokens
    again for every new token.

    Args:
        model: Causal LM of the judge.
        prefill ([`JudgePrefill`]): Prefill of the fast path.
        rows (`torch.Tensor` of shape `(escalated,)`): Indices of the escalated rows.
        first_verdicts (`torch.Tensor` of shape `(escalated,)`): Index of the first verdict of each row.
        judge_prompt ([`JudgePrompt`]): Prefix, marker and verdict tokens.
        num_votes (`int`, *optional*): Number of judgments per row.
        temperature (`float`, *optional*): Sampling temperature; 0 for greedy decoding.
        max_new_tokens (`int`, *optional*): Maximum number of tokens per row, first verdict included. A row also ends
            at the end of the model's context.
        eos_ids (`list[int]`, *optional*): Ids of tokens that end a text.

    Returns:
        One list of `num_votes` [`WrittenJudgment`] per chosen row.

    Raises:
        ValueError: If there are several votes with greedy decoding.
    """
    if len(rows) == 0:
        return []
    check_writing(judge_prompt, num_votes, temperature, max_new_tokens)
    rows = rows.to(model.device).repeat_interleave(num_votes)
    first = judge_prompt.first_ids.to(model.device)[first_verdicts.to(model.device)].repeat_interleave(num_votes)
    prefix = torch.tensor(judge_prompt.prefix_ids, dtype=torch.long, device=model.device)
    opening = torch.cat([first[:, None], prefix.expand(len(rows), -1)], -1)
    writings = [WrittenJudgment(ids) for ids in opening.tolist()]
    context = longest_input(unwrap_peft(model)) or sys.maxsize
    prompts = [prefill.prompts[row] for row in rows.tolist()]
    limits = [min(max_new_tokens, context - len(prompt)) for prompt in prompts]
    if prefill.cache is not None and can_select_rows(prefill.cache):
        prefill.cache.batch_select_indices(rows)
        batch = CachedBatch(model, prefill.cache, prefill.attention_mask[rows], prefill.lengths[rows])
        writer = _Writer(batch, writings, limits, judge_prompt, temperature)
        writer.write(batch.read(opening), set(eos_ids))
    else:
        # Read again with the opening, because recurrent states can only be extended by one token at a time.
        opened = [prompt + writing.ids for prompt, writing in zip(prompts, writings, strict=True)]
        for group in paddable_groups(model, opened):
            again = read_prompts(model, [opened[row] for row in group], prefill.pad_token_id)
            if again.cache is None:
                batch = UncachedBatch(model, again.prompts, prefill.pad_token_id)
            else:
                batch = CachedBatch(model, again.cache, again.attention_mask, again.lengths)
            some = [writings[row] for row in group]
            writer = _Writer(batch, some, [limits[row] for row in group], judge_prompt, temperature)
            writer.write(again.logits, set(eos_ids))
    return [writings[start : start + num_votes] for start in range(0, len(writings), num_votes)]


def check_writing(judge_prompt: JudgePrompt, num_votes: int, temperature: float, max_new_tokens: int) -> None:
    """Raise `ValueError` for votes that would be identical, or for judgments without room for an analysis."""
    if num_votes > 1 and temperature <= 0:
        raise ValueError(
            f"`temperature` must be above 0 with `num_votes={num_votes}`, got {temperature}: greedy judgments of a row "
            "are all the same. Pass a `temperature` above 0, or `num_votes=1`."
        )
    opening = judge_prompt.opening_length
    if max_new_tokens <= opening:
        raise ValueError(
            f"`max_new_tokens` must be above {opening}, the tokens of the first verdict and of the `analysis_prefix`, "
            f"got {max_new_tokens}. Pass for example 256."
        )


class CachedBatch:
    """
    Batch of rows that a model with a cache extends token by token.

    Args:
        model: A causal LM.
        cache (`Cache`): Cache of the tokens of each row.
        attention_mask (`torch.Tensor` of shape `(rows, seq)`): Which of the cache's positions count.
        positions (`torch.Tensor` of shape `(rows,)`): Position of the next token of each row.
    """

    # Finished rows are removed once they are a quarter of the batch, because each removal copies the cache.
    leave_at = 0.25

    def __init__(self, model, cache, attention_mask: Int[Tensor, "rows seq"], positions: Int[Tensor, " rows"]):
        self.model = model
        self.device = model.device
        self.cache = cache
        self.attention_mask = attention_mask
        self.positions = positions
        self.can_select = can_select_rows(cache)
        # Models with recurrent states only mask the tokens of this call, not those in their states.
        self._masks_new_tokens = all(cache.is_linear)
        self._last_position = (longest_input(unwrap_peft(model)) or sys.maxsize) - 1

    def read(self, new_ids: Int[Tensor, "rows new"]) -> Float[Tensor, "rows vocab"]:
        """Return the logits after the new tokens."""
        steps = torch.arange(new_ids.shape[1], device=new_ids.device)
        # Rows that reached the end of the context and are still in the batch have no position left.
        positions = (self.positions[:, None] + steps).clamp(max=self._last_position)
        self.attention_mask = torch.cat([self.attention_mask, torch.ones_like(new_ids)], -1)
        self.positions = self.positions + new_ids.shape[1]
        mask = torch.ones_like(new_ids) if self._masks_new_tokens else self.attention_mask
        return forward(self.model, new_ids, mask, self.cache, positions)

    def select(self, rows: Int[Tensor, " kept"]) -> None:
        """Keep the selected rows only."""
        self.cache.batch_select_indices(rows)
        self.attention_mask, self.positions = self.attention_mask[rows], self.positions[rows]


class UncachedBatch:
    """
    Batch of rows of a model without a (standard) cache, which are read from the start for every token.

    Args:
        model: A causal LM.
        rows (`list` of `list[int]`): Token ids of each row.
        pad_token_id (`int`): Id that fills short rows.
    """

    can_select = True
    leave_at = 0.0

    def __init__(self, model, rows: Sequence[list[int]], pad_token_id: int):
        self.model = model
        self.device = model.device
        self.rows = [list(row) for row in rows]
        self.pad_token_id = pad_token_id

    def read(self, new_ids: Int[Tensor, "rows new"]) -> Float[Tensor, "rows vocab"]:
        """Return the logits after the new tokens."""
        for row, ids in zip(self.rows, new_ids.tolist(), strict=True):
            row.extend(ids)
        return read_prompts(self.model, self.rows, self.pad_token_id, keep_cache=False).logits

    def select(self, rows: Int[Tensor, " kept"]) -> None:
        """Keep the selected rows only."""
        self.rows = [self.rows[row] for row in rows.tolist()]


class _Writer:
    """Writer of a batch of judgments, which shrinks as judgments finish."""

    def __init__(
        self,
        batch: CachedBatch | UncachedBatch,
        writings: list[WrittenJudgment],
        limits: list[int],
        judge_prompt: JudgePrompt,
        temperature: float,
    ):
        self.batch = batch
        self.writings = list(writings)
        self.limits = list(limits)
        self.unfinished = [True] * len(writings)
        self.final_ids = judge_prompt.final_ids.to(batch.device)
        self.verdict_of_token = {token: verdict for verdict, token in enumerate(judge_prompt.final_ids.tolist())}
        self.at_marker = MarkerMatcher(judge_prompt.tokenizer, judge_prompt.template.final_marker)
        self.temperature = temperature

    def write(self, logits: Float[Tensor, "rows vocab"], eos_ids: set[int]) -> None:
        """Generate until every row has ended; `logits` are those of the first tokens."""
        while True:
            tokens = self._pick(logits)
            self._append(tokens.tolist(), logits[:, self.final_ids], eos_ids)
            if not any(self.unfinished):
                return
            logits = self.batch.read(self._drop_finished(tokens)[:, None])

    def _pick(self, logits: Tensor) -> Int[Tensor, " rows"]:
        if self.temperature <= 0:
            return logits.argmax(-1)
        return (logits / self.temperature).softmax(-1).multinomial(1).squeeze(-1)

    def _append(self, tokens: list[int], verdict_logits: Tensor, eos_ids: set[int]) -> None:
        for row, (writing, token) in enumerate(zip(self.writings, tokens, strict=True)):
            if not self.unfinished[row]:
                continue
            if writing.expects_verdict:
                writing.verdict = self.verdict_of_token.get(token)
                writing.verdict_logits = verdict_logits[row].clone()
            writing.ids.append(token)
            self.unfinished[row] = not writing.expects_verdict and token not in eos_ids
            writing.expects_verdict = self.unfinished[row] and self.at_marker(writing.ids)
            if self.unfinished[row] and len(writing.ids) >= self.limits[row]:
                self.unfinished[row], writing.is_cut = False, True

    def _drop_finished(self, tokens: Tensor) -> Int[Tensor, " rows"]:
        kept = [row for row, unfinished in enumerate(self.unfinished) if unfinished]
        if not self.batch.can_select or len(kept) > (1 - self.batch.leave_at) * len(self.writings):
            return tokens
        rows = torch.tensor(kept, device=tokens.device)
        self.batch.select(rows)
        self.writings, self.limits = [self.writings[row] for row in kept], [self.limits[row] for row in kept]
        self.unfinished = [True] * len(kept)
        return tokens[rows]

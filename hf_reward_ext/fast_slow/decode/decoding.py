"""Fast-Slow during generation: confident rows stop after one token, the others continue from the same cache."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria

from hf_reward_ext.base.lm.tokens import eos_token_ids, pad_token_id
from hf_reward_ext.base.options import check_count, check_number
from hf_reward_ext.fast_slow.decode.prefill import read_prompts
from hf_reward_ext.fast_slow.decode.written_judgment import WrittenJudgment, check_writing, write_judgments
from hf_reward_ext.fast_slow.judge.gate import FastVerdicts, Gate, Pairing, check_pairing, read_verdicts
from hf_reward_ext.fast_slow.judge.prompt import JudgePrompt


class FirstLogits(LogitsProcessor):
    """Logits processor that stores the raw scores of the first generated token, before temperature, top-k and top-p."""

    supports_continuous_batching = False

    def __init__(self, prompt_length: int):
        self.prompt_length = prompt_length
        self.logits: Tensor | None = None

    def __call__(self, input_ids, scores):
        if input_ids.shape[1] == self.prompt_length:
            self.logits = scores.detach().clone()
        return scores


class FastSlowStoppingCriteria(StoppingCriteria):
    """
    Stopping criterion that ends confident rows after one token; the others generate a written judgment.

    The first token's scores come from `generate(..., output_scores=True, return_dict_in_generate=True)` with greedy
    decoding, or with any decoding from `logits_processor=[criteria.first_logits]`. An object can be used for any number
    of calls. `generate` pads stopped rows if there is an EOS token; without one it continues them. Beam search
    reorders rows and is not supported.

    Args:
        verdict_token_ids (`Sequence[int]` or `torch.Tensor`): Token ids of the verdicts.
        prompt_length (`int`): Number of columns of the (left-padded) `input_ids`.
        intuition_threshold, distribution_threshold (`float`, default to 0.5): Thresholds of the two confidences;
            Thresholds of the two confidences;
            0 stops every row, above 1 none.
        gate ([`Gate`], *optional*): Thresholds, temperature and rule, instead of the two thresholds.
        values (`Sequence[float]`, *optional*): Value of each rating.
        pairing (`str`, *optional*): `"none"`, or `"orders"` or `"responses"` if rows $2i$ and $2i+1$ stop together; see
            [`read_verdicts`].

    Raises:
        ValueError: For fewer than two verdicts, a `prompt_length` below 1, thresholds that are not confidences, or
            both a gate and thresholds.
        RuntimeError: During generation, if the first token's scores are missing or were cut by top-k or top-p.

    Example:
    ```python
    >>> criteria = FastSlowStoppingCriteria([65, 66], inputs["input_ids"].shape[1], 0.8, 0.5)
    >>> model.generate(**inputs, stopping_criteria=[criteria], logits_processor=[criteria.first_logits])
    >>> criteria.verdicts.escalated
    ```
    """

    def __init__(
        self,
        verdict_token_ids: Sequence[int] | Tensor,
        prompt_length: int,
        intuition_threshold: float = 0.5,
        distribution_threshold: float = 0.5,
        *,
        gate: Gate | None = None,
        values: Sequence[float] | Tensor | None = None,
        pairing: Pairing = "none",
    ):
        check_count("prompt_length", prompt_length)
        check_pairing(pairing, 0)
        self.verdict_token_ids = torch.as_tensor(verdict_token_ids, dtype=torch.long)
        if self.verdict_token_ids.numel() < 2:
            raise ValueError(
                f"`verdict_token_ids` must have two or more ids, got {self.verdict_token_ids.tolist()}. Pass the ids "
                "of all verdicts."
            )
        self.prompt_length = prompt_length
        if gate is not None and (intuition_threshold, distribution_threshold) != (0.5, 0.5):
            raise ValueError("`gate` must come without thresholds of their own, got both. Put them into the gate.")
        self.gate = gate or Gate(intuition_threshold, distribution_threshold)
        self.values = None if values is None else torch.as_tensor(values, dtype=torch.float32)
        self.pairing: Pairing = pairing
        self.first_logits = FirstLogits(prompt_length)
        self.verdicts: FastVerdicts | None = None

    def __call__(self, input_ids, scores, **kwargs):
        if input_ids.shape[1] <= self.prompt_length:
            return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)
        if input_ids.shape[1] == self.prompt_length + 1 or self.verdicts is None:
            logits = self._logits(scores, input_ids.shape[0])
            self.verdicts = read_verdicts(logits, self.verdict_token_ids, self.gate, self.pairing, self.values)
        stops = ~self.verdicts.escalated
        if self.pairing != "none":
            stops = stops.repeat_interleave(2)
        return stops.to(input_ids.device)

    def _logits(self, scores, rows: int) -> Tensor:
        kept = self.first_logits.logits
        if kept is not None:
            self.first_logits.logits = None
            return kept
        if not isinstance(scores, tuple) or len(scores) == 0 or scores[0].shape[0] != rows:
            raise RuntimeError(
                "`generate` gave no scores of the first token, but `FastSlowStoppingCriteria` reads its confidence "
                "from them. Add `logits_processor=[criteria.first_logits]`, or `output_scores=True, "
                "return_dict_in_generate=True`."
            )
        if scores[0].isinf().float().mean() > 0.5:
            raise RuntimeError(
                "Most scores of the first token are -inf, but confidences need the whole distribution, which top-k or "
                "top-p has cut. Add `logits_processor=[criteria.first_logits]`."
            )
        return scores[0]


class JudgmentBatch(NamedTuple):
    """Result of [`generate_judgment`]: fast verdicts, a list of written judgments per row, and tokens per row."""

    verdicts: FastVerdicts
    writings: list[list[WrittenJudgment]]
    num_tokens: list[int]


def judge_rows(
    model,
    prompts: Sequence[list[int]],
    judge_prompt: JudgePrompt,
    gate: Gate,
    *,
    pairing: Pairing = "none",
    shared: Sequence[int] | None = None,
    first_verdicts: Int[Tensor, " rows"] | None = None,
    num_votes: int = 1,
    temperature: float = 0.0,
    max_new_tokens: int = 256,
    eos_ids: Sequence[int] | None = None,
) -> JudgmentBatch:
    """
    Judge rows with one prefill: confident rows leave the batch, the others continue from the same cache.

    Args:
        model: A causal LM or `PeftModel`.
        prompts (`list` of `list[int]`): Judge prompts, see [`JudgePrompt.encode`].
        judge_prompt ([`JudgePrompt`]): Verdict tokens, prefix and marker.
        gate ([`Gate`]): Rule that escalates rows.
        pairing (`str`, *optional*): See [`read_verdicts`].
        shared (`list[int]`, *optional*): See [`read_prompts`].
        first_verdicts (`torch.Tensor` of shape `(rows,)`, *optional*): Index of the verdict with which each written
            judgment starts. Default: the most likely one.
        num_votes, temperature, max_new_tokens, eos_ids: See [`write_judgments`].

    Raises:
        ValueError: Before any forward, if an option is out of its range, or `max_new_tokens` is too small.

    Returns:
        [`JudgmentBatch`], on the CPU. A fast row counts one token, an escalated row all its generated tokens, with the
        first verdict counted once.
    """
    check_pairing(pairing, len(prompts))
    empty = [row for row, prompt in enumerate(prompts) if len(prompt) == 0]
    if empty:
        raise ValueError(f"Every judge prompt must have a token, but row {empty[0]} is empty. Leave the row out.")
    check_count("num_votes", num_votes)
    check_number("temperature", temperature, least=0)
    check_count("max_new_tokens", max_new_tokens)
    if gate.may_escalate:
        check_writing(judge_prompt, num_votes, temperature, max_new_tokens)
    eos = eos_token_ids(model.generation_config, judge_prompt.tokenizer) if eos_ids is None else eos_ids
    pad = pad_token_id(None, judge_prompt.tokenizer)
    prefill = read_prompts(model, prompts, 0 if pad is None else pad, shared, gate.may_escalate)
    verdicts = read_verdicts(prefill.logits, judge_prompt.first_ids, gate, pairing, judge_prompt.values)
    escalated = verdicts.escalated if pairing == "none" else verdicts.escalated.repeat_interleave(2)
    rows = escalated.nonzero().squeeze(-1)
    first = verdicts.verdicts if first_verdicts is None else first_verdicts.to(rows.device)
    written = write_judgments(
        model,
        prefill,
        rows,
        first[rows],
        judge_prompt,
        num_votes=num_votes,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        eos_ids=eos,
    )
    writings: list[list[WrittenJudgment]] = [[] for _ in prompts]
    for row, votes in zip(rows.tolist(), written, strict=True):
        writings[row] = votes
    num_tokens = [1 + sum(len(vote.ids) - 1 for vote in votes) for votes in writings]
    return JudgmentBatch(FastVerdicts(*(values.cpu() for values in verdicts)), writings, num_tokens)


class FastSlowGenerationMixin:
    """
    Mixin that adds the method `generate_judgment` to a causal LM class.

    Example:
    ```python
    >>> class Judge(FastSlowGenerationMixin, Qwen3ForCausalLM): ...
    >>> judge = Judge.from_pretrained("Qwen/Qwen3-4B")
    >>> judge.generate_judgment(input_ids, attention_mask, judge_prompt=JudgePrompt(tokenizer), gate=Gate(0.8, 0.5))
    ```
    """

    def generate_judgment(
        self,
        input_ids: Int[Tensor, "rows seq"],
        attention_mask: Int[Tensor, "rows seq"] | None = None,
        *,
        judge_prompt: JudgePrompt,
        gate: Gate,
        **kwargs,
    ) -> JudgmentBatch:
        """
        Answer confident rows in one token and escalate the others from the same cache; see [`judge_rows`].

        Args:
            input_ids, attention_mask (`torch.Tensor` of shape `(rows, seq)`): Judge prompts, padded on either side.
            judge_prompt ([`JudgePrompt`]), gate ([`Gate`]), **kwargs: See [`judge_rows`].
        """
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        prompts = [row[kept].tolist() for row, kept in zip(input_ids, mask.bool(), strict=True)]
        return judge_rows(self, prompts, judge_prompt, gate, **kwargs)

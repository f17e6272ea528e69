"""Judge that answers in one token if it is confident and with a written judgment otherwise."""

import warnings
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutputWithPast
from transformers.utils.logging import tqdm

from hf_reward_ext.base.lm.causal_lm import require_causal_lm, require_vocabulary
from hf_reward_ext.base.lm.context import longest_input
from hf_reward_ext.base.lm.forward import unwrap_peft
from hf_reward_ext.base.lm.keywords import check_scoring_keywords, declared_keywords, refuse_unknown
from hf_reward_ext.base.options import check_choice, check_count
from hf_reward_ext.base.saving.upload import push_folder, push_model
from hf_reward_ext.base.scoring.scorer import Scorer
from hf_reward_ext.fast_slow.calibrate.aim import Aim
from hf_reward_ext.fast_slow.calibrate.calibrate import CalibrationResult, alternating_pairs, fit_calibration
from hf_reward_ext.fast_slow.calibrate.drift import DriftMonitor
from hf_reward_ext.fast_slow.calibrate.report import write_report
from hf_reward_ext.fast_slow.checkpoint import describe, load_judge, save_judge
from hf_reward_ext.fast_slow.decode.decoding import JudgmentBatch, judge_rows
from hf_reward_ext.fast_slow.decode.written_judgment import check_writing
from hf_reward_ext.fast_slow.judge.gate import ALWAYS, NEVER, Gate, Pairing
from hf_reward_ext.fast_slow.judge.judge_inputs import Decisions, encode_decisions
from hf_reward_ext.fast_slow.judge.judge_rows import judgment_of
from hf_reward_ext.fast_slow.judge.judgment import Judgment, ScoreCalibration
from hf_reward_ext.fast_slow.judge.pair_scorer import JudgePairScorer
from hf_reward_ext.fast_slow.judge.prompt import JudgePrompt
from hf_reward_ext.fast_slow.judge.template import JudgeTemplate
from hf_reward_ext.fast_slow.judge.verdicts import VerdictKind
from hf_reward_ext.fast_slow.model_config import FastSlowRewardModelConfig

Mode = Literal["gated", "fast", "slow"]
_THRESHOLDS = (0.9, 0.5)


class FastSlowRewardModel(PreTrainedModel):
    r"""
    Judge made of a causal LM, with a fast path, a slow path, and a calibrated gate between them.

    $$ \text{escalate} \iff C_{int} < \theta_I \;\lor\; C_{dist} < \theta_D $$

    Reconstructed from the abstract of [Fast-Slow](https://huggingface.co/papers/2603.20212); the formulas are ours.
    The fast path reads the prompts once and samples nothing. Escalated rows generate their judgment from the same
    cache.

    Args:
        causal_lm (`PreTrainedModel` or `PeftModel`): Any instruct or base model.
        tokenizer: Tokenizer of the causal LM.
        verdicts (`Sequence[str]`, *optional*, defaults to `("A", "B")`): Verdicts, each of one token. The default
            is pairwise; `("Yes", "No")` or digits judge single responses.
        intuition_threshold, distribution_threshold (`float`, *optional*): Thresholds $\theta_I$ and $\theta_D$. The
            defaults are not calibrated, see [`calibrate`].
        gate ([`Gate`], *optional*): Thresholds, rule and distribution confidence, instead of the two thresholds.
        template ([`JudgeTemplate`], *optional*): Text of the judge prompt.
        kind, both_orders, num_votes, sampling_temperature, max_new_tokens, hard_votes: See
            [`FastSlowRewardModelConfig`].
        config ([`FastSlowRewardModelConfig`], *optional*): A saved configuration, instead of all of these.
        batch_size (`int`, *optional*, defaults to 16): Number of decisions per forward.

    Raises:
        TypeError: If `causal_lm` is not a causal LM, or an option has another type.
        ValueError: If a verdict is not a single token (the message suggests others), an option is out of its range, or
            an option is given twice.

    Example:
    ```python
    >>> rm = FastSlowRewardModel(causal_lm, tokenizer, verdicts=("A", "B"))
    >>> rm.calibrate(held_out_pairs, budget=0.4)
    >>> rm.judge(["2+2?"], ["4"], ["5"])[0].probability
    ```
    """

    config_class = FastSlowRewardModelConfig
    base_model_prefix = "causal_lm"
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(
        self,
        causal_lm,
        tokenizer,
        verdicts: Sequence[str] = ("A", "B"),
        intuition_threshold: float = 0.9,
        distribution_threshold: float = 0.5,
        *,
        kind: VerdictKind | None = None,
        template: JudgeTemplate | None = None,
        gate: Gate | None = None,
        both_orders: bool = True,
        num_votes: int = 1,
        sampling_temperature: float = 0.0,
        max_new_tokens: int = 256,
        hard_votes: bool = False,
        config: FastSlowRewardModelConfig | None = None,
        batch_size: int = 16,
    ):
        thresholds = (intuition_threshold, distribution_threshold)
        if gate is not None and thresholds != _THRESHOLDS:
            raise ValueError("`gate` must come without thresholds of their own, got both. Put them into the gate.")
        settings = dict(
            verdicts=verdicts,
            kind=kind,
            template=None if template is None else template.to_dict(),
            gate=(gate or Gate(*thresholds)).to_dict(),
            both_orders=both_orders,
            num_votes=num_votes,
            sampling_temperature=sampling_temperature,
            max_new_tokens=max_new_tokens,
            hard_votes=hard_votes,
        )
        if config is None:
            config = FastSlowRewardModelConfig(**settings)  # pyright: ignore[reportArgumentType]
        elif settings != _DEFAULTS:
            given = sorted(name for name, value in settings.items() if value != _DEFAULTS[name])
            raise ValueError(f"`config` must come without other settings, got {given} too. Set them in the config.")
        config.check()
        check_count("batch_size", batch_size)
        require_causal_lm(causal_lm, "causal_lm")
        template = JudgeTemplate.from_dict(config.template)
        judge_prompt = JudgePrompt(tokenizer, config.verdicts, template, config.kind)  # pyright: ignore[reportArgumentType]
        require_vocabulary(causal_lm, tokenizer, "causal_lm")
        describe(config, causal_lm, tokenizer)
        super().__init__(config)
        self.config: FastSlowRewardModelConfig = config
        self.causal_lm = causal_lm
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self._monitor = DriftMonitor(config.calibration) if config.calibration else None
        self.judge_prompt = judge_prompt
        self.eval()

    @property
    def gate(self) -> Gate:
        """Gate of the judge; assign a new one to change thresholds."""
        return Gate.from_dict(self.config.gate)

    @gate.setter
    def gate(self, gate: Gate) -> None:
        self.config.gate = gate.to_dict()

    @property
    def score_calibration(self) -> ScoreCalibration:
        """Conversion of raw scores to probabilities."""
        if not self.judge_prompt.is_pairwise:
            return self._score_calibration("responses")
        return self._score_calibration("orders" if self.config.both_orders else "none")

    def set_calibration(self, result: CalibrationResult) -> None:
        """Use fitted temperatures and thresholds, and start to monitor drift."""
        self.gate = result.gate
        self.config.slow_temperature = result.score_calibration.slow_temperature
        self.config.fast_vote_weight = result.score_calibration.fast_vote_weight
        self.config.calibration = result.report
        self._monitor = DriftMonitor(result.report)

    def _score_calibration(self, pairing: Pairing) -> ScoreCalibration:
        config = self.config
        return ScoreCalibration(
            self.judge_prompt.kind,
            pairing,
            self.gate.temperature,
            config.slow_temperature,
            config.fast_vote_weight,
            config.hard_votes,
        )

    def judge(
        self,
        prompts: Sequence,
        responses_a: Sequence,
        responses_b: Sequence | None = None,
        *,
        mode: Mode = "gated",
        show_progress: bool | None = None,
    ) -> list[Judgment]:
        """
        Judge pairs, or single responses with pointwise verdicts.

        Args:
            prompts (`list` of `str` or of messages): Prompts, one per decision.
            responses_a, responses_b (`list` of `str` or of messages): Responses; `responses_b` may be omitted with
                pointwise verdicts. An empty response is judged as such: a policy may write nothing, and every reward
                gives that a number. Data of trainers and commands must not have one.
            mode (`str`, *optional*): Path, `"gated"`, or `"fast"` or `"slow"` for all decisions.
            show_progress (`bool`, *optional*): Whether to show a progress bar. Default: for five batches or more.

        Returns:
            `list` of [`Judgment`] in the given order. Batches have decisions of similar length, and responses to one
            prompt are batched together, so that the prompt is read once.

        Raises:
            TypeError: Before any forward, if an entry is neither a text nor messages; the message names it.
            ValueError: Before any forward, if the lists differ in length, a pairwise judge gets single responses, a
                judge prompt is longer than the model reads, or an option is out of its range.
        """
        check_count("batch_size", self.batch_size)
        decisions = self._encode(prompts, responses_a, responses_b, mode)
        judgments: list[Judgment | None] = [None] * len(decisions.rows)
        batches = decisions.batches(self.batch_size)
        hidden = len(batches) < 5 if show_progress is None else not show_progress
        scores = self._score_calibration(decisions.pairing)
        with self.judging():
            for indices in tqdm(batches, desc="judging", disable=hidden):
                outcome = self._run(*decisions.batch(indices), mode, decisions.pairing)
                for number, index in enumerate(indices):
                    judgments[index] = judgment_of(outcome, number, self.judge_prompt, scores)
        found = [judgment for judgment in judgments if judgment is not None]
        if mode == "gated" and self._monitor is not None and found:
            self._monitor.update(found)
        return found

    def check(
        self, prompts: Sequence, responses_a: Sequence, responses_b: Sequence | None = None, *, mode: Mode = "gated"
    ) -> None:
        """Check the arguments of [`judge`], with the same errors."""
        self._encode(prompts, responses_a, responses_b, mode)

    @torch.no_grad()
    def score(self, prompts: Sequence, responses: Sequence, *, mode: Mode = "gated") -> Float[Tensor, " batch"]:
        r"""
        Return scores of single responses in nats, with $P(y_1 \succ y_2) = \sigma(s_1 - s_2)$.

        The score is the raw score (log-odds of the two verdicts, or mean rating) divided by its temperature, so that
        fast and written scores are comparable.

        Args:
            prompts, responses (`list` of `str` or of messages): One prompt per response.
            mode (`str`, *optional*): See [`judge`].

        Returns:
            `torch.Tensor` of shape `(batch,)`, float32, on the CPU.

        Raises:
            ValueError: If the verdicts are pairwise.
        """
        return torch.tensor([judgment.score for judgment in self.judge(prompts, responses, mode=mode)])

    def scorer(self, tokenizer=None, batch_size: int = 16) -> Scorer | JudgePairScorer:
        """
        Return a scorer of single responses, or of pairs with pairwise verdicts; for [`as_scorer`].

        The judge has its own tokenizer and batch size, so neither is needed.
        """
        if self.judge_prompt.is_pairwise:
            return JudgePairScorer(self)

        return Scorer(self._scores, name=type(self).__name__, models=[self], check=self.check)

    def _scores(self, prompts: Sequence, completions: Sequence) -> list[float]:
        return [judgment.score for judgment in self.judge(prompts, completions, show_progress=False)]

    def forward(
        self, input_ids: Int[Tensor, "batch seq"], attention_mask: Int[Tensor, "batch seq"] | None = None, **kwargs
    ) -> SequenceClassifierOutputWithPast:
        """
        Score texts like a sequence-classification model, with the gated [`score`] as `logits` `(batch, 1)`.

        For callers that join prompt and response into one text (TRL's `reward_funcs`): the text is judged as the
        response to an empty prompt. With separate prompts and responses, use [`score`] or
        [`FastSlowReward`].

        Args:
            input_ids, attention_mask (`torch.Tensor` of shape `(batch, seq)`): Texts, padded on either side.

        Raises:
            ValueError: If the verdicts are pairwise.
            TypeError: For other keywords.
        """
        check_scoring_keywords(self, kwargs)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        rows = [row[kept].tolist() for row, kept in zip(input_ids, mask.bool(), strict=True)]
        texts = [str(self.tokenizer.decode(row, skip_special_tokens=True)) for row in rows]
        scores = self.score([""] * len(texts), texts)
        return SequenceClassifierOutputWithPast(logits=scores[:, None].to(input_ids.device))  # pyright: ignore[reportArgumentType]

    def calibrate(
        self,
        dataset,
        budget: float | None = None,
        risk: float | None = None,
        *,
        slow: bool = False,
        fuse: bool = False,
        confidence: float = 0.95,
        show_progress: bool | None = None,
    ) -> dict:
        """
        Fit the temperature and both thresholds on held-out pairs, and store them in the checkpoint.

        Args:
            dataset (`Dataset` or `list` of `dict`): Rows `{prompt, chosen, rejected}` that were not used for
                training.
            budget (`float`, *optional*): Maximum share of escalated decisions; with `slow=True` also of the tokens
                of escalating all decisions. See [`thresholds_for_budget`].
            risk (`float`, *optional*): Maximum error rate of fast verdicts, with probability `confidence`. See
                [`thresholds_for_risk`].
            slow (`bool`, *optional*): Whether to write judgments of all held-out pairs, whose accuracy and tokens
                are used for the budget and whose temperature is fitted.
            fuse (`bool`, *optional*): Whether to fit the weight of the fast probability; requires `slow=True`.
            confidence (`float`, *optional*): See `risk`.
            show_progress (`bool`, *optional*): See [`judge`].

        Returns:
            `dict`: Fitted and measured values, which are also in `config.calibration`. `problems` are reasons why the
            judge may be unreliable, which are also given as a warning. See [`judge_quality`].

        Raises:
            TypeError, ValueError: Before any forward, unless exactly one of `budget` and `risk` is given and both are
                in their range; if the pairs cannot certify the risk; or if a row is not a pair.

        Example:
        ```python
        >>> rm.calibrate(held_out_pairs, budget=0.4)["escalation_rate"]
        ```
        """
        aim = Aim(budget, risk, confidence)
        if fuse and not slow:
            raise ValueError("`fuse=True` must come with `slow=True`: the weight is fitted on written judgments.")
        pairs, truth = alternating_pairs(dataset)
        aim.check_decisions(len(truth))
        fast = self.judge(*pairs, mode="fast", show_progress=show_progress)
        written = self.judge(*pairs, mode="slow", show_progress=show_progress) if slow else None
        result = fit_calibration(fast, truth, aim, self.gate, self.score_calibration, written=written, fuse=fuse)
        self.set_calibration(result)
        if result.report["problems"]:
            warnings.warn(f"This judge may be unreliable: {'; '.join(result.report['problems'])}.", stacklevel=2)
        return result.report

    def calibration_report(self, dataset, output_dir: str | Path) -> dict:
        """
        Judge every pair by both paths, and write a report of calibration errors and accuracy against tokens.

        Args:
            dataset (`Dataset` or `list` of `dict`): Rows `{prompt, chosen, rejected}` that were not used for
                calibration.
            output_dir (`str` or `Path`): Folder of the report, see [`write_report`].
        """
        pairs, truth = alternating_pairs(dataset)
        fast, written = self.judge(*pairs, mode="fast"), self.judge(*pairs, mode="slow")
        return write_report(
            output_dir, self.gate, fast, written, truth, both_orders=self.score_calibration.pairing == "orders"
        )

    def _gate(self, mode: Mode) -> Gate:
        level = NEVER if mode == "fast" else ALWAYS
        return self.gate if mode == "gated" else self.gate.with_thresholds(level, level)

    def _encode(self, prompts: Sequence, responses_a: Sequence, responses_b: Sequence | None, mode: Mode) -> Decisions:
        check_choice("mode", mode, get_args(Mode))
        self.config.check()
        decisions = encode_decisions(self.judge_prompt, prompts, responses_a, responses_b, self.config.both_orders)
        self._check_room(decisions, mode)
        return decisions

    def _check_room(self, decisions: Decisions, mode: Mode) -> None:
        """Reject judge prompts that exceed the context of the model, or leave no room for a judgment."""
        if self._gate(mode).may_escalate:
            config = self.config
            check_writing(self.judge_prompt, config.num_votes, config.sampling_temperature, config.max_new_tokens)
        limit = longest_input(unwrap_peft(self.causal_lm))
        if limit is not None:
            decisions.check_lengths(limit, self.judge_prompt.opening_length + 1 if self._gate(mode).may_escalate else 0)

    def _run(self, rows: list[list[int]], questions: list[int], mode: Mode, pairing: Pairing) -> JudgmentBatch:
        return judge_rows(
            self.causal_lm,
            rows,
            self.judge_prompt,
            self._gate(mode),
            pairing=pairing,
            shared=questions,
            num_votes=self.config.num_votes,
            temperature=self.config.sampling_temperature,
            max_new_tokens=self.config.max_new_tokens,
        )

    @contextmanager
    def judging(self):
        """Run in evaluation mode without gradients, and restore the training mode afterwards."""
        was_training = self.causal_lm.training
        self.causal_lm.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.causal_lm.train(was_training)

    def save_pretrained(self, save_directory: str | Path, push_to_hub: bool = False, **kwargs) -> None:
        """
        Save the causal LM's weights (or adapter), tokenizer and config, and a model card unless there is one.

        Args:
            save_directory (`str` or `Path`): Folder to save to.
            push_to_hub (`bool`, *optional*): Whether to upload the folder, to `repo_id` or a repository with the name
                of the folder.
            **kwargs: Arguments of the causal LM's `save_pretrained`.

        Raises:
            TypeError: For other keywords.
        """
        known = declared_keywords(type(self.causal_lm).save_pretrained) | {"repo_id"}
        refuse_unknown("FastSlowRewardModel.save_pretrained", kwargs, known)
        repo_id = kwargs.pop("repo_id", None)
        save_judge(self, save_directory, **kwargs)
        if push_to_hub:
            push_folder(save_directory, repo_id or Path(save_directory).resolve().name, token=kwargs.get("token"))

    def push_to_hub(self, repo_id: str, **kwargs):  # pyright: ignore[reportIncompatibleMethodOverride]
        """Upload the judge with the arguments of [`push_folder`]; an existing card in the repository is kept."""
        return push_model(self, repo_id, **kwargs)

    @classmethod
    def from_pretrained(
        cls, name, *, base=None, tokenizer=None, config=None, batch_size: int = 16, **kwargs
    ) -> "FastSlowRewardModel":
        """
        Load a judge saved by [`save_pretrained`] or [`FastSlowTrainer`].

        Args:
            name (`str` or `Path`): Folder or name on the Hub.
            base (`PreTrainedModel`, *optional*): Base of an adapter that has no name in its config.
            tokenizer (*optional*): Tokenizer. Default: the saved one.
            **kwargs: Arguments of `AutoModelForCausalLM.from_pretrained` (`dtype`, `device_map`, `revision`, ...).
        """
        causal_lm, tokenizer, config = load_judge(name, base, tokenizer, config, **kwargs)
        return cls(causal_lm, tokenizer, config=config, batch_size=batch_size)


_DEFAULTS = dict(
    verdicts=("A", "B"), kind=None, template=None, gate=Gate(*_THRESHOLDS).to_dict(), both_orders=True, num_votes=1,
    sampling_temperature=0.0, max_new_tokens=256, hard_votes=False,
)  # fmt: skip

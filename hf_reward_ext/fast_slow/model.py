"""A judge that answers in one token when it is sure and in writing when it is not."""

from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from hf_reward_ext.base.hub import base_pointer
from hf_reward_ext.base.model_card import write_model_card
from hf_reward_ext.fast_slow.calibrate import calibrate, calibration_report
from hf_reward_ext.fast_slow.confidence import Rule, fast_score
from hf_reward_ext.fast_slow.decoding import JudgmentBatch, judge_rows
from hf_reward_ext.fast_slow.drift import DriftMonitor
from hf_reward_ext.fast_slow.gate import ALWAYS, NEVER, Gate, Pairing
from hf_reward_ext.fast_slow.judgment import Judgment, Scale
from hf_reward_ext.fast_slow.model_config import FastSlowRewardModelConfig
from hf_reward_ext.fast_slow.prompt import JudgePrompt, JudgeTemplate, plain_text
from hf_reward_ext.fast_slow.verdicts import VerdictKind

Mode = Literal["gated", "fast", "slow"]
PAPER = {
    "title": "Fast-Slow Thinking RM: Efficient Integration of Scalar and Generative Reward Models",
    "id": "2603.20212",
}


class FastSlowRewardModel(PreTrainedModel):
    r"""
    A causal LM as a judge with a fast and a slow path, and a calibrated gate between them.

    $$ \text{escalate} \iff C_{int} < \theta_I \;\lor\; C_{dist} < \theta_D $$

    Reconstructed after the abstract of [Fast-Slow](https://huggingface.co/papers/2603.20212); the formulas are ours.
    The fast path reads the prompts once and samples nothing; escalated rows write their judgement from the same cache.

    Args:
        causal_lm (`PreTrainedModel` or `PeftModel`): Any instruct or base model.
        tokenizer: Its tokenizer.
        verdicts (`Sequence[str]`, *optional*, defaults to `("A", "B")`): Pairwise; `("Yes", "No")` or digits judge
            responses one by one. Each must be a single token.
        intuition_threshold, distribution_threshold (`float`, *optional*): $\theta_I$ and $\theta_D$; the defaults are
            not calibrated, see [`calibrate`].
        template ([`JudgeTemplate`], *optional*): The judge prompt.
        kind, both_orders, n_votes, sampling_temperature, max_new_tokens, hard_votes: See
            [`FastSlowRewardModelConfig`].
        rule, weight, distribution: See [`Gate`].
        config ([`FastSlowRewardModelConfig`], *optional*): In place of all of these.
        batch_size (`int`, *optional*, defaults to 16): Decisions a forward.

    Raises:
        ValueError: If a verdict is not a single token, naming others that are.

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
        rule: Rule = "or",
        weight: float = 0.5,
        distribution: Literal["verdict", "vocabulary", "top_gap"] = "verdict",
        both_orders: bool = True,
        n_votes: int = 1,
        sampling_temperature: float = 0.0,
        max_new_tokens: int = 256,
        hard_votes: bool = False,
        config: FastSlowRewardModelConfig | None = None,
        batch_size: int = 16,
    ):
        is_adapter = hasattr(causal_lm, "peft_config")
        if config is None:
            gate = Gate(intuition_threshold, distribution_threshold, 1.0, rule, weight, distribution)
            config = FastSlowRewardModelConfig(
                verdicts=tuple(verdicts),
                kind=kind,
                template=template.to_dict() if template else None,
                gate=gate.to_dict(),
                both_orders=both_orders,
                n_votes=n_votes,
                sampling_temperature=sampling_temperature,
                max_new_tokens=max_new_tokens,
                hard_votes=hard_votes,
            )
        pointer = base_pointer(causal_lm, tokenizer)
        config.adapter = is_adapter
        config.causal_lm_config = None if is_adapter else causal_lm.config
        config.name_or_path = pointer["base_model_name_or_path"] or ""
        super().__init__(config)
        self.config: FastSlowRewardModelConfig = config
        self.causal_lm = causal_lm
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self._monitor = DriftMonitor(config.calibration) if config.calibration else None
        self.judge_prompt = JudgePrompt(
            tokenizer, tuple(config.verdicts), JudgeTemplate(**config.template), config.kind
        )
        self.eval()

    @property
    def gate(self) -> Gate:
        """The gate in use; assign one to change thresholds."""
        return Gate(**self.config.gate)

    @gate.setter
    def gate(self, gate: Gate) -> None:
        self.config.gate = gate.to_dict()

    @property
    def scale(self) -> Scale:
        """How raw scores become probabilities."""
        return self._scale(self._pairing(single=False))

    def set_calibration(self, gate: Gate, calibration: dict) -> None:
        """Puts a calibrated gate to use and starts to watch for drift."""
        self.gate = gate
        self.config.calibration = calibration
        self._monitor = DriftMonitor(calibration)

    def _scale(self, pairing: Pairing) -> Scale:
        config = self.config
        return Scale(
            self.judge_prompt.kind,
            pairing,
            self.gate.temperature,
            config.slow_temperature,
            config.fast_weight,
            config.hard_votes,
        )

    def _pairing(self, single: bool) -> Pairing:
        if not self.judge_prompt.is_pairwise:
            return "none" if single else "responses"
        return "orders" if self.config.both_orders else "none"

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
        Judges pairs, or with pointwise verdicts single responses.

        Args:
            prompts (`list` of `str` or of messages): One per decision.
            responses_a, responses_b (`list` of `str` or of messages): `responses_b` may be left out with pointwise
                verdicts.
            mode (`str`, *optional*): `"gated"`, or `"fast"` and `"slow"` for everyone.
            show_progress (`bool`, *optional*): Default: a bar for lists of five batches or more.

        Returns:
            `list` of [`Judgment`] in the order given; the work is done in batches of like length, with the responses
            to one prompt side by side so that it is read once.

        Raises:
            ValueError: If the lists differ in length, or a pairwise judge gets single responses.
        """
        single = responses_b is None
        self._check(prompts, responses_a, responses_b)
        rows, questions = self._encode(prompts, responses_a, responses_b)
        judgments: list[Judgment | None] = [None] * len(rows)
        batches = _batches(rows, questions, self.batch_size)
        hidden = len(batches) < 5 if show_progress is None else not show_progress
        pairing = self._pairing(single)
        with self._judging():
            for batch in tqdm(batches, desc="judging", disable=hidden):
                outcome = self._run(
                    [rows[place] for place in batch], [questions[place] for place in batch], mode, pairing
                )
                for number, place in enumerate(batch):
                    judgments[place] = self._record(outcome, number, pairing)
        found = [judgment for judgment in judgments if judgment is not None]
        if mode == "gated" and self._monitor is not None and found:
            self._monitor.update(found)
        return found

    @torch.no_grad()
    def score(self, prompts: Sequence, responses: Sequence, *, mode: Mode = "gated") -> Float[Tensor, " batch"]:
        r"""
        Scores of single responses, in nats: $P(y_1 \succ y_2) = \sigma(s_1 - s_2)$.

        The raw score (log-odds of the two verdicts, or mean value on the scale) over its temperature, so that fast
        and written scores compare.

        Args:
            prompts, responses (`list` of `str` or of messages): One prompt per response.
            mode (`str`, *optional*): See [`judge`].

        Returns:
            `torch.Tensor` of shape `(batch,)`, float32, on the CPU.

        Raises:
            ValueError: If the verdicts are pairwise.
        """
        return torch.tensor([judgment.score for judgment in self.judge(prompts, responses, mode=mode)])

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
        Sets the temperature and both thresholds on held-out pairs; the values live in the checkpoint.

        Args:
            dataset (`Dataset` or `list` of `dict`): Rows `{prompt, chosen, rejected}` that were not trained on.
            budget (`float`, *optional*): Largest share of decisions to escalate; with `slow=True` also of
                always-slow's tokens. See [`thresholds_for_budget`].
            risk (`float`, *optional*): Largest error rate of fast verdicts, with probability `confidence`. See
                [`thresholds_for_risk`].
            slow (`bool`, *optional*): Write judgements of all held-out pairs too: their accuracy and tokens count for
                the budget, and their temperature is fitted.
            fuse (`bool`, *optional*): With `slow=True`: fit the weight of the fast probability beside the written one.
            confidence (`float`, *optional*): See `risk`.
            show_progress (`bool`, *optional*): See [`judge`].

        Returns:
            `dict`: What was fitted and measured; also `config.calibration`.

        Raises:
            ValueError: Unless exactly one of `budget` and `risk` is given, or if the pairs cannot certify the risk.

        Example:
        ```python
        >>> rm.calibrate(held_out_pairs, budget=0.4)["escalation_rate"]
        ```
        """
        return calibrate(self, dataset, budget, risk, slow, fuse, confidence, show_progress)

    def calibration_report(self, dataset, output_dir: str | Path) -> dict:
        """
        Judges every pair by both paths; writes calibration errors, the reliability plot and accuracy against tokens.

        Args:
            dataset (`Dataset` or `list` of `dict`): Rows `{prompt, chosen, rejected}`, other ones than calibrated on.
            output_dir (`str` or `Path`): See [`write_report`].
        """
        return calibration_report(self, dataset, output_dir)

    def _check(self, prompts, responses_a, responses_b) -> None:
        if responses_b is None and self.judge_prompt.is_pairwise:
            raise ValueError(
                f"Single responses were given, but the verdicts {self.judge_prompt.verdicts} compare two. Pass "
                "`responses_b`, or make the judge with `verdicts=('Yes', 'No')`."
            )
        lengths = {len(part) for part in (prompts, responses_a, responses_b) if part is not None}
        if len(lengths) > 1:
            raise ValueError(
                f"Lists of the lengths {sorted(lengths)} were given, but `judge` needs one prompt per decision. "
                "Repeat the prompt for each of its responses."
            )

    def _encode(self, prompts, responses_a, responses_b) -> tuple[list[list[list[int]]], list[int]]:
        """Rows of every decision, and the number of its question."""
        encode, numbers = self.judge_prompt.encode, {}
        questions = [numbers.setdefault(plain_text(prompt), len(numbers)) for prompt in prompts]
        if responses_b is None:
            return [[encode(*pair)] for pair in zip(prompts, responses_a, strict=True)], questions
        decisions = list(zip(prompts, responses_a, responses_b, strict=True))
        if not self.judge_prompt.is_pairwise:
            return [[encode(prompt, a), encode(prompt, b)] for prompt, a, b in decisions], questions
        if not self.config.both_orders:
            return [[encode(prompt, a, b)] for prompt, a, b in decisions], questions
        return [[encode(prompt, a, b), encode(prompt, b, a)] for prompt, a, b in decisions], questions

    def _run(self, decisions: list[list[list[int]]], questions: list[int], mode: Mode, pairing: Pairing):
        gate = self.gate
        if mode != "gated":
            level = NEVER if mode == "fast" else ALWAYS
            gate = gate.with_thresholds(level, level)
        return judge_rows(
            self.causal_lm,
            [row for decision in decisions for row in decision],
            self.judge_prompt,
            gate,
            pairing=pairing,
            shared=[question for question, rows in zip(questions, decisions, strict=True) for _ in rows],
            n_votes=self.config.n_votes,
            temperature=self.config.sampling_temperature,
            max_new_tokens=self.config.max_new_tokens,
        )

    def _record(self, outcome: JudgmentBatch, number: int, pairing: Pairing) -> Judgment:
        rows = [number] if pairing == "none" else [2 * number, 2 * number + 1]
        verdicts, strings = outcome.verdicts, self.judge_prompt.verdicts
        writings = [outcome.writings[row] for row in rows]
        fast_scores = [verdicts.scores[row].item() for row in rows]
        vote_scores = [[self._vote(vote) for vote in votes] for votes in writings]
        final = [[None if vote.verdict is None else strings[vote.verdict] for vote in votes] for votes in writings]
        texts = [
            [str(self.tokenizer.decode(vote.ids, skip_special_tokens=True)) for vote in votes] for votes in writings
        ]
        escalated = bool(verdicts.escalated[number])
        first = [strings[int(verdicts.verdicts[row])] for row in rows]
        score = self._scale(pairing).score(fast_scores, vote_scores)
        return Judgment(
            probability=torch.tensor(score).sigmoid().item(),
            mode="slow" if escalated else "fast",
            intuition=verdicts.intuition[number].item(),
            distribution=verdicts.distribution[number].item(),
            num_tokens=sum(outcome.num_tokens[row] for row in rows),
            text=texts[0][0] if escalated else first[0],
            score=score,
            fast_probability=verdicts.probability[number].item(),
            mass=min(verdicts.mass[row].item() for row in rows),
            consistent=bool(verdicts.consistent[number]),
            parsed=not escalated or all(any(one is not None for one in votes) for votes in final),
            first_verdicts=first,
            final_verdicts=final,
            fast_scores=fast_scores,
            vote_scores=vote_scores,
            texts=texts,
            row_tokens=[outcome.num_tokens[row] for row in rows],
        )

    def _vote(self, vote) -> float | None:
        """Raw score of a final verdict; `None` without one. Hard votes count the verdict that was written."""
        if vote.verdict is None:
            return None
        if self.config.hard_votes and self.judge_prompt.kind != "scale":
            return 1.0 if vote.verdict == 0 else -1.0
        return fast_score(vote.verdict_logits[None].cpu(), self.judge_prompt.values).item()

    @contextmanager
    def _judging(self):
        """Evaluation mode without gradients; training mode comes back."""
        was_training = self.causal_lm.training
        self.causal_lm.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.causal_lm.train(was_training)

    def save_pretrained(self, save_directory: str | Path, push_to_hub: bool = False, **kwargs) -> None:
        """
        Writes the causal LM's own safetensors (or adapter), its tokenizer, our `config.json` and a model card.

        Args:
            save_directory (`str` or `Path`): The folder.
            push_to_hub (`bool`, *optional*): Upload it, under `kwargs["repo_id"]`.
            **kwargs: For the causal LM's `save_pretrained`.
        """
        repo_id = kwargs.pop("repo_id", None)
        self.causal_lm.save_pretrained(save_directory, **kwargs)
        self.tokenizer.save_pretrained(save_directory)
        save_config(self.config, save_directory)
        write_model_card(
            save_directory,
            name=Path(save_directory).name,
            what="A judge that answers in one token when it is sure and in writing when it is not.",
            snippet=card_snippet(str(repo_id or save_directory), self.judge_prompt.is_pairwise),
            trainer="FastSlowTrainer",
            paper=PAPER,
            tags=["hf-reward-ext", "fast-slow"],
        )
        if push_to_hub:
            super().push_to_hub(repo_id or Path(save_directory).name)  # pyright: ignore

    @classmethod
    def from_pretrained(
        cls, name, *args, base=None, tokenizer=None, config=None, batch_size=16, **kwargs
    ) -> "FastSlowRewardModel":
        """
        Loads a judge written by [`save_pretrained`] or by [`FastSlowTrainer`].

        Args:
            name (`str` or `Path`): Folder or name on the Hub.
            base (`PreTrainedModel`, *optional*): Under an adapter whose base has no name to load it by.
            tokenizer (*optional*): Default: the saved one.
            **kwargs: For `AutoModelForCausalLM.from_pretrained` (`dtype`, `device_map`, `revision`, ...).
        """
        hub = {key: kwargs[key] for key in ("revision", "cache_dir", "token", "local_files_only") if key in kwargs}
        kwargs.pop("num_labels", None)
        config = config or FastSlowRewardModelConfig.from_pretrained(name, **hub)
        tokenizer = tokenizer or AutoTokenizer.from_pretrained(name, **hub)
        if not config.adapter:
            causal_lm = AutoModelForCausalLM.from_pretrained(name, config=config.causal_lm_config, **kwargs)
        else:
            from peft import AutoPeftModelForCausalLM, PeftModel

            causal_lm = (
                PeftModel.from_pretrained(base, name, **kwargs)
                if base is not None
                else AutoPeftModelForCausalLM.from_pretrained(name, **kwargs)
            )
        return cls(causal_lm, tokenizer, config=config, batch_size=batch_size)


def save_config(config: FastSlowRewardModelConfig, folder: str | Path) -> None:
    """Writes `config.json` in place of the causal LM's, which it contains."""
    config = FastSlowRewardModelConfig.from_dict(config.to_dict())
    config.architectures = [FastSlowRewardModel.__name__]
    config.save_pretrained(folder)


def card_snippet(name: str, is_pairwise: bool) -> str:
    """Python that uses a saved judge."""
    call = 'judge.judge(["2+2?"], ["4"], ["5"])[0]' if is_pairwise else 'judge.score(["2+2?", "2+2?"], ["4", "5"])'
    return f"""\
from hf_reward_ext.fast_slow import FastSlowRewardModel

judge = FastSlowRewardModel.from_pretrained({name!r})
print({call})"""


def _batches(rows: list[list[list[int]]], questions: list[int], batch_size: int) -> list[list[int]]:
    """Places in batches of like length; decisions about one question stay together."""
    longest: dict[int, int] = {}
    for decision, question in zip(rows, questions, strict=True):
        longest[question] = max(longest.get(question, 0), *map(len, decision))
    order = sorted(range(len(rows)), key=lambda place: (longest[questions[place]], questions[place], place))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]

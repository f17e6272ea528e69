"""Best of N with candidates of any engine."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from hf_reward_ext.base.saving.base_pointer import check_base
from hf_reward_ext.base.saving.fingerprint import fingerprint_weights
from hf_reward_ext.base.scoring.conversation import join_turns
from hf_reward_ext.base.scoring.rewards import Rewards
from hf_reward_ext.base.scoring.scorer import Scorer, as_single_scorer
from hf_reward_ext.base.scoring.votes import check_answer
from hf_reward_ext.best_of_n.fitting import FittingBatches
from hf_reward_ext.best_of_n.options import BestOfNOptions
from hf_reward_ext.best_of_n.prompts import check_prompts
from hf_reward_ext.best_of_n.ranking import best_first
from hf_reward_ext.best_of_n.scoring import CandidateScores
from hf_reward_ext.best_of_n.stopping import Drawn, StopRule, as_stop_rule
from hf_reward_ext.best_of_n.waves import draw_in_waves
from hf_reward_ext.confidence.measures import GroupConfidence, Length, MeanLogProbability, Measure
from hf_reward_ext.confidence.names import as_measure
from hf_reward_ext.elhsr.model import ELHSRModel
from hf_reward_ext.engines.generator import Generated, Generator, Prompt, Sampling
from hf_reward_ext.engines.server import ServerGenerator
from hf_reward_ext.engines.vllm import VllmGenerator
from hf_reward_ext.engines.vllm_states import VllmStateGenerator

_OPTIONS = frozenset(one.name for one in fields(BestOfNOptions))
_SAMPLING = frozenset(one.name for one in fields(Sampling)) - {"seed"}
_Wave = tuple[list[Generated], list[float] | None]  # candidates of a prompt, and rewards that the engine's numbers give


@dataclass
class _Group:
    """Candidates of one prompt so far."""

    prompt: Prompt
    scoring: CandidateScores
    candidates: list[Generated] = field(default_factory=list)
    stop_reason: str = "num_candidates"

    def drawn(self, options: BestOfNOptions) -> Drawn:
        counts = [one.num_tokens for one in self.candidates if one.num_tokens is not None]
        if len(counts) < len(self.candidates):
            raise RuntimeError(
                "`stop` needs the number of tokens of each candidate, but the engine returned none. Leave `stop` out."
            )
        texts = [one.text for one in self.candidates]
        answers = None
        if options.vote is not None and options.extract_answer is not None:
            answers = [check_answer(options.extract_answer(text)) for text in texts]
        return Drawn(self.scoring.scores(options), counts, texts, answers)


class EngineBestOfN:
    """
    Best of N with candidates of any engine, such as a server, called as [`BestOfNPipeline`].

    Args:
        generator ([`Generator`]): [`ServerGenerator`], [`ContinuousBatchingGenerator`], [`TransformersGenerator`], or
            an object with the same methods.
        reward_model: Anything that [`as_scorer`] takes. Of the training-free measures `"mean_log_probability"`,
            `"length"`, and with a [`VllmGenerator`] `"confidence"`, computed from the numbers that the engine returns.
            An ELHSR head as an object reads the hidden states of a [`VllmStateGenerator`]; with other engines it reads
            finished texts with its base model: pass its folder, or an [`ELHSRForSequenceClassification`].
        reward_processing_class (*optional*): Tokenizer of a reward model that is passed as an object.
        second_reward_model (*optional*): Second reward, combined with the first one by `combine`.
        **settings: Defaults of the call parameters.

    Call parameters: `num_candidates`, `stop`, `return_all`, `vote`, `extract_answer`, `candidates_per_batch`, `combine`
    and `seed` of [`BestOfNPipeline`], of which `candidates_per_batch="auto"` is for engines in this process;
    `max_new_tokens`, `temperature`, `top_p` and `top_k` of [`Sampling`]; and
        return_full_text (`bool`, defaults to `True`): Whether `generated_text` has the prompt too.

    Returns:
        A list of `dict` per prompt as from [`BestOfNPipeline`]: `generated_text`, `score`, `num_tokens` (`None` if the
        engine does not count tokens), `pruned` (`False`), `answer`, `num_drawn` and `stop_reason`.

    Raises:
        TypeError, ValueError: Before the first request, if an argument or prompt is invalid; afterwards, if the reward
            does not return one number per candidate.
        RuntimeError: If the engine fails, or does not return the numbers that the reward needs.

    Example:
    ```python
    >>> generator = ServerGenerator("http://127.0.0.1:8000/v1", "Qwen/Qwen3-0.6B")
    >>> best_of_n = EngineBestOfN(generator, "path/to/reward_model", num_candidates=16, max_new_tokens=64)
    >>> best_of_n("2+2=")
    [{'generated_text': '2+2=4', 'score': 4.1, 'num_tokens': 2, 'pruned': False}]
    ```
    """

    def __init__(
        self,
        generator: Generator,
        reward_model: Any,
        *,
        reward_processing_class: Any = None,
        second_reward_model: Any = None,
        **settings: Any,
    ):
        if not isinstance(generator, Generator):
            raise TypeError(
                f"`generator` must have the methods `generate` and `describe`, got a `{type(generator).__name__}`. "
                "Pass for example a `ServerGenerator`."
            )
        self.generator = generator
        self.head = _as_head(reward_model, generator)
        self.measure = None if self.head is not None else _as_measure(reward_model, generator)
        is_of_text = self.head is None and self.measure is None
        self.scorer = as_single_scorer(reward_model, reward_processing_class) if is_of_text else None
        self.second_scorer: Scorer | None = None
        if second_reward_model is not None:
            self.second_scorer = as_single_scorer(second_reward_model, reward_processing_class)
        self._fitting = FittingBatches()
        self._settings: dict[str, Any] = {}
        self._read_settings(settings)
        self._settings = settings

    def describe(self) -> dict[str, Any]:
        """Return what the results depend on in addition to prompts and call parameters."""
        scorers = [one for one in (self.scorer, self.second_scorer) if one is not None]
        return {
            "generator": self.generator.describe(),
            "measure": None if self.measure is None else repr(self.measure),
            "head": None if self.head is None else fingerprint_weights(self.head),
            "scorers": [scorer.__name__ for scorer in scorers],
            "models": [fingerprint_weights(model) for scorer in scorers for model in scorer.models],
            "settings": self._settings,
        }

    def __call__(self, prompts: Any, **settings: Any) -> list:
        """
        Write candidates of prompts and rank them.

        Args:
            prompts (`str`, messages, or a `list` of either): One prompt, or prompts of one kind.
            **settings: Call parameters.
        """
        options, sampling, return_full_text = self._read_settings(settings)
        is_one = isinstance(prompts, str) or (len(prompts) > 0 and isinstance(prompts[0], dict))
        many = [prompts] if is_one else list(prompts)
        self.check_prompts(many)
        if options.seed is None:
            sampling = replace(sampling, seed=int(torch.randint(2**32, ())))
        groups = [_Group(prompt, self._scoring(prompt)) for prompt in many]
        self._draw(groups, options, sampling)
        results = [_rank(one, options, return_full_text) for one in groups]
        return results[0] if is_one else results

    def check_prompts(self, prompts: list) -> None:
        """Reject prompts that cannot be continued, before the first request; see [`BestOfNPipeline.check_prompts`]."""
        check_prompts(prompts, _no_tokens)

    def _read_settings(self, given: dict[str, Any]) -> tuple[BestOfNOptions, Sampling, bool]:
        settings = self._settings | given
        unknown = sorted(settings.keys() - _OPTIONS - _SAMPLING - {"return_full_text"})
        if unknown:
            raise TypeError(
                f"Arguments must be among {sorted(_OPTIONS | _SAMPLING | {'return_full_text'})}, got {unknown}. Leave "
                "those out; an engine has no others."
            )
        options = BestOfNOptions().updated({name: settings[name] for name in _OPTIONS & settings.keys()})
        if not isinstance(settings.get("return_full_text", True), bool):
            raise TypeError(
                f"`return_full_text` must be True or False, got {settings['return_full_text']!r}. Pass one of them."
            )
        if options.prune is not None:
            raise ValueError(
                "`prune` was given, but an engine returns finished candidates. Leave it out, or use `BestOfNPipeline`."
            )
        if options.show_progress:
            raise ValueError("`show_progress` must be False: a call waits for all prompts at once. Leave it out.")
        if options.candidates_per_batch == "auto" and isinstance(self.generator, ServerGenerator | VllmGenerator):
            raise ValueError(
                "`candidates_per_batch` must be an integer for a server or vLLM, which manage their own memory, got "
                "'auto'. Leave it out."
            )
        if options.combine is not None and self.second_scorer is None:
            raise ValueError("`combine` needs a `second_reward_model`, got none. Pass one, or leave `combine` out.")
        if options.is_adaptive:
            _stop_rule(options)
        drawn = {name: settings[name] for name in _SAMPLING & settings.keys() if settings[name] is not None}
        sampling = Sampling(**drawn, seed=options.seed or 0)
        sampling.check_variety(options.most_candidates)
        return options, sampling, settings.get("return_full_text", True)

    def _scoring(self, prompt: Prompt) -> CandidateScores:
        name = next(
            getattr(one, "__name__", type(one).__name__)
            for one in (self.head, self.measure, self.scorer)
            if one is not None
        )
        return CandidateScores(prompt, self.scorer, self.second_scorer, name)

    def _draw(self, groups: list[_Group], options: BestOfNOptions, sampling: Sampling) -> None:
        """Draw candidates in waves; all at once without `stop` and `candidates_per_batch`."""

        def draw(waiting: Sequence[_Group], numbers: range) -> None:
            prompts = [one.prompt for one in waiting]

            def sample(part: range) -> list[_Wave]:
                waves = self._write(prompts, len(part), sampling, part.start)
                for wave, _ in waves:
                    self._check_count(wave, len(part))
                return waves

            is_fitting = options.candidates_per_batch == "auto"
            for waves in self._fitting.sample(numbers, len(prompts), sample) if is_fitting else [sample(numbers)]:
                for one, (wave, rewards) in zip(waiting, waves, strict=True):
                    self._add(one, wave, rewards)

        draw_in_waves(groups, options, _stop_rule(options) if options.is_adaptive else None, draw)

    def _write(self, prompts: Sequence[Prompt], count: int, sampling: Sampling, first: int) -> list[_Wave]:
        """Return the candidates of each prompt, with the rewards that come with them."""
        if isinstance(self.generator, VllmStateGenerator) and self.head is not None:
            groups = self.generator.generate_and_read(prompts, count, sampling, first, read=self._read_reward)
            return [([one for one, _ in group], [reward for _, reward in group]) for group in groups]
        waves = self.generator.generate(prompts, count, sampling, first=first)
        if self.measure is None:
            return [(wave, None) for wave in waves]
        return [(wave, [_measured(self.measure, one) for one in wave]) for wave in waves]

    @torch.no_grad()
    def _read_reward(self, states: Sequence[Tensor | None]) -> float:
        head: Any = self.head
        tokens = next(one.shape[1] for one in states if one is not None)
        return float(head(states, torch.ones((1, tokens), dtype=torch.bool, device=head.device)))

    def _check_count(self, wave: Sequence[Generated], count: int) -> None:
        if len(wave) != count:
            raise RuntimeError(
                f"`{type(self.generator).__name__}` must return {count} candidates of each prompt, got {len(wave)}. "
                "Correct its `generate`."
            )

    def _add(self, group: _Group, wave: Sequence[Generated], rewards: list[float] | None) -> None:
        group.candidates += wave
        ids = [one.token_ids for one in wave]
        whole = [one for one in ids if one is not None]
        group.scoring.add([one.text for one in wave], whole if len(whole) == len(ids) else None, rewards)


def _as_head(reward_model: Any, generator: Generator) -> ELHSRModel | None:
    """Return a head that reads the hidden states of the generator, after checking that it can."""
    if not isinstance(reward_model, ELHSRModel) or not isinstance(generator, VllmStateGenerator):
        return None
    config = reward_model.config
    if config.features != "hidden_states":
        raise ValueError(
            f"`reward_model` must read hidden states, got a head with `features={config.features!r}`. Pass the folder "
            "of the head, and a `VllmGenerator`."
        )
    missing = sorted(set(config.layers) - set(generator.layers))
    if missing:
        raise ValueError(
            f"`generator` must give the hidden states {config.layers} of the head, got an engine without {missing}. "
            "Create it with `vllm_state_arguments(head.config.layers, folder)`."
        )
    policy = SimpleNamespace(config=generator.llm.model_config.hf_config)
    check_base(config, policy, generator.tokenizer, what="head")
    return reward_model.eval()


def _as_measure(reward_model: Any, generator: Generator) -> Measure | None:
    if isinstance(reward_model, ELHSRModel):
        raise ValueError(
            "`reward_model` must score finished texts, got an ELHSR head, which reads hidden states. Pass its folder, "
            "or `ELHSRForSequenceClassification`, which reads the texts with the base model, or use a "
            "`VllmStateGenerator`."
        )
    measure = as_measure(reward_model)
    returned = getattr(generator, "top_log_probabilities", 0)
    if isinstance(measure, GroupConfidence) and returned >= measure.num_needed:
        return measure
    if measure is not None and not isinstance(measure, Length | MeanLogProbability):
        raise ValueError(
            f"`reward_model` must be computable from the log-probabilities that the engine returns, got {measure!r}, "
            "which reads more. Pass 'mean_log_probability', or `LogitsRewardModel(policy, measure)`; 'confidence' "
            "needs `VllmGenerator(llm, log_probabilities=True, top_log_probabilities=20)`."
        )
    return measure


def _measured(measure: Measure, one: Generated) -> float:
    if isinstance(measure, Length):
        if one.num_tokens is None:
            raise RuntimeError("'length' needs the number of tokens, but the engine returned none. Use another reward.")
        return measure.per_token * one.num_tokens
    if isinstance(measure, GroupConfidence):
        return measure.of_top(one.top_log_probabilities or [[]])
    if not one.log_probabilities:
        raise RuntimeError(
            "'mean_log_probability' needs log-probabilities, but the engine returned none. Use a server that returns "
            "`logprobs`, pass `log_probabilities=True` to an engine in this process, or use another reward."
        )
    return sum(one.log_probabilities) / len(one.log_probabilities)


def _stop_rule(options: BestOfNOptions) -> StopRule:
    if options.stop == "expected_improvement":
        raise ValueError(
            "`stop='expected_improvement'` needs the price of a token in units of the reward. Pass "
            "`ExpectedImprovement(price_per_token=...)`."
        )
    return as_stop_rule(options.stop)


def _rank(group: _Group, options: BestOfNOptions, return_full_text: bool) -> list[dict]:
    scores: Rewards = group.scoring.final_scores(options)
    records = []
    for one, score in zip(group.candidates, scores, strict=True):
        record: dict[str, Any] = {
            "generated_text": _full_text(group.prompt, one.text) if return_full_text else one.text,
            "score": score,
            "num_tokens": one.num_tokens,
            "pruned": False,
        }
        if options.is_adaptive:
            record |= {"num_drawn": len(group.candidates), "stop_reason": group.stop_reason}
        records.append(record)
    return best_first(records, [one.text for one in group.candidates], options)


def _full_text(prompt: Prompt, text: str) -> Any:
    if isinstance(prompt, str):
        return prompt + text
    return join_turns(prompt, [{"role": "assistant", "content": text}])


def _no_tokens(text: str) -> dict[str, list]:
    """Stand in for a tokenizer without special tokens, so that an empty prompt is an error."""
    return {"input_ids": []}

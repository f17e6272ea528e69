"""Options of the command `bon`."""

import json
import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from hf_reward_ext.base.options import Count, Number, check_count
from hf_reward_ext.base.plugins import plugin_names, plugin_value
from hf_reward_ext.cli.options import (
    DataOptions,
    LoadingOptions,
    PromptOptions,
    SamplingOptions,
    TracedOutputOptions,
    is_function,
    is_training_free,
    is_url,
    option,
)

# Arguments of `vllm.LLM` that follow from other options.
_VLLM_OPTIONS = frozenset({"model", "revision", "tokenizer_revision", "dtype", "trust_remote_code", "runner"})


@dataclass
class ModelOptions:
    """Policy and rewards."""

    title: ClassVar[str] = "models"
    reward_model: str | None = option(
        "ELHSR head or any reward model, by name or folder; MODULE:FUNCTION of (prompts, completions); the address of "
        "a running `serve`; or a training-free reward: confidence, mean_log_probability, self_certainty, "
        "negative_entropy, length",
        metavar="NAME",
        kind="scorer",
    )
    second_reward_model: str | None = option("text reward to combine with the first", metavar="NAME", kind="scorer")
    combine: Literal["min_max", "max_rank"] = option("combination of both", "min_max", needs="second_reward_model")
    model: str | None = option(
        "policy; default: the base of the head or channel", metavar="NAME", kind="model", revision=True
    )


@dataclass
class EngineOptions:
    """Engine that writes the candidates."""

    title: ClassVar[str] = "engine"
    engine: str = option(
        "transformers, continuous_batching (generate_batch), vllm (in this process), the address of a server with the "
        "OpenAI-compatible API, such as http://127.0.0.1:8000/v1, or MODULE:FUNCTION that returns a generator",
        "transformers",
        metavar="NAME",
        kind="engine",
    )
    served_model: str | None = option("name of the policy on the server", metavar="NAME")
    concurrency: Annotated[int | None, Count()] = option(
        "maximum number of requests to the server at a time; default: 16", kind="output"
    )
    request_timeout: Annotated[float | None, Number(above=0)] = option(
        "maximum number of seconds without a byte of an answer; default: 600", kind="output"
    )
    vllm_arguments: str | None = option(
        "further arguments of vllm.LLM, such as '{\"max_model_len\": 2048}', with --engine vllm", metavar="JSON"
    )

    @property
    def has_own_policy(self) -> bool:
        """Whether the engine has its policy elsewhere."""
        return is_url(self.engine) or is_function(self.engine)

    def check_engine(self, model: str | None) -> None:
        """Raise `ValueError` for an unknown engine, and options that do not go with it."""
        if self.vllm_arguments is not None and self.engine != "vllm":
            raise ValueError("--vllm_arguments goes with --engine vllm")
        self.read_vllm_arguments()
        if is_url(self.engine):
            if not self.served_model:
                raise ValueError("--served_model is missing: the name under which the server lists its model")
            if model:
                raise ValueError("--model is a policy in this process; with a server give --served_model alone")
            return
        if is_function(self.engine):
            if model:
                raise ValueError("--model is a policy in this process; this --engine has its own")
        elif self.engine not in ("transformers", "continuous_batching", "vllm"):
            declared = "".join(f"{name}, " for name in plugin_names("generators"))
            raise ValueError(
                f"--engine is transformers, continuous_batching, vllm, {declared}MODULE:FUNCTION, or an address that "
                f"begins with http, not {self.engine!r}"
            )
        for name in ("served_model", "concurrency", "request_timeout"):
            if getattr(self, name) is not None:
                raise ValueError(f"--{name} goes with the address of a server as --engine")

    def read_vllm_arguments(self) -> dict[str, Any]:
        """
        Return `--vllm_arguments`.

        Raises:
            ValueError: If they are not a JSON object, or contain an argument that has an option.
        """
        try:
            found = json.loads(self.vllm_arguments or "{}")
        except ValueError as error:
            raise ValueError(f"--vllm_arguments is no JSON: {error}") from error
        if not isinstance(found, dict):
            raise ValueError(f'--vllm_arguments is an object such as {{"max_model_len": 2048}}, not {found!r}')
        for name in sorted(_VLLM_OPTIONS & found.keys()):
            raise ValueError(
                f"--vllm_arguments contains {name!r}; give --model, --revision, --dtype and --trust_remote_code"
            )
        return found


@dataclass
class CandidateOptions:
    """Candidates of a prompt, and their ranking."""

    title: ClassVar[str] = "candidates"
    num_candidates: Annotated[int, Count(most=100_000)] = option("number of candidates per prompt", 16)
    max_candidates: Annotated[int | None, Count(most=100_000)] = option(
        "maximum number of candidates per prompt, with --stop; --num_candidates is then the minimum"
    )
    stop: Literal["beta", "expected_improvement"] | None = option(
        "rule that ends the sampling of candidates for each prompt: when the vote is decided, or when another "
        "candidate is not worth its tokens"
    )
    stop_probability: Annotated[float | None, Number(above=0, below=1)] = option(
        "probability that the leading answer wins, with --stop beta; default: 0.95"
    )
    price_per_token: Annotated[float | None, Number(least=0)] = option(
        "cost of a token in units of the reward, with --stop expected_improvement; default: 1e-4 of a calibrated "
        "head's probability"
    )
    candidates_per_batch: int | str | None = option(
        "maximum number of candidates of a prompt at a time, or auto: as many as fit in memory", metavar="N"
    )
    vote: Literal["majority", "weighted"] | None = option("vote over answers, which ranks the winning answer first")
    answer_pattern: str | None = option(
        "pattern whose last match in a completion is its answer", metavar="REGEX", needs="vote"
    )
    extract_answer: str | None = option(
        "function from a completion to its answer, or None", metavar="MODULE:FUNCTION", kind="function", needs="vote"
    )
    label: str | None = option(
        "function of one prompt and one completion (text) that returns whether it is right",
        metavar="MODULE:FUNCTION",
        kind="function",
    )
    prune_at: Annotated[list[int] | None, Count()] = option("completion lengths at which weak candidates are dropped")
    prune_keep: Annotated[float, Number(above=0, most=1)] = option("share of candidates to keep", 0.5, needs="prune_at")
    prune_max_gap: Annotated[float | None, Number(least=0)] = option(
        "maximum distance from the best candidate", needs="prune_at"
    )
    prune_min_reward: Annotated[float | None, Number()] = option("least reward that stays", needs="prune_at")
    resample_at: Annotated[list[int] | None, Count()] = option(
        "lengths at which weak candidates are replaced by copies of better ones"
    )
    resample_temperature: Annotated[float, Number(above=0)] = option(
        "temperature of the rewards there", 1.0, needs="resample_at"
    )
    confidence_window: Annotated[int | None, Count()] = option(
        "tokens of a group, with --reward_model confidence; default: 2048"
    )

    def read_candidates_per_batch(self) -> None:
        """Read an integer from the command line; raise `ValueError` for other text than `auto`."""
        given = self.candidates_per_batch
        if isinstance(given, str) and given != "auto":
            if not given.isdecimal():
                raise ValueError(f"--candidates_per_batch must be an integer or auto, got {given!r}")
            self.candidates_per_batch = int(given)
        if self.candidates_per_batch not in (None, "auto"):
            check_count("--candidates_per_batch", self.candidates_per_batch)


@dataclass
class StepOptions:
    """Rewards of the steps of a candidate."""

    title: ClassVar[str] = "steps"
    step_marks: str | None = option(
        "regular expression of what ends a step, or sentences: candidates are ranked by the rewards of their steps",
        metavar="REGEX",
    )
    step_aggregation: Literal["min", "last", "mean", "product"] | None = option(
        "reward of a candidate from those of its steps; default: min"
    )
    step_probabilities: bool = option("read rewards as log-odds, and aggregate probabilities", False)

    def check_steps(self, reward_model: str | None, stops_early: bool) -> None:
        """Raise `ValueError` for options that do not go with steps."""
        if not self.step_marks and (self.step_aggregation or self.step_probabilities):
            raise ValueError("--step_aggregation and --step_probabilities go with --step_marks")
        if self.step_marks and is_training_free(reward_model):
            raise ValueError(f"--step_marks goes with a reward of texts, not with {reward_model}")
        if self.step_marks and stops_early:
            raise ValueError("--step_marks reads finished candidates; leave --prune_at and --resample_at out")
        if self.step_aggregation == "product" and not self.step_probabilities:
            raise ValueError("--step_aggregation product multiplies probabilities; give --step_probabilities")
        try:
            pattern = re.compile(self.step_marks or "x")
        except re.error as error:
            raise ValueError(f"--step_marks {self.step_marks!r} is no regular expression: {error}") from error
        if pattern.match(""):
            raise ValueError(f"--step_marks {self.step_marks!r} matches the empty text; write what ends a step")


@dataclass
class ShapeOptions:
    """Rows of the file."""

    title: ClassVar[str] = "shape of the rows"
    shape: Literal["all", "preference", "sft"] = option(
        "all {prompt, completions, rewards, num_tokens, ...}, preference {prompt, chosen, rejected, margin}, or sft "
        "{prompt, completion, score}",
        "all",
        option="as",
    )
    rejected: Literal["worst", "random"] = option(
        "rejected candidate of preference rows", "worst", needs="shape=preference"
    )
    min_margin: Annotated[float, Number(least=0)] = option(
        "margin that preference rows must exceed", 0.0, needs="shape=preference"
    )
    keep: Annotated[int, Count()] = option("number of sft rows per prompt", 1, needs="shape=sft")
    min_score: Annotated[float | None, Number()] = option("minimum score of sft rows", needs="shape=sft")


@dataclass
class BonOptions(
    ShapeOptions,
    TracedOutputOptions,
    LoadingOptions,
    SamplingOptions,
    CandidateOptions,
    StepOptions,
    DataOptions,
    PromptOptions,
    EngineOptions,
    ModelOptions,
):
    """Options of `bon`."""

    def check(self) -> None:
        """Raise `ValueError` for options that exclude each other."""
        self.reward_model = plugin_value("rewards", self.reward_model)
        self.second_reward_model = plugin_value("rewards", self.second_reward_model)
        self.engine = str(plugin_value("generators", self.engine))
        self.check_prompts(self.data)
        self.check_upload()
        if not self.reward_model:
            raise ValueError("--reward_model is missing: the reward that ranks candidates")
        self.check_engine(self.model)
        self.check_steps(self.reward_model, bool(self.prune_at or self.resample_at))
        self.read_candidates_per_batch()
        if self.chat_template_kwargs and self.has_own_policy:
            raise ValueError("--chat_template_kwargs goes with a policy in this process; set it where the server runs")
        if self.engine != "transformers":
            self._check_finished_candidates()
        names_no_policy = any(one(self.reward_model) for one in (is_function, is_training_free, is_url))
        if names_no_policy and not self.model and not self.has_own_policy:
            what = "a training-free reward" if is_training_free(self.reward_model) else "a function or server"
            raise ValueError(f"--model is missing: {what} as --reward_model does not name the policy to sample from")
        if self.confidence_window and self.reward_model != "confidence":
            raise ValueError("--confidence_window goes with --reward_model confidence")
        if bool(self.stop) != bool(self.max_candidates):
            raise ValueError("--stop and --max_candidates go together: the rule, and where it ends at the latest")
        if self.max_candidates and self.max_candidates < self.num_candidates:
            raise ValueError("--max_candidates is lower than --num_candidates, the least; swap them")
        if self.stop == "beta" and not self.vote:
            raise ValueError("--stop beta counts votes; give --vote")
        if self.stop_probability and self.stop != "beta":
            raise ValueError("--stop_probability goes with --stop beta")
        if self.price_per_token is not None and self.stop != "expected_improvement":
            raise ValueError("--price_per_token goes with --stop expected_improvement")
        if self.temperature == 0 and max(self.num_candidates, self.max_candidates or 1) > 1:
            raise ValueError("--temperature 0 makes all candidates the same; give a positive one")
        if self.answer_pattern and self.extract_answer:
            raise ValueError("--answer_pattern and --extract_answer exclude each other")
        if self.vote and not (self.answer_pattern or self.extract_answer):
            raise ValueError("--vote counts answers; give --answer_pattern or --extract_answer")
        if self.label and self.shape != "all":
            raise ValueError("--label writes labels of all candidates; it goes with --as all")
        if self.shape != "all" and not self.output:
            raise ValueError(f"--as {self.shape} shapes the file; give --output")
        for name in ("html", "traces"):
            if getattr(self, name) and self.shape != "all":
                raise ValueError(f"--{name} shows all candidates; it goes with --as all")
        if self.prune_at and self.resample_at:
            raise ValueError("--prune_at and --resample_at exclude each other")
        if (self.prune_at or self.resample_at) and self.candidates_per_batch:
            given = "--prune_at" if self.prune_at else "--resample_at"
            raise ValueError(f"{given} compares all candidates of a prompt; leave --candidates_per_batch out")
        try:
            re.compile(self.answer_pattern or "")
        except re.error as error:
            raise ValueError(f"--answer_pattern {self.answer_pattern!r} is no regular expression: {error}") from error

    def _check_finished_candidates(self) -> None:
        """Raise `ValueError` for options that need a running `generate`."""
        if self.candidates_per_batch == "auto" and is_url(self.engine):
            raise ValueError("--candidates_per_batch auto goes with an --engine in this process; give a number")
        for name in ("prune_at", "resample_at"):
            if getattr(self, name):
                raise ValueError(f"--{name} goes with --engine transformers; other engines return finished candidates")
        for name in (self.reward_model, self.second_reward_model):
            if name == "confidence" and self.engine != "vllm":
                raise ValueError(f"{name} reads many probabilities; it goes with --engine transformers or vllm")
            if is_training_free(name) and name not in ("mean_log_probability", "length", "confidence"):
                raise ValueError(f"{name} reads all probabilities; it goes with --engine transformers")
        if is_training_free(self.second_reward_model):
            raise ValueError(f"{self.second_reward_model} as --second_reward_model goes with --engine transformers")
        if self.stop == "expected_improvement" and self.price_per_token is None:
            raise ValueError("--stop expected_improvement needs --price_per_token with this engine")

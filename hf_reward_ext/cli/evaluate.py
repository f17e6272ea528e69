"""Command `hf-reward-ext evaluate`: accuracy on pairs, benchmarks and steps, and best-of-N curves."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, ClassVar

from hf_reward_ext.base.options import SEED, Count, Number
from hf_reward_ext.base.plugins import plugin_names, plugin_value
from hf_reward_ext.cli.options import DataOptions, LoadingOptions, is_function, is_training_free, option
from hf_reward_ext.cli.parser import OptionParser, command_parser

logger = logging.getLogger(__name__)
SHORT = "measure a reward model on preference rows, benchmarks or candidates"
DESCRIPTION = """\
Measures how often a reward model or judge prefers the better response, or finds the wrong step of a solution, with
bootstrap intervals. Rows have the columns of the benchmark; best-of-n takes {prompt, completions, labels}."""
EXAMPLES = (
    "--scorer outputs/elhsr --data outputs/data/pairs",
    "--scorer outputs/judge --format rewardbench --data allenai/reward-bench --split filtered --output rb.json",
    "--scorer outputs/elhsr --format best-of-n --data outputs/candidates.jsonl --plot curves.png",
    "--scorer outputs/elhsr --format processbench --data Qwen/ProcessBench --split gsm8k --threshold 0",
)
_STEPS = ("processbench", "prmbench")
FORMATS = ("preference", "rewardbench", "rm-bench", "judgebench", "llmbar", "best-of-n", *_STEPS)
_PAIRS = ("preference", "llmbar", "judgebench")  # formats with two responses, of which chance gets one half
_FILES = ("output", "rows", "markdown", "plot")
_PLOTS = (".png", ".svg", ".pdf", ".jpg", ".jpeg", ".webp")


@dataclass
class EvaluationOptions:
    """Scorer, rows and settings of the evaluation."""

    title: ClassVar[str] = "evaluation"
    scorer: str | None = option(
        "reward model, judge, head, channel or causal LM by name or folder; MODULE:FUNCTION of (prompts, "
        "completions); the address of a running `serve`; or a training-free reward of --policy: confidence, "
        "mean_log_probability, self_certainty, negative_entropy, length",
        metavar="NAME",
        kind="scorer",
        revision=True,
    )
    policy: str | None = option(
        "model whose probabilities a training-free --scorer reads", metavar="NAME", kind="model", revision=True
    )
    format: str = option(
        "columns of the rows: preference, rewardbench, rm-bench, judgebench, llmbar, best-of-n, processbench, "
        "prmbench, or a benchmark of an installed package",
        "preference",
        metavar="NAME",
    )
    threshold: Annotated[float | None, Number()] = option(
        "least reward of an accepted step, with processbench and prmbench: 0 for log-odds, 0.5 for probabilities"
    )
    separator: str | None = option(
        "text between steps, with processbench and prmbench; default: two line breaks", metavar="TEXT"
    )
    chat: bool | None = option(
        "send text prompts as a user's message; default: those of benchmarks, for models with a chat template"
    )
    extract_answer: str | None = option(
        "function of a completion, with best-of-n: adds the votes", metavar="MODULE:FUNCTION", kind="function"
    )
    confidence: Annotated[float, Number(above=0, below=1)] = option("confidence level of intervals", 0.95)
    seed: Annotated[int, SEED] = option("random seed of the bootstrap and of written judgments", 0)
    batch_size: Annotated[int, Count()] = option("number of responses per batch", 16)


@dataclass
class ResultOptions:
    """Output files."""

    title: ClassVar[str] = "output"
    output: str | None = option("JSON file of the numbers", metavar="FILE", kind="output")
    rows: str | None = option("JSON lines file of the results of each row", metavar="FILE", kind="output")
    markdown: str | None = option("Markdown file of the table", metavar="FILE", kind="output")
    plot: str | None = option("png, svg or pdf file; needs matplotlib", metavar="FILE", kind="output")
    overwrite: bool = option("replace existing files once the new ones are complete", False, kind="output")
    report_to: list[str] | None = option(
        "installed experiment trackers for the numbers: tensorboard, wandb, trackio, ...", metavar="NAME", kind="output"
    )
    model_card: bool = option("add the numbers to the card in the scorer's folder", False, kind="output")
    dataset_title: str | None = option("title of the data in the card (default: --data)", metavar="TEXT", kind="output")


@dataclass
class EvaluateOptions(ResultOptions, LoadingOptions, DataOptions, EvaluationOptions):
    """Options of `evaluate`."""

    def check(self) -> None:
        """Raise `ValueError` for options that exclude each other."""
        self.scorer = plugin_value("rewards", self.scorer)
        if not self.scorer:
            raise ValueError("--scorer is missing: the reward model to evaluate")
        formats = [*FORMATS, *plugin_names("benchmarks")]
        if self.format not in formats:
            raise ValueError(f"--format must be one of {', '.join(formats)}, got {self.format!r}")
        if not self.data:
            raise ValueError("--data is missing: the rows to evaluate")
        if is_training_free(self.scorer) != bool(self.policy):
            raise ValueError(
                "--policy goes with a training-free --scorer (confidence, ...), whose probabilities it has; give both "
                "or neither"
            )
        if self.extract_answer and self.format != "best-of-n":
            raise ValueError("--extract_answer goes with --format best-of-n")
        if self.rows and self.format == "best-of-n":
            raise ValueError("--rows goes with pairs, not with --format best-of-n")
        if self.chat is not None and self.format == "best-of-n":
            raise ValueError("--chat goes with pairs; prompts of candidates stay as they were sampled")
        if self.format in _STEPS and self.threshold is None:
            raise ValueError(f"--threshold is missing: the least reward of an accepted step of {self.format}")
        for name in ("threshold", "separator"):
            if getattr(self, name) is not None and self.format not in _STEPS:
                raise ValueError(f"--{name} goes with --format {' or '.join(_STEPS)}")
        if self.plot and Path(self.plot).suffix.lower() not in _PLOTS:
            raise ValueError(f"--plot must end with one of {', '.join(_PLOTS)}, got {self.plot!r}")
        if self.plot and find_spec("matplotlib") is None:
            raise ValueError("--plot needs matplotlib: pip install 'hf_reward_ext[plot]'")


def parser() -> OptionParser:
    """Return the parser of the command."""
    return command_parser("evaluate", EvaluateOptions, DESCRIPTION, EXAMPLES)


def parse(arguments: Sequence[str]):
    """Parse the options, and the flags of every command."""
    return parser().parse_command(arguments)


def run(options: EvaluateOptions) -> dict | None:
    """Evaluate, print the table, and write the output files; other processes score rows for the first one."""
    from hf_reward_ext.cli.processes import own_rank
    from hf_reward_ext.cli.split_scorer import others_waiting, score_for_the_first

    if own_rank() != 0:
        score_for_the_first(partial(_load_scorer, options))
        return None
    with others_waiting():
        return _run(options)


def _run(options: EvaluateOptions) -> dict:
    from hf_reward_ext.base.saving.json_values import digest
    from hf_reward_ext.cli.outputs import check_outputs, settings_of, shown_settings
    from hf_reward_ext.cli.prompts import read_data
    from hf_reward_ext.cli.results import ResultFiles
    from hf_reward_ext.cli.tracking import track

    check_outputs(options, *_FILES)
    card = Path(str(options.scorer)) / "README.md"
    if options.model_card and not card.is_file():
        raise FileNotFoundError(f"`--model_card` must find a card, but there is no {str(card)!r}. Leave it out.")
    rows = _read(options, read_data(options))
    settings = {**settings_of(options), "rows": digest([str(row) for row in rows])}
    named = {name: Path(path) for name in _FILES if (path := getattr(options, name)) is not None}
    with ResultFiles(named, settings, options.overwrite) as files:
        if files.finished is not None and not options.model_card:
            report = files.finished
            print(_table(report))
        else:
            result = _evaluate(options, rows, files)
            print(result.to_markdown())
            report = {"command": "evaluate", "versions": _versions(), **result.to_dict()}
            report = files.write(report, _contents(result))
            if options.model_card:
                _add_to_card(options, result)
            files.finish()
    _note_chance(options.format, report["estimates"])
    numbers = {name: estimate["value"] for name, estimate in report["estimates"].items()}
    track(options.report_to, "evaluate", shown_settings(options), numbers)
    return report


def _read(options: EvaluateOptions, rows: Any) -> list:
    """Read and check the rows before a model is loaded; errors name the row."""
    from hf_reward_ext.evaluation.candidates import read_candidate_rows
    from hf_reward_ext.evaluation.evaluate import read_benchmark
    from hf_reward_ext.evaluation.steps import read_step_rows

    rows = list(rows)
    if options.format == "best-of-n":
        read_candidate_rows(rows)
    elif options.format in _STEPS:
        read_step_rows(rows, options.format)
    else:
        read_benchmark(rows, options.format)
    return rows


def _evaluate(options: EvaluateOptions, rows: list, files: Any) -> Any:
    from hf_reward_ext.cli.folders import loading
    from hf_reward_ext.cli.functions import load_function
    from hf_reward_ext.cli.split_scorer import split_scorer
    from hf_reward_ext.evaluation import evaluate_best_of_n, evaluate_preferences, evaluate_steps

    extract = load_function(options.extract_answer, "--extract_answer", ("",)) if options.extract_answer else None
    settings: dict[str, Any] = dict(
        batch_size=options.batch_size, confidence=options.confidence, seed=options.seed, show_progress=True
    )
    with loading(str(options.policy or options.scorer), "--policy" if options.policy else "--scorer"):
        loaded = _load_scorer(options)
    scorer = files.resume(split_scorer(loaded), options.seed)
    if options.format == "best-of-n":
        return evaluate_best_of_n(scorer, rows, extract_answer=extract, **settings)
    if options.format in _STEPS:
        given = {} if options.separator is None else {"separator": options.separator}
        settings |= dict(threshold=options.threshold, conversational=options.chat, **given)
        return evaluate_steps(scorer, rows, options.format, **settings)
    return evaluate_preferences(scorer, rows, options.format, conversational=options.chat, **settings)


def _load_scorer(options: EvaluateOptions) -> Any:
    from hf_reward_ext.base.scoring.scorer import as_scorer
    from hf_reward_ext.cli.memory import check_memory
    from hf_reward_ext.cli.models import load_causal_lm, load_scorer, load_tokenizer, loading_settings, on_device
    from hf_reward_ext.confidence import LogitsRewardModel

    check_memory(options)
    if not is_training_free(options.scorer):
        name = str(options.scorer)
        loaded = load_scorer(name, "--scorer", options, options.batch_size, options.revision)
        if not is_function(name):
            loaded.__name__ = Path(name).resolve().name if Path(name).is_dir() else name  # of results, not a class
        return loaded
    name, settings = str(options.policy), {"revision": options.revision, **loading_settings(options)}
    tokenizer = load_tokenizer(name, revision=options.revision, trust_remote_code=options.trust_remote_code)
    policy = on_device(load_causal_lm(name, **settings), options)
    return as_scorer(LogitsRewardModel(policy, str(options.scorer)), tokenizer, options.batch_size)


def _note_chance(format: str, estimates: dict[str, dict[str, float]]) -> None:
    """Log that an accuracy on pairs may be that of a coin."""
    accuracy = estimates.get("accuracy")
    if format in _PAIRS and accuracy is not None and accuracy["lower"] <= 0.5 <= accuracy["upper"]:
        logger.warning(
            "The interval of the accuracy contains 50 %: on these rows the scorer may be no better than chance. "
            "Evaluate more rows."
        )


def _contents(result: Any) -> dict[str, Any]:
    """Return the contents of each file other than the report: text, or a function that writes it."""
    rows = getattr(result, "rows", [])
    return {
        "rows": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows),
        "markdown": result.to_markdown() + "\n",
        "plot": result.plot,
    }


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("hf_reward_ext", "torch", "transformers")}


def _table(report: dict) -> str:
    """Return the table of an existing report."""
    from hf_reward_ext.base.stats.intervals import Estimate
    from hf_reward_ext.evaluation.table import estimates_to_markdown

    estimates = {name: Estimate(**values) for name, values in report["estimates"].items()}
    what = f"{report['scorer']}, from an earlier run; {report['confidence']:.0%} bootstrap intervals."
    return estimates_to_markdown(estimates, what)


def _add_to_card(options: EvaluateOptions, result: Any) -> None:
    from hf_reward_ext.evaluation import add_to_model_card

    named: tuple = (options.dataset_title or options.data, options.data, options.split)
    if options.format not in ("preference", "best-of-n"):
        named = (options.dataset_title, None, options.split)  # benchmarks have names
    add_to_model_card(str(options.scorer), result.to_eval_results(*named))

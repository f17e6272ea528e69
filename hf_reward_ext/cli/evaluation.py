"""The work of `evaluate`."""

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import cast

from hf_reward_ext.base.saving.atomic import replace_file
from hf_reward_ext.cli.scorers import load_function, load_scorer
from hf_reward_ext.cli.work import read_data
from hf_reward_ext.evaluation import (
    BestOfNEvaluation,
    PreferenceEvaluation,
    add_to_model_card,
    evaluate_best_of_n,
    evaluate_preferences,
)


def evaluate(args: Namespace) -> dict:
    """Scores all rows."""
    card = Path(args.scorer) / "README.md"
    if args.model_card and not card.is_file():
        raise FileNotFoundError(f"`--model_card` was given, but there is no {str(card)!r}. Leave it out.")
    extract = load_function(args.extract_answer) if args.extract_answer else None
    rows = read_data(args)
    settings: dict = dict(batch_size=args.batch_size, confidence=args.confidence, seed=args.seed, show_progress=True)
    scorer = load_scorer(args.scorer, args)
    if args.format == "best-of-n":
        result = evaluate_best_of_n(scorer, cast(list, rows), extract_answer=extract, **settings)
    else:
        conversational = True if args.chat else None
        result = evaluate_preferences(
            scorer, cast(list, rows), args.format, conversational=conversational, **settings
        )  # fmt: skip
    report = {"command": "evaluate", **result.to_dict()}
    print(result.to_markdown())
    _write_all(args, result, report)
    return report


def _write_all(args: Namespace, result: PreferenceEvaluation | BestOfNEvaluation, report: dict) -> None:
    if args.output:
        _write(args.output, json.dumps(report, indent=1) + "\n")
    if args.rows and isinstance(result, PreferenceEvaluation):
        _write(args.rows, "".join(json.dumps(row) + "\n" for row in result.rows))
    if args.markdown:
        _write(args.markdown, result.to_markdown() + "\n")
    if args.plot:
        _replace(args.plot, result.plot)
    if args.model_card:
        named = (args.dataset_title or args.data, args.data, args.split)
        if args.format not in ("preference", "best-of-n"):
            named = (args.dataset_title, None, args.split)  # benchmarks have names of their own
        add_to_model_card(args.scorer, result.to_eval_results(*named))  # pyright: ignore[reportArgumentType]


def _write(path: str, text: str) -> None:
    _replace(path, lambda part: part.write_text(text, encoding="utf-8"))


def _replace(path: str, write: Callable[[Path], object]) -> None:
    """Writes beside the file and moves it there when it is whole."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, write)

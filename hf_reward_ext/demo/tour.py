"""Demo run that trains the models of each method and prints one table."""

import json
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import torch
import transformers
from rich.console import Console
from rich.table import Table

from hf_reward_ext.base.saving.atomic import replace_file, replace_text
from hf_reward_ext.demo import elhsr
from hf_reward_ext.demo.elhsr import Result
from hf_reward_ext.demo.policy import load_policy


@dataclass(frozen=True)
class TourSize:
    """Numbers of labeled completions for training and of held-out problems."""

    num_train: int
    num_test: int


FULL = TourSize(num_train=2000, num_test=500)
SMALL = TourSize(num_train=160, num_test=24)


def run_tour(output: str | Path, size: TourSize = FULL, seed: int = 0) -> list[Result]:
    """
    Run every method on the demo policy, and write `results.json` and, with matplotlib, `accuracy.png`.

    Args:
        output (`str` or `Path`): Folder for results and heads.
        size ([`TourSize`]): Size of the run; `FULL` takes minutes, `SMALL` seconds.
        seed (`int`): Random seed.

    Returns:
        Rows of the table.
    """
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    policy, tokenizer = load_policy()
    results = [
        *elhsr.compare(policy, tokenizer, folder, num_train=[size.num_train], num_test=size.num_test, seed=seed),
        *elhsr.compare_pruning(
            policy, tokenizer, folder, num_train=size.num_train // 2, num_test=size.num_test // 2, seed=seed
        ),
    ]
    seconds = time.perf_counter() - started
    _print(results, seconds)
    _write(results, seconds, size, seed, folder)
    return results


def _print(results: list[Result], seconds: float) -> None:
    table = Table(title=f"Reward at generation time, on the demo policy ({seconds:.0f} s)")
    for column in ("task", "method", "what it did"):
        table.add_column(column)
    for column in ("accuracy [95 %]", "tokens", "seconds"):
        table.add_column(column, justify="right")
    for row in results:
        seconds_shown = f"{row.seconds:.1f}" if row.seconds else ""
        table.add_row(row.task, row.method, row.what, str(row.accuracy), f"{row.tokens:.0f}", seconds_shown)
    Console(width=130).print(table)


def _write(results: list[Result], seconds: float, size: TourSize, seed: int, folder: Path) -> None:
    report = {
        "date": date.today().isoformat(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "threads": torch.get_num_threads(),
        "seed": seed,
        **vars(size),
        "seconds": round(seconds, 1),
        "results": [{**row._asdict(), "accuracy": row.accuracy._asdict()} for row in results],
    }
    replace_text(folder / "results.json", json.dumps(report, indent=1) + "\n")
    try:
        import matplotlib
    except ModuleNotFoundError:
        print("No plot: install the extra with `pip install 'hf_reward_ext[plot]'`.")
        return
    matplotlib.use("agg")
    replace_file(folder / "accuracy.png", lambda draft: _plot(results, draft))


def _plot(results: list[Result], path: Path) -> None:
    from matplotlib import pyplot

    tasks = list(dict.fromkeys(row.task for row in results))
    figure, axes = pyplot.subplots(1, len(tasks), figsize=(6 * len(tasks), 4), layout="constrained")
    for axis, task in zip(axes, tasks, strict=True):
        rows = [row for row in results if row.task == task]
        values = [row.accuracy.value for row in rows]
        below = [row.accuracy.value - row.accuracy.lower for row in rows]
        above = [row.accuracy.upper - row.accuracy.value for row in rows]
        axis.barh([row.method for row in rows], values, xerr=[below, above], capsize=3)
        axis.invert_yaxis()
        axis.set(title=task, xlabel="accuracy on held-out problems", xlim=(0, 1))
    figure.savefig(path, dpi=120)
    pyplot.close(figure)

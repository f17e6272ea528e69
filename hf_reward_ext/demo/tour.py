"""Demo run: trains models of each method, compares them with their controls, and writes tables, plots and a page."""

import json
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import NamedTuple

import torch
import transformers
from rich.console import Console
from rich.table import Table
from transformers.utils.logging import is_progress_bar_enabled

from hf_reward_ext.base.saving.atomic import replace_text
from hf_reward_ext.demo import elhsr_comparison, fast_slow, genarm, sla
from hf_reward_ext.demo.comparison import Comparison, beyond_oracle
from hf_reward_ext.demo.page import write_page
from hf_reward_ext.demo.plots import plot_comparisons
from hf_reward_ext.demo.setup import Setup, TourSize

FULL = TourSize(
    num_train=2000,
    num_test=500,
    num_walks=1000,
    guide_steps=100,
    style_steps=60,
    channel_epochs=6,
    head_epochs=60,
    judge_pairs=4000,
    seconds={"GenARM": 60, "SLA": 30, "Fast-Slow": 60, "ELHSR": 130},
)
SMALL = TourSize(
    num_train=64,
    num_test=16,
    num_walks=24,
    guide_steps=2,
    style_steps=1,
    channel_epochs=1,
    head_epochs=4,
    judge_pairs=32,
    seconds={"GenARM": 4, "SLA": 2, "Fast-Slow": 3, "ELHSR": 6},
)


class Stage(NamedTuple):
    """One method of the demo: its name, its comparison, and the folders of its models."""

    method: str
    compare: Callable[[Setup], Comparison]
    models: tuple[str, ...]


STAGES = (
    Stage(genarm.METHOD, genarm.compare, ("genarm/guide", "genarm/style-guide")),
    Stage(sla.METHOD, sla.compare, ("sla",)),
    Stage(fast_slow.METHOD, fast_slow.compare, ("judge",)),
    Stage(elhsr_comparison.METHOD, elhsr_comparison.compare, ("elhsr-{num_train}", "elhsr-walk")),
)


def run_tour(output: str | Path, size: TourSize = FULL, seed: int = 0, overwrite: bool = False) -> list[Comparison]:
    """
    Run every method on the demo policy, and write results, a page and, with matplotlib, plots.

    A method whose results are complete is not run again, so that an interrupted run continues.

    Args:
        output (`str` or `Path`): Folder for `results.json`, `index.html`, plots and models.
        size ([`TourSize`]): Size of the run; `FULL` takes minutes, `SMALL` seconds.
        seed (`int`): Random seed.
        overwrite (`bool`, *optional*, defaults to `False`): Whether to run everything again.

    Returns:
        Comparison of each method.

    Raises:
        ValueError: If the folder has results of another seed, size or version of the libraries, or a damaged file.
    """
    folder = Path(output)
    settings = {"seed": seed, **size.settings, "versions": versions()}
    if overwrite:
        for stage in STAGES:
            stage_file(folder, stage.method).unlink(missing_ok=True)
    finished = _finished(folder, settings)
    console = Console(width=130)
    progress = Console(width=130, quiet=not is_progress_bar_enabled())
    _announce(progress, size, finished)
    setup, found = Setup(folder, size, seed), []
    for number, stage in enumerate(STAGES, start=1):
        if stage.method not in finished:
            progress.rule(f"{number} of {len(STAGES)}: {stage.method}, about {size.seconds[stage.method]} s")
            finished[stage.method] = _run(stage, setup, settings)
        found.append(finished[stage.method])
        _print(console, found[-1])
    _write(folder, found, settings)
    return found


def versions() -> dict[str, str]:
    """Return the versions that results depend on."""
    return {"torch": torch.__version__, "transformers": transformers.__version__}


def stage_file(folder: Path, method: str) -> Path:
    """Return the file of a finished method."""
    return folder / "methods" / f"{method.lower()}.json"


def _finished(folder: Path, settings: dict) -> dict[str, Comparison]:
    """Return the comparisons that are complete, with their models."""
    found = {}
    for stage in STAGES:
        file = stage_file(folder, stage.method)
        if not file.exists():
            continue
        comparison = _read(file, settings)
        if all((folder / name.format(**settings)).is_dir() for name in stage.models):
            found[stage.method] = comparison
    return found


def _read(file: Path, settings: dict) -> Comparison:
    """Return the results in a file, which must have been written with these settings."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        before, comparison = record["settings"], Comparison.from_json(record["comparison"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{str(file)!r} must be a file of the demo, but it cannot be read ({error}). Choose another folder, or "
            "replace it with --overwrite."
        ) from error
    changed = [name for name in settings if before.get(name) != settings[name]]
    if changed:
        raise ValueError(
            f"`--output` must be a folder without results of other settings, but {str(file)!r} was made with "
            + ", ".join(f"{name} {before.get(name)} (now {settings[name]})" for name in changed)
            + ". Choose another folder, or replace it with --overwrite."
        )
    return comparison


def _announce(console: Console, size: TourSize, finished: dict[str, Comparison]) -> None:
    open_stages = [stage.method for stage in STAGES if stage.method not in finished]
    for method in finished:
        console.print(f"{method} is finished; --overwrite runs it again.", highlight=False)
    if open_stages:
        parts = ", ".join(f"{method} {size.seconds[method]} s" for method in open_stages)
        total = sum(size.seconds[method] for method in open_stages)
        console.print(f"About {total} s on 2 CPU cores with nothing else running: {parts}.", highlight=False)


def _run(stage: Stage, setup: Setup, settings: dict) -> Comparison:
    """Run a method from its own random state, and store its results."""
    started = time.perf_counter()
    torch.manual_seed(setup.seed)
    comparison = stage.compare(setup)
    comparison = comparison._replace(seconds=round(time.perf_counter() - started, 1))
    better = beyond_oracle(comparison)
    if better:
        raise RuntimeError(f"{stage.method}: {better} are right where the oracle of their candidates is not.")
    record = {"settings": settings, "comparison": comparison.to_json()}
    file = stage_file(setup.folder, stage.method)
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_text(file, json.dumps(record) + "\n")
    return comparison


def _print(console: Console, comparison: Comparison) -> None:
    table = Table(title=f"{comparison.method} on the demo policy ({comparison.seconds:.0f} s)")
    for column in ("task", "way", "what it did"):
        table.add_column(column)
    for column in ("accuracy [95 %]", "tokens", "seconds"):
        table.add_column(column, justify="right")
    for way in comparison.ways:
        seconds = f"{way.seconds:.1f}" if way.seconds else ""
        table.add_row(way.task, way.name, way.what, str(way.accuracy), f"{way.tokens:.0f}", seconds)
    console.print(table)


def _write(folder: Path, found: list[Comparison], settings: dict) -> None:
    report = {
        "date": date.today().isoformat(),
        **settings,
        "threads": torch.get_num_threads(),
        "seconds": round(sum(comparison.seconds for comparison in found), 1),
        "methods": {comparison.method: comparison.to_json() for comparison in found},
    }
    replace_text(folder / "results.json", json.dumps(report, indent=1) + "\n")
    plots = plot_comparisons(found, folder)
    write_page(folder / "index.html", found, report, plots)

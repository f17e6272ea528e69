"""Interleaved timing of several methods, A B C A B C ..., so that drifts of the machine's speed affect all of them."""

import statistics
import time
from collections.abc import Callable
from datetime import date

import torch
import transformers


def interleaved(ways: dict[str, Callable[[], object]], repeats: int, warm_up: bool = True) -> dict[str, float]:
    """Return the median seconds of each method."""
    if warm_up:
        for run in ways.values():
            run()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, run in ways.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def print_table(title: str, rows: list[tuple], header: tuple) -> None:
    """Print a Markdown table with the date and the versions."""
    print(f"\n### {title}\n")
    print(f"{date.today()}, torch {torch.__version__}, transformers {transformers.__version__}, ", end="")
    print(f"{torch.get_num_threads()} threads\n")
    print("| " + " | ".join(header) + " |")
    print("|" + "|".join("---" if index == 0 else "---:" for index in range(len(header))) + "|")
    for row in rows:
        print(
            "| " + " | ".join(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row) + " |",
            flush=True,
        )

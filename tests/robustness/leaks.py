"""
Thousands of calls on one object, every tenth of them failing in the middle: memory, hooks, patched attributes and
objects must not grow. Run by `make robustness`; continues where it stopped.

    python tests/robustness/leaks.py [--calls N] [--pipeline_calls N] [--output FILE] [--plot FILE]
"""

import argparse
import ctypes
import gc
import json
import re
import sys
import threading
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from objects import SUBJECTS, Subject, failing  # noqa: E402
from torch import nn  # noqa: E402
from transformers import GenerationMixin  # noqa: E402

NUM_POINTS = 20
ERRORS = (RuntimeError, KeyboardInterrupt, MemoryError)
WARM_UP = 40  # calls before the first point: caches of Python and torch fill
# Growth of the process that is none of ours.
ALLOWED = {"rss_mb": 8.0, "objects": 400, "hooks": 0, "attributes": 0, "patched": 0, "threads": 0}


def check_calls(
    subject: Subject, count: int, num_points: int = NUM_POINTS, warm_up: int = WARM_UP
) -> list[dict[str, float]]:
    """
    Calls an object many times and measures in between; raises if a result changes.

    Args:
        subject ([`Subject`]): What is called.
        count (`int`): How often.
        num_points (`int`, *optional*): How often to measure.
        warm_up (`int`, *optional*): Calls before the first point.

    Returns:
        `list[dict]`: At each point the number of calls, and what may not grow.
    """
    expected = subject.call(0)
    points = []
    for number in range(count + warm_up):
        if number % 10 == 5:
            _fail(subject, number)
        else:
            subject.call(number)
        done = number + 1 - warm_up
        if done >= 0 and done % max(1, count // num_points) == 0:
            if subject.call(0) != expected:
                raise RuntimeError(f"Call {number} must give what the first one gave.")
            points.append({"calls": done, **measure(subject.models)})
    return points


def _fail(subject: Subject, number: int) -> None:
    error = ERRORS[number // 10 % len(ERRORS)]
    try:
        with failing(subject.models[number // 10 % len(subject.models)], error, at=number // 10 % 3):
            subject.call(number)
    except error as raised:
        if "on purpose" not in str(raised):
            raise


def measure(models: tuple[nn.Module, ...]) -> dict[str, float]:
    """Memory of the process, and what hangs on the models."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what is free is not counted
    modules = {id(module): module for model in models for module in model.modules()}.values()
    hooks = [getattr(module, name) for module in modules for name in ("_forward_hooks", "_forward_pre_hooks")]
    status = Path("/proc/self/status").read_text()
    anonymous = int(re.search(r"RssAnon:\s+(\d+) kB", status)[1])  # pages of files come and go with the machine's load
    return {
        "rss_mb": round(anonymous / 2**10, 1),
        "objects": len(gc.get_objects()),
        "hooks": sum(map(len, hooks)),
        "attributes": sum(len(vars(module)) for module in modules),
        "patched": _depth(GenerationMixin.generate),
        "threads": threading.active_count(),
    }


def _depth(function: Any) -> int:
    """How often a function is wrapped."""
    depth = 0
    while hasattr(function, "__wrapped__"):
        function, depth = function.__wrapped__, depth + 1
    return depth


def growth(points: list[dict[str, float]]) -> dict[str, float]:
    """From the mean of the first quarter of the points to that of the last."""
    size = max(1, len(points) // 4)
    means = [
        {name: sum(point[name] for point in some) / size for name in ALLOWED}
        for some in (points[:size], points[-size:])
    ]
    return {name: round(means[1][name] - means[0][name], 2) for name in ALLOWED}


def find_leaks(points: list[dict[str, float]]) -> dict[str, float]:
    """What grew by more than is allowed."""
    return {name: value for name, value in growth(points).items() if value > ALLOWED[name]}


def plot(results: dict[str, list[dict]], path: Path) -> None:
    """Memory and objects over the calls."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for axis, name, title in zip(axes, ("rss_mb", "objects"), ("memory, MB", "objects"), strict=True):
        for what, points in results.items():
            values = [point[name] - points[0][name] for point in points]
            axis.plot([point["calls"] for point in points], values, label=what)
        axis.set(xlabel="calls", title=f"{title}, over the first point", ylim=(-20, 20))
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=7, ncols=2)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--pipeline_calls", type=int, default=10_000)
    parser.add_argument("--output", type=Path, default=Path("outputs/robustness/leaks.json"))
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    results = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    for title, make in SUBJECTS.items():
        if title not in results:
            wanted = arguments.pipeline_calls if title == "pipeline" else arguments.calls
            results[title] = check_calls(make(True), wanted)
            arguments.output.write_text(json.dumps(results))
        print(f"{title:18} {results[title][-1]['calls']} calls, growth {growth(results[title])}", flush=True)
    if arguments.plot:
        plot(results, arguments.plot)
    sys.exit(any(find_leaks(points) for points in results.values()))

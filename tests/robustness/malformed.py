"""
Tries malformed input on every command and counts what becomes of it. Run by `make robustness`.

    python tests/robustness/malformed.py [--every N] [--show OUTCOME]
"""

import argparse
import io
import os
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from malformed_cases import LINES, METHODS, SERVE, USES, Case, all_cases, make_inputs, train_line  # noqa: E402
from torch.nn.modules.module import register_module_forward_pre_hook  # noqa: E402
from transformers import PreTrainedModel  # noqa: E402

from hf_reward_ext.cli.main import main  # noqa: E402

OWN, FOREIGN = "own message", "foreign message"
BEFORE, AFTER = "before a forward", "after a forward"
ACCEPTED = "accepted"


class Outcome(NamedTuple):
    """What became of a case."""

    kind: str
    message: str


def run(case: Case, folder: Path) -> Outcome:
    """Runs a case in a folder of inputs, in this process."""
    if case.prepare is not None:
        case.prepare(folder)
    forwards: list[None] = []
    hook = register_module_forward_pre_hook(
        lambda module, _: forwards.append(None) if isinstance(module, PreTrainedModel) else None
    )
    out, error, place = io.StringIO(), io.StringIO(), os.getcwd()
    os.chdir(folder)
    try:
        # A server that would start ends at once.
        not_served = patch("uvicorn.Server.run", lambda server, sockets: None)
        with redirect_stdout(out), redirect_stderr(error), warnings.catch_warnings(), not_served:
            warnings.simplefilter("ignore")
            main([*case.arguments, "--debug"])
        return Outcome(ACCEPTED, _last(out.getvalue()))
    except SystemExit as end:
        kind = _refused(True, forwards) if end.code == 2 else ACCEPTED
        return Outcome(kind, _last(error.getvalue()))
    except Exception as raised:
        return Outcome(_refused(_is_ours(raised), forwards), f"{type(raised).__name__}: {raised}")
    finally:
        os.chdir(place)
        hook.remove()


def _refused(is_ours: bool, forwards: list) -> str:
    return f"{OWN if is_ours else FOREIGN}, {AFTER if forwards else BEFORE}"


def _is_ours(error: BaseException) -> bool:
    """Whether our code raised it, and did not only let it pass."""
    return "hf_reward_ext" in traceback.extract_tb(error.__traceback__)[-1].filename


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


def check_controls(folder: Path) -> None:
    """Raises if a command line that is all right is refused: then refusals would mean nothing."""
    lines = {**LINES, "serve": SERVE, **{kind: use.format(kind) for kind, use in USES.items()}}
    lines |= {f"train {method}": train_line(method) + " --dataset_name pairs.jsonl" for method in METHODS}
    for name, line in lines.items():
        outcome = run(Case("controls", name, tuple(line.split())), folder)
        if outcome.kind != ACCEPTED:
            raise RuntimeError(f"The control {name} ({line}) must be accepted, got {outcome}.")


def count(cases: list[Case], folder: Path) -> dict[str, list[tuple[Case, Outcome]]]:
    """Outcomes of cases, by kind; controls are accepted before and after."""
    found: dict[str, list[tuple[Case, Outcome]]] = {}
    check_controls(folder)
    for case in cases:
        outcome = run(case, folder)
        found.setdefault(outcome.kind, []).append((case, outcome))
    check_controls(folder)
    return found


def print_counts(found: dict[str, list[tuple[Case, Outcome]]], shown: str | None) -> None:
    groups = sorted({case.group for results in found.values() for case, _ in results})
    for kind, results in sorted(found.items()):
        by_group = Counter(case.group for case, _ in results)
        print(f"{len(results):5} {kind:36}" + "  ".join(f"{group} {by_group[group]}" for group in groups))
        for case, outcome in results if shown is not None and shown in kind else []:
            print(f"      {case.name}: {outcome.message[:200]}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="take each N-th case")
    parser.add_argument("--show", help="list cases whose outcome contains this")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        make_inputs(Path(place))
        tried = all_cases()[:: arguments.every]
        outcomes = count(tried, Path(place))
    print(f"{len(tried)} cases")
    print_counts(outcomes, arguments.show)

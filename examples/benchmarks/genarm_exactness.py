"""
Exactness table: `python examples/benchmarks/genarm_exactness.py --draws 30`.

Every decoding mode on random models in float64, compared with a reference without caches that reads each row alone. A
cell counts the draws with a different token. Errors of `generate` itself are listed below the table.
"""

import argparse
import sys
from datetime import date
from pathlib import Path

import torch
import transformers

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from guided_reference import MODES, Draw  # noqa: E402
from tiny import ARCHITECTURES  # noqa: E402

WAYS = ("processor", "composite")


def wrong(draw: Draw, way: str, mode: str, expected: torch.Tensor, errors: set[str]) -> int | None:
    """Return 1 if any token differs, and None if the mode cannot be run."""
    try:
        return int(not torch.equal(getattr(draw, way)(mode), expected))
    except (ValueError, NotImplementedError, AttributeError) as error:
        errors.add(f"{mode}, {way}: {type(error).__name__}: {str(error).splitlines()[0][:160]}")
        return None


def count(architecture: str, draws: int, guides: tuple[int, ...]) -> tuple[dict[tuple[str, str], str], set[str]]:
    """Return the cells of one architecture, and its errors."""
    results: dict[tuple[str, str], list[int | None]] = {(mode, way): [] for mode in MODES for way in WAYS}
    errors: set[str] = set()
    for num_guides in guides:
        for seed in range(draws):
            draw = Draw(architecture, num_guides, seed)
            for mode in MODES:
                expected = draw.reference(mode)
                for way in WAYS:
                    results[mode, way].append(wrong(draw, way, mode, expected, errors))
    cells = {}
    for key, values in results.items():
        cells[key] = "error" if None in values else f"{sum(filter(None, values))}/{len(values)}"
    return cells, errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=30)
    parser.add_argument("--guides", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--architectures", nargs="+", choices=ARCHITECTURES, default=list(ARCHITECTURES))
    args = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    cells, errors = {}, {}
    for architecture in args.architectures:
        cells[architecture], errors[architecture] = count(architecture, args.draws, tuple(args.guides))
        print(f"{architecture}: done", file=sys.stderr, flush=True)
    print(f"{date.today()}, torch {torch.__version__}, transformers {transformers.__version__}, float64, ", end="")
    print(f"{args.draws} draws for each of K = {args.guides}; wrong/all\n")
    print("| mode | way | " + " | ".join(args.architectures) + " |")
    print("|---|---|" + "---:|" * len(args.architectures))
    for mode in MODES:
        for way in WAYS:
            print(f"| {mode} | {way} | " + " | ".join(cells[name][mode, way] for name in args.architectures) + " |")
    for architecture, messages in errors.items():
        for message in sorted(messages):
            print(f"\n* {architecture}, {message}")


if __name__ == "__main__":
    main()

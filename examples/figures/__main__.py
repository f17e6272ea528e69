"""
Pictures of the documentation, from kept results: `make figures`, or `python -m examples.figures --output FOLDER`.

Each is drawn for light and for dark pages, in colors that color-blind readers can tell apart.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from examples.figures.best_of_n import draw_accuracy_tokens, draw_reward_text
from examples.figures.guided_text import draw_guided_text
from examples.figures.judge import draw_judge
from examples.figures.overview import draw_methods
from examples.figures.search_tree import draw_search_tree
from examples.figures.style import THEMES, Theme, styled

ROOT = Path(__file__).parents[2]
REWARDED, GUIDED = 3, (1, 5)  # samples of the demo on a chat model that are shown


def pictures() -> dict[str, Callable[[Theme], Figure]]:
    """Return a function of a theme for each picture."""
    demo, real_tasks, traces = (
        json.loads((ROOT / "examples" / "results" / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("demo_llm", "real_tasks", "traces")
    )
    methods = demo["methods"]
    return {
        "methods": lambda theme: draw_methods(methods, theme),
        "accuracy_tokens": lambda theme: draw_accuracy_tokens(real_tasks["constraints-elhsr"]["rows"], theme),
        "reward_text": lambda theme: draw_reward_text(methods["elhsr"]["samples"][REWARDED], theme),
        "guided_text": lambda theme: draw_guided_text([traces["guided"][number] for number in GUIDED], theme),
        "search_tree": lambda theme: draw_search_tree(methods["sla"]["tree"], theme),
        "judge": lambda theme: draw_judge(traces["judge"], theme),
    }


def main(arguments: list[str] | None = None) -> list[Path]:
    """Draw all pictures, and return their paths."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "figures")
    args = parser.parse_args(arguments)
    args.output.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, draw in pictures().items():
        for suffix, theme in THEMES.items():
            paths.append(args.output / f"{name}{suffix}.png")
            with styled(theme):
                draw(theme).savefig(paths[-1], dpi=120, metadata={"Software": None})
    return paths


if __name__ == "__main__":
    for path in main():
        print(path)

"""
Markdown tables of a kept tour.

    python -m examples.demo_llm.report examples/results/demo_llm.json --plot docs/figures/demo_llm.png
"""

import argparse
import json
from pathlib import Path

from examples.demo_llm.page import TITLES, plot


def tables(report: dict) -> str:
    """Return one table per method, and the settings."""
    size = report["size"]
    lines = [
        f"{report['model']} in {report['dtype']}, seed {report['seed']}, {size['num_train']} training and "
        f"{size['num_test']} test problems; {report['date']}, {report['versions']}."
    ]
    for name, title in TITLES.items():
        rows = report["methods"][name]["rows"]
        columns = ["written"] if "written" in rows[0] else []
        lines += [
            "",
            f"### {title}",
            "",
            f"| {' | '.join(['method', 'what it did', 'accuracy [95 %]', 'tokens', *columns])} |",
        ]
        lines.append("|---|---|" + "---:|" * (2 + len(columns)))
        for row in rows:
            value, lower, upper = row["accuracy"]
            cells = [row["method"], row["what"], f"{value:.2f} [{lower:.2f}, {upper:.2f}]", f"{row['tokens']:.0f}"]
            cells += [f"{row[column]:.2f}" for column in columns]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--plot", type=Path, help="file for the figure")
    arguments = parser.parse_args()
    kept = json.loads(arguments.results.read_text(encoding="utf-8"))
    print(tables(kept))
    if arguments.plot:
        arguments.plot.write_bytes(plot(kept["methods"]))

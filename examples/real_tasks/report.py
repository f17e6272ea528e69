"""
Markdown tables of the kept results.

    python -m examples.real_tasks.report examples/results/real_tasks.json
    python -m examples.real_tasks.report outputs/real_tasks --keep examples/results/real_tasks.json

A folder of results is read as `PART-STAGE.json`; `--keep` writes them as one file.
"""

import argparse
import json
from pathlib import Path

from hf_reward_ext.base.saving.atomic import replace_text

TITLES = {
    "constraints-elhsr": "ELHSR: best of N",
    "constraints-heads": "ELHSR: kinds of heads",
    "constraints-spending": "ELHSR: fewer tokens",
    "constraints-staged": "ELHSR: candidates dropped and resampled",
    "constraints-genarm": "GenARM: guided sampling",
    "constraints-sla": "SLA: look-ahead",
    "constraints-fast_slow": "Fast-Slow: pairs judged",
    "preference-pairs": "Pair accuracy",
    "preference-win_rate": "Win rates",
    "transfer-llmbar": "Transfer to LLMBar",
    "gsm8k-elhsr": "GSM8K: best of N",
}
COLUMNS = {
    "tokens": ("tokens", "{:.0f}"),
    "share": ("share of tokens", "{:.2f}"),
    "candidates": ("candidates", "{:.1f}"),
    "right_where_stopped": ("right where stopped", "{:.2f}"),
    "kept": ("of 200 splits", "{:.2f}"),
    "written": ("written", "{:.2f}"),
    "distinct": ("distinct pairs of words", "{:.2f}"),
    "seconds": ("CPU seconds", "{:.0f}"),
    "parameters": ("parameters", "{:,}"),
    "bytes": ("bytes", "{:,}"),
    "controlled": ("without the effect of length [95 %]", "{}"),
}


def table(found: dict) -> str:
    """Return the table of a stage, with the columns that its rows have."""
    columns = [name for name in COLUMNS if any(name in row for row in found["rows"])]
    heads = ["method", "what", "mean [95 %]", "by seed", *(COLUMNS[name][0] for name in columns)]
    lines = [f"| {' | '.join(heads)} |", "|---|---|" + "---:|" * (2 + len(columns))]
    for row in found["rows"]:
        seeds = " ".join(f"{value:.2f}" for value in row["by_seed"]) if len(row["by_seed"]) > 1 else ""
        cells = [row["method"], row["what"], _interval(row["accuracy"]), seeds]
        cells += [_cell(row, name) for name in columns]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(row: dict, name: str) -> str:
    if name not in row:
        return ""
    return COLUMNS[name][1].format(_interval(row[name]) if isinstance(row[name], list) else row[name])


def _interval(estimate: list[float]) -> str:
    value, lower, upper = estimate
    return f"{value:.2f} [{lower:.2f}, {upper:.2f}]"


def read(path: Path) -> dict[str, dict]:
    """Read the kept file, or every stage of an output folder."""
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    return {
        name: json.loads((path / f"{name}.json").read_text(encoding="utf-8"))
        for name in TITLES
        if (path / f"{name}.json").exists()
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--keep", type=Path, help="file for all results together")
    args = parser.parse_args(arguments)
    results = read(args.results)
    if args.keep:
        replace_text(args.keep, json.dumps(results, separators=(",", ":")) + "\n")
    for name, found in results.items():
        about = f"{found['model']} in {found['dtype']}, {found['rows'][0]['problems']} problems; {found['date']}, "
        print(f"### {TITLES[name]}\n\n{about}{found['versions']}.\n\n{table(found)}\n")


if __name__ == "__main__":
    main()

"""Rows on disk and a judge prompt in the words of the tiny tokenizer, for the tests of the commands."""

import json
from pathlib import Path

TEMPLATE = dict(
    user="{prompt} {response_a} {response_b}", base_suffix=" w9", analysis_prefix=" w10", final_marker=" w11"
)


def write_rows(path: Path, rows) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def read_rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]

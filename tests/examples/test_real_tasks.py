"""The experiments on real tasks: rows of results, pruning, and every stage with a tiny model of random weights."""

import gzip
import json

import numpy as np
import pytest

from examples.real_tasks import __main__ as real_tasks
from examples.real_tasks import report
from examples.real_tasks.best_of_n import prune
from examples.real_tasks.sizes import result
from examples.tasks import constraints


def test_a_row_has_the_mean_of_seeds_and_of_each_seed():
    row = result("m", "w", [[1, 0, 1, 1], [0, 0, 1, 1]], 7.26)
    assert row["accuracy"][0] == 0.625 and row["by_seed"] == [0.75, 0.5]
    assert row["problems"] == 4 and row["tokens"] == 7.3
    assert "tokens" not in result("m", "w", [1, 0])


def test_pruning_reads_only_the_tokens_that_would_be_written():
    prefixes = np.array([[0.9] * 8 + [0.1] * 22, [0.5] * 30, [0.2] * 30, [0.8] * 5 + [np.nan] * 25])
    lengths = np.array([30, 30, 30, 5])
    # At 8 tokens, 0 and the finished 3 are the better half; at 16, 3 alone is left.
    assert prune(prefixes, lengths, 0.5) == (3, 16 + 8 + 8 + 5)
    prefixes[0, 8:] = 0.95
    # Candidate 0 wins at 16 tokens and is written to its end.
    assert prune(prefixes, lengths, 0.5) == (0, 30 + 8 + 8 + 5)
    assert prune(prefixes, lengths, 1.0) == (0, 95)


@pytest.mark.filterwarnings("ignore:This judge may be unreliable:UserWarning")
def test_every_stage_runs_and_is_kept(chat_model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(constraints, "is_right", lambda problem, text: bool(text) and ord(text[0]) % 2 == 0)
    output = tmp_path / "out"
    arguments = ["--small", "--model", str(chat_model), "--output", str(output), "--dtype", "float32"]
    real_tasks.main(["constraints", *arguments])
    data = tmp_path / "data"
    _write(data / "hh-rlhf/helpful_base_test.jsonl.gz", _dialogues())
    _write(data / "gsm8k/train.jsonl.gz", [{"question": f"{n}+1?", "answer": f"#### {n + 1}"} for n in range(8)])
    _write(data / "gsm8k/test.jsonl.gz", [{"question": f"{n}+2?", "answer": f"#### {n + 2}"} for n in range(4)])
    row = {"input": "Add.", "output_1": "1", "output_2": "2", "label": 1, "subset": "Natural"}
    _write(data / "llmbar/llmbar.jsonl.gz", [row, {**row, "label": 2}])
    for part in ("preference", "transfer"):
        real_tasks.main([part, "--data", str(data), *arguments])
    found = report.read(output)
    assert set(found) == set(report.TITLES) - {"gsm8k-elhsr"}
    best = {row["method"]: row["accuracy"][0] for row in found["constraints-elhsr"]["rows"]}
    assert best["ELHSR"] <= best["oracle"] and best["one sample"] <= best["oracle"]
    capsys.readouterr()
    report.main([str(output), "--keep", str(tmp_path / "kept.json")])
    assert "### SLA: look-ahead" in capsys.readouterr().out
    assert report.read(tmp_path / "kept.json") == json.loads(json.dumps(found))
    monkeypatch.setattr(real_tasks.pool, "draw", lambda *_: None)
    real_tasks.main(["constraints", *arguments])  # every stage is read


def _dialogues() -> list[dict]:
    turn = "\n\nHuman: {}\n\nAssistant:"
    return [{side: turn.format(f"q{n}") + f" {side} {n}" for side in ("chosen", "rejected")} for n in range(40)]


def _write(path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))

from pathlib import Path

import pytest
from callbacks.two_processes import run
from launched import launch

SCRIPT = Path(__file__).with_name("two_processes.py")


def test_two_processes_see_the_same_and_what_one_sees(tmp_path):
    first, second = launch(SCRIPT, tmp_path, with_accelerate=True)
    assert first["processes"] == 2
    ours = [name for name in first["before"] if "bon" in name or "guided" in name]
    assert len(ours) == 10
    for name in ours:
        assert first["before"][name] == second["before"][name]
    assert [row["step"] for row in first["evaluations"]] == [2, 4]
    for row, other in zip(first["evaluations"], second["evaluations"], strict=True):
        assert {name: row[name] for name in ours} == {name: other[name] for name in ours}
    best = max(first["evaluations"], key=lambda row: row["eval_bon_reward"])
    assert first["best"] == second["best"] and first["best"].endswith(f"checkpoint-{best['step']}")
    # The same prompts in the same batches, so the same samples.
    alone, _ = run(tmp_path / "alone")
    for name in ours:
        assert first["before"][name] == pytest.approx(alone["before"][name], abs=1e-5)
    assert first["pairs"] == second["pairs"] == [*alone["pairs"]]

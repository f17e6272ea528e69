import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from callbacks.two_processes import run

SCRIPT = Path(__file__).with_name("two_processes.py")


def launch(folder: Path) -> list[dict]:
    """What each of two processes saw."""
    path = os.pathsep.join([str(SCRIPT.parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {
        **os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo",
        "ACCELERATE_USE_CPU": "true",  # `--cpu` starts one process, whatever their number
    }  # fmt: skip
    command = [
        sys.executable, "-W", "ignore", "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
        "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
        str(SCRIPT), str(folder),
    ]  # fmt: skip
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(2)]


def test_two_processes_see_the_same_and_what_one_sees(tmp_path):
    first, second = launch(tmp_path)
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

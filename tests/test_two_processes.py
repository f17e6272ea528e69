import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from method_trainers import CLASSES
from two_processes import train

SCRIPT = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """Results of two processes."""
    folder = tmp_path_factory.mktemp("two")
    environment = {
        **os.environ, "PYTHONPATH": f"{SCRIPT.parent}:{SCRIPT.parents[1]}", "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo", "ACCELERATE_USE_CPU": "true",
    }  # fmt: skip
    command = [
        sys.executable, "-W", "ignore", "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
        "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
        str(SCRIPT), str(folder),
    ]  # fmt: skip
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("method", CLASSES)
def test_two_processes_train_as_one_where_the_last_batch_is_not_full(ranks, method, tmp_path):
    """accelerate repeats rows of the beginning there, so that both processes have as many."""
    alone = train(method, tmp_path, batch=8)
    for rank in ranks:
        found = rank[method]
        assert found["processes"] == 2
        assert found["weights"] == pytest.approx(alone["weights"], rel=1e-3, abs=1e-5)
        assert found["metrics"] == pytest.approx(alone["metrics"], rel=1e-3, abs=1e-5)
        assert (found["calibration"] or 0) == pytest.approx(alone["calibration"] or 0, rel=1e-2)
        for row, other in zip(found["logged"], alone["logged"], strict=True):
            assert row == pytest.approx(other, rel=1e-3, abs=1e-5)

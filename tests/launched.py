"""Starts two processes, as forks of one or with accelerate."""

import json
import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent
_ACCELERATE = [
    "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
    "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
]  # fmt: skip


def launch(script: Path, folder: Path, with_accelerate: bool = False) -> list[dict]:
    """What a script wrote in each of two processes, as `rank-N.json` in the folder that is its argument."""
    path = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    environment = {
        **os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo",
        "ACCELERATE_USE_CPU": "true",  # `--cpu` starts one process, whatever their number
    }  # fmt: skip
    starter = _ACCELERATE if with_accelerate else [str(TESTS / "forked_ranks.py")]
    command = [sys.executable, "-W", "ignore", *starter, str(script), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(2)]

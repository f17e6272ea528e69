"""A few kills of a command and a training, and a full disk; run by `test_sample.py` in a process of its own."""

import os
import sys
import tempfile
from functools import partial
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import disks  # noqa: E402
import kills  # noqa: E402
import servers  # noqa: E402
from forked import finish  # noqa: E402

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        finish(kills.make_kill_inputs, Path(place))
        for name, count in (("generate arrow", 2), ("train elhsr", 1)):
            print(kills.describe(name, kills.check(name, Path(place), count)))
        finish(partial(servers.make_inputs, rows=4), Path(place))
        print(servers.describe(servers.check(Path(place), Path(place) / "model", 1)))
        if os.geteuid() == 0:
            with disks.mounted(Path(place) / "out") as disk:
                finish(kills.LINES["generate jsonl"], Path(place))
                whole = kills.compared("generate jsonl", disk.folder)
                found = disks.check_full("generate jsonl", Path(place), disk, whole, free=(0, 6))
                print("full disk:", found or "equal bytes")

"""
Runs a script in two processes that find each other as those of `accelerate launch`: forks of this one.

What takes seconds to import is imported once.
"""

import gc
import os
import runpy
import socket
import sys
import traceback

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads do not survive a fork

import hf_reward_ext.registered  # noqa: E402, F401


def run(rank: int, script: str, folder: str) -> None:
    """Runs the script as one of the two, and ends the process."""
    code = 1
    try:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
        sys.argv = [script, folder]
        runpy.run_path(script, run_name="__main__")
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    gc.freeze()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2",
        ACCELERATE_MIXED_PRECISION="no",
    )  # fmt: skip
    children = []
    for rank in range(2):
        children.append(os.fork())
        if children[-1] == 0:
            run(rank, *sys.argv[1:])
    first_ended, status = os.wait()
    if status:  # the other would wait for it
        os.kill(next(child for child in children if child != first_ended), 9)
    sys.exit(max(map(os.waitstatus_to_exitcode, (status, os.wait()[1])), key=abs))

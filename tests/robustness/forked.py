"""Commands in processes of their own that can be killed: forks of this one, in which everything is imported already."""

import os
import random
import re
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads do not survive a fork

import hf_reward_ext.cli.main
import hf_reward_ext.cli.training
import hf_reward_ext.registered  # noqa: F401


class Forked:
    """
    A command line at work in a fork.

    Args:
        line (`str` or `callable`): Arguments of `hf-reward-ext`; or a function of the folder. This process must not
            compute anything itself: threads and locks of torch do not survive a fork.
        folder (`Path`): Working directory.
        environment (`dict[str, str]`, *optional*): More environment variables.
    """

    def __init__(
        self, line: str | Callable[[Path], object], folder: Path, environment: Mapping[str, str] | None = None
    ):
        self.code: int | None = None
        """Exit code when it has ended; negative after a signal."""
        self._log = tempfile.TemporaryFile()
        self.pid = os.fork()
        if self.pid == 0:
            os.environ.update(environment or {})
            self._work(line, folder)

    def _work(self, line: str | Callable[[Path], object], folder: Path) -> None:
        code = 70
        try:
            os.chdir(folder)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(self._log.fileno(), 2)
            code = hf_reward_ext.cli.main.main(line.split()) if isinstance(line, str) else _call(line, folder)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(code)

    def has_ended(self) -> bool:
        """Whether it has ended, well or not."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None

    def wait(self, seconds: float = 600.0, until=None) -> bool:
        """As [`wait`]."""
        return wait(self, seconds, until)

    def kill(self, rng: random.Random | None = None) -> bool:
        """Kills it; `False` if it had ended."""
        if not self.has_ended():
            os.kill(self.pid, signal.SIGKILL)
            self.wait()
        return self.code == -signal.SIGKILL

    def error(self) -> str:
        """What it wrote on stderr, progress bars left out."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").replace("\r", "\n").splitlines()
        return " | ".join(line for line in lines if line.strip() and not re.search(r"(it/s|s/it)\]$", line))[-2500:]


class ForkedRanks:
    """
    A command line at work in several forks, as `accelerate launch` starts them: one that dies ends the others.

    Args:
        line (`str`): Arguments of `hf-reward-ext`.
        folder (`Path`): Working directory.
        count (`int`): Number of processes.
    """

    def __init__(self, line: str, folder: Path, count: int):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo",
                  "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "ACCELERATE_USE_CPU": "true",
                  "ACCELERATE_MIXED_PRECISION": "no"}  # fmt: skip
        self._ranks = [
            Forked(line, folder, {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(count)
        ]

    @property
    def code(self) -> int | None:
        """Exit code when all have ended: the first that is not 0."""
        codes = [rank.code for rank in self._ranks]
        return None if None in codes else next((code for code in codes if code), 0)

    def has_ended(self) -> bool:
        """Whether all have ended; those that are left after a failure are killed."""
        ended = [rank for rank in self._ranks if rank.has_ended()]
        if any(rank.code for rank in ended):
            for rank in self._ranks:
                rank.kill()
        return self.code is not None

    def wait(self, seconds: float = 600.0, until=None) -> bool:
        """As [`Forked.wait`]."""
        return wait(self, seconds, until)

    def kill(self, rng: random.Random) -> bool:
        """Kills one of those that work, and then the others; `False` if all had ended."""
        working = [rank for rank in self._ranks if not rank.has_ended()]
        if working:
            rng.choice(working).kill()
            self.wait(rng.choice([0, 0.002, 0.05]), until=self.has_ended)  # the others may notice first
            for rank in self._ranks:
                rank.kill()
        return any(rank.code == -signal.SIGKILL for rank in self._ranks)

    def error(self) -> str:
        """What they wrote on stderr."""
        return " || ".join(rank.error() for rank in self._ranks)


def wait(process: "Forked | ForkedRanks", seconds: float, until=None) -> bool:
    """
    Waits until the end, for some time, or until something is true; returns whether it has ended.

    Args:
        process (`Forked` or `ForkedRanks`): What is waited for.
        seconds (`float`): Longest time.
        until (`callable`, *optional*): Whether to wait no longer.
    """
    last = time.monotonic() + seconds
    while not process.has_ended() and time.monotonic() < last and not (until and until()):
        time.sleep(0.0005)
    return process.code is not None


def start(line: str | Callable[[Path], object], folder: Path, processes: int = 1) -> "Forked | ForkedRanks":
    """Starts a command in one or several processes."""
    return Forked(line, folder) if processes == 1 else ForkedRanks(str(line), folder, processes)


def _call(function: Callable[[Path], object], folder: Path) -> int:
    function(folder)
    return 0


def finish(line: str | Callable[[Path], object], folder: Path, processes: int = 1) -> float:
    """
    Runs a command to its end, which must be a good one, and returns the seconds it took.

    Raises:
        RuntimeError: With its error, if it has one.
    """
    started = time.monotonic()
    forked = start(line, folder, processes)
    forked.wait()
    if forked.code != 0:
        raise RuntimeError(f"`{line}` must end well, got code {forked.code}: {forked.error()}")
    return time.monotonic() - started


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

"""
Every command and every training on a disk that gets full at each stage, and on one that is read-only; with room the
same command ends with the same bytes. It needs root, to mount a small file system. Run by
`make robustness`.

    python tests/robustness/disks.py [--only NAME]
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from forked import Forked, contents, finish  # noqa: E402
from kills import COMMANDS, LINES, compared, make_kill_inputs, resumed  # noqa: E402

SIZE = 2**25
PAGE = 4096
FREE = (0, 1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256, 320)  # pages
OWN = re.compile(r"could not be (written|saved).*make room or allow writing|must have room for|disk does not have them")


class Disk:
    """
    A small file system at a folder.

    Args:
        folder (`Path`): Where it is mounted.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._filler = folder / "filler"

    def clear(self) -> None:
        """Removes everything in it."""
        subprocess.run(["find", str(self.folder), "-mindepth", "1", "-delete"], check=True)

    def fill(self, pages: int) -> None:
        """Leaves so much room."""
        with self._filler.open("ab") as file:
            while (room := os.statvfs(self.folder).f_bavail - pages) > 0:
                file.write(bytes(min(room, 256) * PAGE))
                file.flush()

    def make_room(self) -> None:
        """Takes back what [`fill`] took."""
        self._filler.unlink()

    def allow_writing(self, is_allowed: bool) -> None:
        """Makes it read-only, or not."""
        subprocess.run(["mount", "-o", f"remount,{'rw' if is_allowed else 'ro'}", str(self.folder)], check=True)


@contextmanager
def mounted(folder: Path) -> Iterator[Disk]:
    """A new file system at a folder."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)], check=True)
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def check_full(name: str, folder: Path, disk: Disk, whole: dict[str, bytes], free: tuple[int, ...]) -> list[str]:
    """What went wrong with a command on a full disk, and with the same command when there is room again."""
    line = LINES[name]
    problems: list[str] = []
    for pages in free:
        disk.clear()
        disk.fill(pages)
        forked = Forked(line, folder)
        forked.wait()
        if forked.code == 0:  # there was enough
            break
        if forked.code != 1 or not OWN.search(forked.error()):
            problems.append(f"{pages} pages free: code {forked.code}, {forked.error()[-300:]}")
        disk.make_room()
        problems += _finished(name, line, folder, whole, f"{pages} pages free")
    return problems


def check_read_only(name: str, folder: Path, disk: Disk, whole: dict[str, bytes]) -> list[str]:
    """What went wrong on a read-only disk: an empty one, and one with unfinished work."""
    line = LINES[name]
    problems = []
    for stage in ("at first", "after a kill"):
        disk.clear()
        if stage == "after a kill":
            forked = Forked(line, folder)
            forked.wait(until=lambda: len(contents(folder / "out")) > 2)
            forked.kill()
        before = contents(folder / "out")
        disk.allow_writing(False)
        forked = Forked(resumed(name, line, folder / "out"), folder)
        forked.wait()
        disk.allow_writing(True)
        if forked.code != 1 or "must be a place where files can be written" not in forked.error():
            problems.append(f"read-only {stage}: code {forked.code}, {forked.error()[-300:]}")
        if contents(folder / "out") != before:
            problems.append(f"read-only {stage}: something was lost")
        problems += _finished(name, line, folder, whole, f"read-only {stage}")
    return problems


def check_old(name: str, folder: Path, disk: Disk) -> list[str]:
    """What went wrong with results that a command may replace, on a full disk: they stay."""
    line = COMMANDS[name] + " --overwrite"
    target = folder / line[line.index("out/") :].split()[0]
    problems = []
    for pages in (0, 2, 5):
        disk.clear()
        target.write_text("results of before\n")
        disk.fill(pages)
        forked = Forked(line, folder)
        forked.wait()
        if forked.code != 0 and target.read_text() != "results of before\n":
            problems.append(f"--overwrite with {pages} pages free: the old file is gone")
        disk.make_room()
    return problems


def _finished(name: str, line: str, folder: Path, whole: dict[str, bytes], stage: str) -> list[str]:
    forked = Forked(resumed(name, line, folder / "out"), folder)
    forked.wait()
    if forked.code != 0:
        return [f"{stage}, then room: code {forked.code}, {forked.error()[-300:]}"]
    found = compared(name, folder / "out")
    differing = sorted(key for key in {**whole, **found} if whole.get(key) != found.get(key))
    return [f"{stage}, then room: {differing} differ"] if differing else []


def check(name: str, folder: Path, disk: Disk, free: tuple[int, ...] = FREE) -> list[str]:
    """Everything that went wrong with a command or training."""
    disk.clear()
    finish(LINES[name], folder)
    whole = compared(name, folder / "out")
    problems = check_full(name, folder, disk, whole, free) + check_read_only(name, folder, disk, whole)
    return problems + (check_old(name, folder, disk) if "out/" in COMMANDS.get(name, "") else [])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="names that contain this")
    arguments = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as place:
        inputs = Path(place) / "inputs"
        inputs.mkdir()
        finish(make_kill_inputs, inputs)
        with mounted(inputs / "out") as disk:
            for title in LINES:
                if arguments.only in title:
                    problems = check(title, inputs, disk)
                    print(f"{title:16} {'; '.join(problems) or 'nothing lost, equal bytes'}", flush=True)
                    failed |= bool(problems)
    sys.exit(failed)

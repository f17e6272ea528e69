"""Files are whole or missing, and a run goes on where it was killed."""

import errno
import functools
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np
import pytest
from datasets import Dataset, load_dataset
from written_rows import Killed, count_operations, is_same, read_arrow

from hf_reward_ext import write_best_of_n
from hf_reward_ext.best_of_n import ResumableWriter, preference_rows, sft_rows

PROMPTS = [f"{number}=" for number in range(10)]


class Pipe:
    """Answers like the pipeline, counts its calls, and may die before one of them."""

    def __init__(self, dies_at=None):
        self.calls = []
        self.dies_at = dies_at

    def __call__(self, prompts, return_all, seed, show_progress, **kwargs):
        if len(self.calls) == self.dies_at:
            raise KeyboardInterrupt
        self.calls.append((len(prompts), seed))
        return [
            [{"generated_text": f"{prompt}{seed}{place}", "score": 1.0 - place} for place in range(3)]
            for prompt in prompts
        ]


def write(path, pipe=None, prompts=PROMPTS, **kwargs):
    return write_best_of_n(pipe or Pipe(), prompts, path, **{"prompts_per_part": 4, **kwargs})


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def test_json_lines_and_arrow_hold_the_same_rows(tmp_path):
    lines, arrow = write(tmp_path / "rows.jsonl"), write(tmp_path / "rows.arrow")
    rows = read(lines)
    assert [row["prompt"] for row in rows] == PROMPTS
    assert rows[5] == {"prompt": "5=", "chosen": "10", "rejected": "12", "margin": 2.0}  # part 1, candidates 0 and 2
    assert Dataset.from_file(str(arrow)).to_list() == rows
    loaded = load_dataset("json", data_files=str(lines), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.to_list() == rows
    assert sorted(path.name for path in tmp_path.glob("rows*")) == [
        "rows.arrow", "rows.arrow.info.json", "rows.jsonl", "rows.jsonl.info.json",
    ]  # fmt: skip
    assert json.loads((tmp_path / "rows.jsonl.info.json").read_text())["num_rows"] == 10


def test_chats_survive_both_formats(tmp_path):
    chats = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]

    def pipe(prompts, **kwargs):
        return [[{"generated_text": text, "score": score} for text, score in (("a", 1.0), ("b", 0.0))] for _ in prompts]

    rows = read(write(tmp_path / "rows.jsonl", pipe, chats))
    assert rows[0]["prompt"] == chats[0] and rows[0]["chosen"] == [{"role": "assistant", "content": "a"}]
    assert Dataset.from_file(str(write(tmp_path / "rows.arrow", pipe, chats))).to_list() == rows


@pytest.mark.parametrize("suffix", ["jsonl", "arrow"])
def test_a_failed_run_resumes_with_the_same_result(tmp_path, suffix):
    whole = write(tmp_path / f"whole.{suffix}").read_bytes()
    path, parts = tmp_path / f"rows.{suffix}", tmp_path / f"rows.{suffix}.parts"
    with pytest.raises(KeyboardInterrupt):
        write(path, Pipe(dies_at=2))
    assert not path.exists() and len(list(parts.iterdir())) == 2
    again = Pipe()
    write(path, again)
    assert again.calls == [(2, 2)]  # only the last part, with its own seed
    assert path.read_bytes() == whole and not parts.exists()


def test_a_finished_file_is_left_alone(tmp_path):
    path, pipe = write(tmp_path / "rows.jsonl"), Pipe()
    before = path.stat().st_mtime_ns
    assert write(path, pipe) == path
    assert pipe.calls == [] and path.stat().st_mtime_ns == before
    path.unlink()
    assert len(read(write(path, pipe))) == 10 and len(pipe.calls) == 3


KILLED = """
import sys, time
from pathlib import Path
from hf_reward_ext import write_best_of_n

def pipe(prompts, return_all, seed, show_progress):
    if seed >= 2:
        Path(sys.argv[2]).touch()
        time.sleep(60)
    return [
        [{"generated_text": f"{prompt}{seed}{place}", "score": 1.0 - place} for place in range(3)] for prompt in prompts
    ]

write_best_of_n(pipe, [f"{number}=" for number in range(10)], sys.argv[1], prompts_per_part=4)
"""


def test_a_killed_run_resumes(tmp_path):
    path, reached = tmp_path / "rows.jsonl", tmp_path / "reached"
    run = subprocess.Popen([sys.executable, "-W", "ignore", "-c", KILLED, str(path), str(reached)])
    deadline = time.monotonic() + 120
    while not reached.exists() and time.monotonic() < deadline and run.poll() is None:
        time.sleep(0.1)
    os.kill(run.pid, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL and reached.exists()
    assert not path.exists()
    seeds = []

    def pipe(prompts, return_all, seed, show_progress):
        seeds.append(seed)
        return Pipe()(prompts, return_all, seed, show_progress)

    pipe.__qualname__ = "pipe"  # the same setting as in the killed process
    write(path, pipe)
    assert seeds == [2]
    assert path.read_bytes() == write(tmp_path / "whole.jsonl", pipe).read_bytes()


@pytest.mark.parametrize("old", [False, True], ids=["new", "overwrite"])
@pytest.mark.parametrize(
    "error", [Killed, OSError(errno.ENOSPC, "No space left on device")], ids=["killed", "full disk"]
)
@pytest.mark.parametrize("suffix", ["jsonl", "arrow"])
def test_a_failure_at_any_operation_keeps_files_complete(tmp_path, monkeypatch, suffix, error, old):
    whole = write(tmp_path / f"whole.{suffix}").read_bytes()
    for number in itertools.count():
        folder = tmp_path / str(number)
        folder.mkdir()
        path = folder / f"rows.{suffix}"
        before = write(path, seed=7).read_bytes() if old else None
        with monkeypatch.context() as patched:
            count = count_operations(patched, number, error)
            try:
                write(path, overwrite=old)
            except (Killed, OSError) as raised:
                assert raised is error or raised.__cause__ is error or isinstance(raised, Killed)
            reached = next(count) > number
        left = path.read_bytes() if path.exists() else None
        assert left in (before, whole)
        calls = len(list((folder / f"rows.{suffix}.parts").glob("part-*.json")))
        pipe = Pipe()
        assert write(path, pipe, overwrite=old and left != whole).read_bytes() == whole
        assert len(pipe.calls) <= 3 - calls
        assert sorted(one.name for one in folder.iterdir()) == [path.name, path.name + ".info.json"]
        if not reached:
            break
    assert number > 15


def test_streams_and_parts_without_rows(tmp_path):
    def rows(prompt, records):
        return [] if int(prompt[:-1]) < 8 else preference_rows(prompt, records)

    path = write(tmp_path / "rows.arrow", prompts=(prompt for prompt in PROMPTS), rows=rows)
    assert [row["prompt"] for row in Dataset.from_file(str(path))] == ["8=", "9="]
    path = write(tmp_path / "best.jsonl", rows=functools.partial(sft_rows, keep=2))
    assert [row["completion"] for row in read(path)][:2] == ["00", "01"]


def test_other_prompts_settings_and_files_are_refused(tmp_path):
    path = write(tmp_path / "rows.jsonl")
    with pytest.raises(ValueError, match="Part 0 .* other prompts or with other settings"):
        write(path, prompts=PROMPTS[::-1])
    with pytest.raises(ValueError, match="other settings"):
        write(path, seed=1)
    with pytest.raises(ValueError, match="other settings"):
        write(path, rows=functools.partial(preference_rows, min_margin=0.1))
    with pytest.raises(ValueError, match="made of 3 parts, but 1 were asked for"):
        write(path, prompts=PROMPTS[:4])
    with pytest.raises(ValueError, match="must end with '.jsonl' or '.arrow'"):
        write(tmp_path / "rows.csv")
    with pytest.raises(ValueError, match="None of the 3 parts has a row"):
        write(tmp_path / "none.jsonl", rows=functools.partial(preference_rows, min_margin=9.0))
    (tmp_path / "mine.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match="not written by this"):
        write(tmp_path / "mine.jsonl")


def test_a_bar_shows_the_parts(tmp_path, capsys):
    write(tmp_path / "rows.jsonl")
    assert "best of N" in capsys.readouterr().err
    write(tmp_path / "one.jsonl", prompts_per_part=10)
    write(tmp_path / "more.jsonl", show_progress=False)
    assert capsys.readouterr().err == ""


def test_the_writer_alone_takes_any_rows(tmp_path):
    writer = ResumableWriter(tmp_path / "rows.jsonl", {"what": "squares"})
    for number, part in enumerate([[1, 2], [3]]):
        assert not writer.has(number, part)
        writer.write(number, part, [{"square": value * value} for value in part])
    assert read(writer.finish()) == [{"square": 1}, {"square": 4}, {"square": 9}]


def random_value(rng, depth=0):
    kinds = ["none", "bool", "int", "large", "float", "text"] + ["list", "dict"] * (depth < 2)
    kind = rng.choice(kinds)
    if kind == "list":
        return [random_value(rng, depth + 1) for _ in range(rng.randrange(3))]
    if kind == "dict":
        return {key: random_value(rng, depth + 1) for key in rng.sample("abc", rng.randrange(3))}
    return {
        "none": None,
        "bool": rng.random() < 0.5,
        "int": rng.randrange(-3, 4),
        "large": rng.choice([-(2**63), 2**53 + 1, 2**63 - 1]),
        "float": rng.choice([0.1, -2.5, 1e300, 5e-324]),
        "text": rng.choice(["", "x2", "12", "[1]", "Grüße\u2028 😀\n", "null"]),
    }[kind]


def random_rows(rng):
    """Parts of rows; some columns have one kind of value, some any."""
    columns = {name: rng.choice([None, "number", "any"]) for name in "pqrs"[: rng.randrange(1, 5)]}

    def value(kind):
        if kind == "number":
            return rng.choice([None, 1, 2.5])
        return random_value(rng) if kind == "any" else rng.choice(["a", "b"])

    return [
        [{name: value(kind) for name, kind in columns.items() if rng.random() < 0.8} for _ in range(rng.randrange(4))]
        for _ in range(rng.randrange(1, 4))
    ]


@pytest.mark.parametrize("seed", range(40))
def test_both_formats_hold_the_same_data_whatever_comes_first(tmp_path, seed):
    parts = random_rows(random.Random(seed))
    if not any(map(any, parts)):
        parts.append([{"p": None}])
    for path in (tmp_path / "rows.jsonl", tmp_path / "rows.arrow"):
        writer = ResumableWriter(path, {})
        for number, rows in enumerate(parts):
            writer.write(number, [], rows)
        writer.finish()
    rows = [row for part in parts for row in part]
    assert read(tmp_path / "rows.jsonl") == rows
    assert is_same(rows, read_arrow(tmp_path / "rows.arrow"))


@pytest.mark.parametrize(
    ("first", "later", "feature"),
    [
        ({"a": 1}, {"a": 1.5}, "Value('float64')"),
        ({"a": None}, {"a": "x"}, "Value('string')"),
        ({"a": []}, {"a": [0.5]}, "List(Value('float64'))"),
        ({}, {"a": True}, "Value('bool')"),
        ({"a": 1}, {"a": "x2"}, "Json(decode=True)"),
        ({"a": "text"}, {"a": [{"role": "user", "content": "text"}]}, "Json(decode=True)"),
    ],
)
def test_types_are_read_off_all_rows(tmp_path, first, later, feature):
    writer = ResumableWriter(tmp_path / "rows.arrow", {})
    writer.write(0, [], [{"b": 0, **first}])
    writer.write(1, [], [{"b": 1, **later}])
    dataset = Dataset.from_file(str(writer.finish()))
    assert repr(dataset.features["a"]) == feature
    assert dataset.to_list() == [{"b": 0, "a": first.get("a")}, {"b": 1, **later}]


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (float("nan"), ValueError, r"Row 1 of part 0\['a'\] must be a finite number, got nan. Use `None`"),
        ([float("inf")], ValueError, r"\['a'\]\[0\] must be a finite number, got inf"),
        (2**63, ValueError, "must fit 64 bits, got 9223372036854775808. Write it as text"),
        ("\ud800", ValueError, "must be text that UTF-8 can hold"),
        ({"a\0b": 2}, ValueError, "must have keys without a null character"),
        ({1: 2}, TypeError, "must have text keys, got 1"),
        ({"b": {3}}, TypeError, r"\['a'\]\['b'\] must be None, a bool, .* got a `builtins.set`"),
        (np.int64(1), TypeError, "got a `numpy.int64`. Convert it"),
        (b"x", TypeError, "got a `builtins.bytes`"),
    ],
)
def test_values_that_no_file_can_store_are_refused_with_their_position(tmp_path, value, error, message):
    writer = ResumableWriter(tmp_path / "rows.jsonl", {})
    with pytest.raises(error, match=message):
        writer.write(0, [], [{"a": 1}, {"a": value}])
    writer._parts.close()
    assert list(tmp_path.iterdir()) == []


def damage(path, how):
    data = path.read_bytes()
    path.write_bytes(
        {
            "cut": data[:-40],
            "empty": b"",
            "longer": data + b"x\n",
            "changed": data.replace(b"1", b"2"),
            "not text": b"\xff\xfe",
        }[how]
    )


DAMAGES = ["cut", "empty", "longer", "changed", "not text"]


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("suffix", ["jsonl", "arrow"])
def test_a_finished_file_that_changed_is_refused_by_name(tmp_path, suffix, how):
    path = write(tmp_path / f"rows.{suffix}")
    whole = path.read_bytes()
    damage(path, how)
    with pytest.raises(
        ValueError, match=rf"rows.{suffix} has \d+ bytes, but 10 rows of \d+ bytes were written.*make it"
    ):
        write(path)
    assert write(path, overwrite=True).read_bytes() == whole


@pytest.mark.parametrize("how", DAMAGES)
def test_a_broken_part_is_named_with_the_remedy(tmp_path, how):
    path = tmp_path / "rows.jsonl"
    with pytest.raises(KeyboardInterrupt):
        write(path, Pipe(dies_at=2))
    part = tmp_path / "rows.jsonl.parts" / "part-000001.json"
    damage(part, how)
    with pytest.raises(ValueError, match=r"part-000001.json' is broken: .* Delete that file"):
        write(path)
    part.unlink()
    pipe = Pipe()
    assert write(path, pipe).read_bytes() == write(tmp_path / "whole.jsonl").read_bytes()
    assert pipe.calls == [(4, 1), (2, 2)]


def test_old_results_are_kept_until_new_ones_are_complete(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("mine\n")
    for dies_at in (0, 2):
        with pytest.raises(KeyboardInterrupt):
            write(path, Pipe(dies_at), overwrite=True)
        assert path.read_text() == "mine\n"
    pipe = Pipe()
    write(path, pipe, overwrite=True)
    assert pipe.calls == [(2, 2)] and len(read(path)) == 10
    with pytest.raises(ValueError, match=r"other settings \(seed=0, now 1\)"):
        write(path, seed=1)
    write(path, seed=1, overwrite=True)
    assert json.loads((tmp_path / "rows.jsonl.info.json").read_text())["settings"]["seed"] == 1


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("rows.jsonl", lambda path: path.mkdir(), "is a folder"),
        ("rows.jsonl", lambda path: path.symlink_to(path.with_name("target")), "got the link"),
        ("rows.jsonl.info.json", lambda path: path.write_text('{"mine": 1}'), "another file has that name"),
        ("rows.jsonl.info.json", lambda path: path.mkdir(), "another file has that name"),
        ("rows.jsonl.parts", lambda path: path.write_text("mine"), "a file or link has that name"),
        ("rows.jsonl.parts", lambda path: path.symlink_to(path.with_name("target")), "a file or link has that name"),
        ("rows.jsonl.parts/part-1.json", lambda path: path.write_text("mine"), "'part-1.json' is in it"),
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_other_files_are_kept(tmp_path, name, make, message, overwrite):
    target = tmp_path / "target"
    target.mkdir()
    (target / "kept").write_text("kept")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    make(tmp_path / name)
    before = sorted(tmp_path.rglob("*"))
    pipe = Pipe()
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "rows.jsonl", pipe, overwrite=overwrite)
    assert pipe.calls == [] and sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_cannot_be_written_to_is_refused_before_work(tmp_path, monkeypatch):
    def refuse(dir):
        raise PermissionError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    pipe = Pipe()
    with pytest.raises(
        OSError, match=r"must be a place where files can be written, but none .* \(Read-only file system\)"
    ):
        write(tmp_path / "new" / "rows.jsonl", pipe)
    assert pipe.calls == [] and list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    monkeypatch.undo()
    with pytest.raises(OSError, match="must be a place where files can be written"):
        write(tmp_path / "file" / "rows.jsonl", pipe)


def test_a_second_writer_is_refused_while_one_works(tmp_path):
    path, raised = tmp_path / "rows.jsonl", []

    def other():
        try:
            write(path)
        except RuntimeError as error:
            raised.append(str(error))

    class Busy(Pipe):
        def __call__(self, *args, **kwargs):
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
            return super().__call__(*args, **kwargs)

    write(path, Busy())
    assert len(raised) == 3 and all("another is writing it. Wait for it" in text for text in raised)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "again.jsonl", Pipe(dies_at=1))
    write(tmp_path / "again.jsonl")  # in the same process, as in a notebook


def test_prompts_of_a_list_are_checked_before_the_first_is_sampled(tmp_path):
    with pytest.raises(ValueError, match="`prompts_per_part` must be an integer of at least 1, got 0"):
        write(tmp_path / "rows.jsonl", prompts_per_part=0)
    with pytest.raises(TypeError, match=r"The input of part 0\[1\] must be None, .* got a `builtins.object`"):
        write(tmp_path / "rows.jsonl", prompts=["a", object()])

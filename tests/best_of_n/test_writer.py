"""Files are whole or missing, and a run goes on where it was killed."""

import functools
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from datasets import Dataset, load_dataset

from hf_reward_ext import ResumableWriter, preference_rows, sft_rows, write_best_of_n

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
    return [json.loads(line) for line in path.read_text().splitlines()]


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
def test_a_run_that_failed_goes_on_and_ends_alike(tmp_path, suffix):
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


def test_a_killed_run_goes_on_where_it_stopped(tmp_path):
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


@pytest.mark.parametrize("stage", ["before the file", "before its description", "before the parts are deleted"])
def test_no_moment_is_a_bad_one_to_be_killed(tmp_path, monkeypatch, stage):
    path, replace = tmp_path / "rows.jsonl", os.replace

    def dies(source, target):
        if (stage == "before the file" and str(target) == str(path)) or (
            stage == "before its description" and str(target).endswith("info.json")
        ):
            raise SystemExit
        return replace(source, target)

    def dies_deleting(*args, **kwargs):
        raise SystemExit

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(os, "replace", dies)
        if stage == "before the parts are deleted":
            patched.setattr("hf_reward_ext.best_of_n.writer.shutil.rmtree", dies_deleting)
        write(path)
    pipe = Pipe()
    assert len(read(write(path, pipe))) == 10
    assert pipe.calls == [] and not (tmp_path / "rows.jsonl.parts").exists()


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
    with pytest.raises(ValueError, match="'\\*.jsonl' or '\\*.arrow'"):
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

"""Several processes share the rows of a command, and write the file that one process writes."""

import json
import shutil
import threading
from pathlib import Path

import pytest
from cli_files import read_rows, write_rows
from launched import launch
from split_commands import command_lines

from hf_reward_ext.cli import ranks
from hf_reward_ext.cli.main import main

SCRIPT = Path(__file__).parents[1] / "split_commands.py"


@pytest.fixture(scope="module")
def place(folder, tmp_path_factory):
    """Models, data, and the parts of a run that ended after its second and third batch."""
    place = tmp_path_factory.mktemp("split") / "models"
    shutil.copytree(folder, place)
    steps = [{"prompt": f"w{n} w5", "completion": " w6\n\n w7\n\n w8"} for n in range(5)]
    write_rows(place / "steps.jsonl", steps)
    arguments = [*command_lines(place)["generate"], "--output", f"{place}/resumed.jsonl"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_reward_ext.best_of_n.ResumableWriter.finish", lambda writer: 1 / 0)
        assert main(arguments) == 1
    parts = sorted((place / "resumed.jsonl.parts").glob("part-*"))
    assert len(parts) == 4
    for number in (0, 3):
        parts[number].unlink()
    return place


@pytest.fixture(scope="module")
def split(place):
    """What each of two processes printed."""
    return launch(SCRIPT, place)


@pytest.mark.parametrize("name", command_lines(Path()))
def test_two_processes_write_the_file_of_one(name, split, place, tmp_path):
    first, second = (found[name] for found in split)
    assert (first["code"], second["code"]) == (0, 0), first["err"]
    assert second["out"] == second["err"] == ""
    assert main([*command_lines(place)[name], "--output", f"{tmp_path}/alone.jsonl"]) == 0
    assert (place / f"{name}.jsonl").read_bytes() == (tmp_path / "alone.jsonl").read_bytes()
    assert not (place / f"{name}.jsonl.parts").exists()


def test_rows_that_are_printed(split, place):
    rows = json.loads(split[0]["printed"]["out"])["rows"]
    assert rows == read_rows(place / "generate.jsonl") and split[1]["printed"]["out"] == ""


def test_a_run_resumes_with_another_number_of_processes(split, place):
    assert split[0]["resumed"]["code"] == 0
    assert (place / "resumed.jsonl").read_bytes() == (place / "generate.jsonl").read_bytes()


def test_an_evaluation_of_two_processes_has_the_numbers_of_one(split, place, tmp_path, capsys):
    first, second = (found["evaluate"] for found in split)
    assert (first["code"], second["code"], second["out"]) == (0, 0, "")
    evaluation = ["evaluate", "--scorer", f"{place}/head", "--data", f"{place}/pairs", "--batch_size", "5"]
    assert main([*evaluation, "--output", f"{tmp_path}/alone.json", "--json"]) == 0
    alone, found = (
        json.loads(text, parse_float=lambda number: round(float(number), 4))
        for text in (capsys.readouterr().out, first["out"])
    )
    numbers = {name: value for name, value in alone.items() if name not in ("digest", "files", "settings")}
    assert {name: found[name] for name in numbers} == numbers
    assert split[0]["again"]["code"] == split[1]["again"]["code"] == 0  # finished: nothing is scored


def test_an_error_of_the_second_process_is_the_message_of_the_first(split):
    first, second = (found["failed"] for found in split)
    assert first["code"] == 1 and second == {"code": 0, "out": "", "err": ""}
    assert "Process 1 failed: ValueError: `completions` must be read by the first process." in first["err"]


class Threads:
    """`torch.distributed` among threads, with the rank of each."""

    def __init__(self, monkeypatch, count):
        self.count, self.own, self.barrier = count, threading.local(), threading.Barrier(count, timeout=20)
        self.given = [None] * count
        monkeypatch.setattr(ranks, "own_rank", lambda: self.own.rank)
        monkeypatch.setattr(ranks, "count_processes", lambda: count)
        monkeypatch.setattr(ranks, "distributed", self)

    def all_gather_object(self, found, value):
        self.given[self.own.rank] = json.loads(json.dumps(value))
        self.barrier.wait()
        found[:] = list(self.given)
        self.barrier.wait()

    def run(self, work):
        results = [None] * self.count

        def process(rank):
            self.own.rank = rank
            try:
                results[rank] = work(rank)
            except Exception as error:
                results[rank] = error

        threads = [threading.Thread(target=process, args=(rank,)) for rank in range(self.count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        return results


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("numbers", [[], [0], [2, 5], [0, 1, 2, 3, 4, 7, 8]])
def test_every_process_gets_all_rows_in_order(count, numbers, monkeypatch):
    worked = [[] for _ in range(count)]

    def process(rank):
        return list(ranks.work_in_rounds(numbers, lambda number: worked[rank].append(number) or [{"row": number}]))

    results = Threads(monkeypatch, count).run(process)
    assert results == [[(number, [{"row": number}]) for number in numbers]] * count
    assert sorted(sum(worked, [])) == numbers and max(map(len, worked)) == -(-len(numbers) // count)


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_an_error_of_one_process_ends_all_with_its_message(failing, monkeypatch):
    def process(rank):
        def work(number):
            if number == 3 + failing:
                raise ValueError("`prompt` must be shorter.\n Shorten it.")
            return []

        return list(ranks.work_in_rounds(list(range(9)), work))

    results = Threads(monkeypatch, 3).run(process)
    for rank, error in enumerate(results):
        assert type(error) is (ValueError if rank == failing else ranks.RankError)
        if rank != failing:
            message = f"Process {failing} failed: ValueError: `prompt` must be shorter. Shorten it."
            assert str(error) == message

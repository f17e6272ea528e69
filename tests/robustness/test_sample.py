"""Samples of what `make robustness` runs in full: malformed input, kills, full disks, leaks."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import leaks
import pytest
from malformed import BEFORE, OWN, check_controls, run
from malformed_cases import all_cases, make_inputs
from objects import SUBJECTS

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])  # `serve` binds its port
EVERY = 29


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("malformed")
    make_inputs(folder)
    return folder


def test_what_is_all_right_is_accepted(inputs):
    check_controls(inputs)


def test_there_are_many_cases():
    assert len({(case.group, case.name) for case in all_cases()}) >= 800


@pytest.mark.parametrize("case", all_cases()[::EVERY], ids=lambda case: f"{case.group}: {case.name}")
def test_malformed_input_is_refused_before_work_in_our_words(case, inputs):
    outcome = run(case, inputs)
    assert outcome.kind == f"{OWN}, {BEFORE}", outcome.message


def test_killed_commands_and_full_disks_lose_nothing():
    script = Path(__file__).with_name("sample.py")
    environment = {**os.environ, "PYTHONPATH": str(script.parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert len(lines) >= 2 and all("equal bytes" in line for line in lines), lines


@pytest.mark.parametrize("name", SUBJECTS)
def test_calls_that_fail_in_the_middle_leave_nothing(name):
    points = leaks.check_calls(SUBJECTS[name](True), 20, num_points=1, warm_up=10)
    assert leaks.find_leaks(points) == {}


def test_a_leak_is_found():
    subject = SUBJECTS["GenARM processor"](True)
    kept = []

    def leaking(number):
        kept.extend([] for _ in range(40))
        subject.models[0].register_forward_hook(lambda *_: None)
        return subject.call(number)

    points = leaks.check_calls(replace(subject, call=leaking), 20, num_points=1, warm_up=2)
    assert {"objects", "hooks"} <= set(leaks.find_leaks(points))

"""A sample of the malformed input of `make robustness`: each is refused in our words, before any forward."""

import pytest
from malformed import BEFORE, OWN, check_controls, run
from malformed_cases import all_cases, make_inputs

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

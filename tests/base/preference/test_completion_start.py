import logging
import re
from types import SimpleNamespace

import pytest
import torch
from tiny import tiny_tokenizer

from hf_reward_ext.base.preference.completion_start import set_completion_start
from hf_reward_ext.base.preference.masks import completion_after, find_completion_start

SPECIAL = {1, 2}


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [
        ([[5, 6, 9], [7, 9]], ([9], "first")),  # one token that only ends prompts ("?", ":", a newline)
        ([[9, 6, 9], [7, 9]], (None, "last")),  # that token also stands inside of a prompt
        ([[5, 1, 9], [7, 1, 9]], ([1, 9], "last")),  # a chat's header
        ([[1, 9, 4, 1, 9], [7, 1, 9]], ([1, 9], "last")),  # of several turns
        ([[5, 8, 9], [7, 8, 9]], ([8, 9], "first")),
        ([[8, 9, 5, 8, 9], [7, 8, 9]], ([8, 9], "last")),
        ([[5], [6]], (None, "last")),
    ],
)
def test_endings_that_a_completion_cannot_move(prompts, expected):
    assert find_completion_start(prompts, SPECIAL) == expected


@pytest.mark.parametrize(("occurrence", "start"), [("first", 2), ("last", 4)])
def test_the_occurrence_that_counts(occurrence, start):
    ids = torch.tensor([[3, 9, 4, 9, 5], [3, 4, 5, 6, 7]])
    found = completion_after(ids, torch.ones(2, 5).bool(), [9], occurrence)
    assert found[0].tolist() == [place >= start for place in range(5)]
    assert found[1].all()  # no ending: the whole text


@pytest.mark.parametrize(
    ("prompts", "message"),
    [([[9, 6, 9], [7, 9]], "'w1', which they also hold elsewhere.*as a whole"), ([[5], [6]], "different tokens"),
     ([[8, 9, 5, 8, 9], [7, 8, 9]], "'w0 w1'.*only what follows the last")],
)  # fmt: skip
def test_what_cannot_be_found_is_said_once_at_training(prompts, message, caplog):
    config = SimpleNamespace(completion_start_ids=None)
    with caplog.at_level(logging.WARNING):
        set_completion_start(config, prompts, tiny_tokenizer())
    assert len(caplog.records) == 1
    assert re.search(message, caplog.text, re.DOTALL)


def test_ids_of_a_config_stay():
    config = SimpleNamespace(completion_start_ids=[3])
    set_completion_start(config, [[5, 6, 9], [7, 9]], tiny_tokenizer())
    assert config.completion_start_ids == [3]

"""Rows that start, grow and end at any step have the logits of a full forward of each row."""

import random

import pytest
import torch
from tiny import VOCAB, tiny_causal_lm

from hf_reward_ext.base.lm.ragged_guide import RaggedGuide


def check(guide, rows):
    expected = [guide.model(torch.tensor([ids]), use_cache=False).logits[0, -1] for ids in rows.values()]
    torch.testing.assert_close(guide.next_token_logits(rows), torch.stack(expected), atol=1e-5, rtol=1e-4)


def draw(chance, length):
    return [chance.randrange(3, VOCAB) for _ in range(length)]


@torch.no_grad()
@pytest.mark.parametrize("arch", ["llama", "qwen3", "gpt_neox"])
def test_rows_that_come_grow_pause_and_leave(arch):
    chance, guide = random.Random(0), RaggedGuide(tiny_causal_lm(arch))
    prompt, rows = draw(chance, 4), {}
    for step in range(40):
        for name in list(rows):
            if chance.random() < 0.1:
                del rows[name]
            elif chance.random() < 0.8:  # others wait for their turn
                rows[name] = [*rows[name], *draw(chance, 1)]
        if step % 5 == 0:
            rows |= {(step, number): list(prompt) for number in range(2)} | {step: draw(chance, 1 + step % 9)}
        names = list(rows)
        chance.shuffle(names)  # an engine moves requests within its batch
        rows = {name: rows[name] for name in names}
        check(guide, rows)


@torch.no_grad()
def test_rows_that_changed_are_read_again_and_the_others_are_not():
    guide = RaggedGuide(tiny_causal_lm())
    rows = {"a": [5, 6, 7], "b": [5, 6, 7], "c": [8]}
    check(guide, rows)
    assert guide.num_tokens_read == 6  # two distinct rows, as long as the longest
    check(guide, {"a": [5, 6, 7, 9], "b": [5, 6, 7, 4], "c": [8]})
    assert guide.num_tokens_read == 9
    check(guide, {"c": [8, 3], "b": [9, 9, 9, 9, 9], "a": [5, 6, 7, 9, 9, 9]})  # replaced, and two tokens at once
    assert guide.num_tokens_read == 9 + 1 + 12
    check(guide, {"c": [8, 3]})
    assert guide.num_tokens_read == 22
    check(guide, {"d": [3]})


@torch.no_grad()
def test_a_guide_whose_cache_does_not_keep_every_token_is_exact():
    with pytest.warns(UserWarning, match="cannot follow rows of an engine"):
        guide = RaggedGuide(tiny_causal_lm("gemma3_text"))
    rows = {"a": draw(random.Random(1), 9), "b": [4, 5]}
    check(guide, rows)
    check(guide, {name: [*ids, 7] for name, ids in rows.items()})


@torch.no_grad()
def test_after_an_error_in_a_forward_rows_are_read_from_the_start():
    guide = RaggedGuide(tiny_causal_lm())
    check(guide, {"a": [5, 6]})
    with pytest.raises(IndexError):
        guide.next_token_logits({"a": [5, 6, VOCAB]})
    check(guide, {"a": [5, 6, 7]})

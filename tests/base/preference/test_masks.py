import torch

from hf_reward_ext.base.preference.masks import common_ending, completion_after, without_padding


def test_padding_is_found_at_the_ends_only():
    ids = torch.tensor([[0, 5, 0, 6, 0], [0, 0, 0, 7, 8], [5, 6, 7, 8, 9]])
    expected = torch.tensor([[0, 1, 1, 1, 0], [0, 0, 0, 1, 1], [1, 1, 1, 1, 1]])
    assert torch.equal(without_padding(ids, 0), expected)
    assert without_padding(ids, None).all()


def test_a_completion_begins_after_the_last_start():
    ids = torch.tensor([[8, 9, 3, 8, 9, 4, 5], [3, 8, 9, 4, 0, 0, 0], [3, 4, 5, 6, 7, 8, 9], [0, 3, 4, 5, 6, 9, 8]])
    is_text = ids != 0
    found = completion_after(ids, is_text, [8, 9])
    assert found[0].tolist() == [False] * 5 + [True] * 2
    assert found[1].tolist() == [False] * 3 + [True] + [False] * 3
    assert torch.equal(found[2], is_text[2])  # nothing follows it
    assert torch.equal(found[3], is_text[3])  # not found
    assert completion_after(ids, is_text, None) is is_text
    assert completion_after(ids, is_text, [1] * 8) is is_text


def test_the_common_ending_of_prompts():
    assert common_ending([[1, 2, 8, 9], [3, 8, 9]]) == [8, 9]
    assert common_ending([[1, 2], [1, 3]]) is None
    assert common_ending([[1, 2, 3]] * 2, longest=2) == [2, 3]

import pytest
import torch
from tiny import EOS, PAD, left_padded_batch, tiny_causal_lm, tiny_tokenizer
from transformers import GenerationConfig

from hf_reward_ext.base.lm.tokens import (
    completion_mask_from_ids,
    eos_token_ids,
    inferred_mask,
    left_padded,
    pad_token_id,
    token_ids,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, []), (2, [2]), ([2, 7], [2, 7]), ((2,), [2]), (torch.tensor(2), [2]), (torch.tensor([2, 7]), [2, 7]),
        ([], []), ({7}, [7]),
    ],
)  # fmt: skip
def test_ids_of_every_form(value, expected):
    assert token_ids(value) == expected


@pytest.mark.parametrize("value", [2.0, [True], torch.tensor([0.5]), "ab", ["\n"], [None], [[1], [2, 3]]])
def test_other_than_integers_is_refused(value):
    with pytest.raises(TypeError, match="must be integers"):
        token_ids(value)


def test_the_tokenizer_is_asked_last():
    tokenizer = tiny_tokenizer()
    config = GenerationConfig()
    assert (eos_token_ids(config), pad_token_id(config)) == ([], None)
    assert (eos_token_ids(config, tokenizer), pad_token_id(config, tokenizer)) == ([EOS], PAD)
    config = GenerationConfig(eos_token_id=[7, 8])
    assert (eos_token_ids(config, tokenizer), pad_token_id(config, tokenizer)) == ([7, 8], PAD)
    assert pad_token_id(config) == 7  # as `generate` chooses it


@pytest.mark.parametrize("settings", [dict(), dict(pad_token_id=EOS), dict(eos_token_id=[EOS, PAD])])
def test_the_mask_is_the_one_of_generate(settings):
    policy = tiny_causal_lm()
    policy.generation_config.update(**settings)
    ids, _ = left_padded_batch()
    masks = []
    handle = policy.register_forward_pre_hook(
        lambda module, args, kwargs: masks.append(kwargs.get("attention_mask")), with_kwargs=True
    )
    policy.generate(ids, max_new_tokens=1)
    handle.remove()
    seen = torch.ones_like(ids) if masks[0] is None else masks[0]
    assert torch.equal(inferred_mask(ids, policy.generation_config), seen)


def test_rows_are_padded_on_the_left():
    ids, mask = left_padded([[5, 6, 7], [8]], 0)
    assert ids.tolist() == [[5, 6, 7], [0, 0, 8]] and mask.tolist() == [[1, 1, 1], [0, 0, 1]]


def test_completion_mask():
    ids = torch.tensor([[5, 2, 0, 0], [5, 6, 0, 0], [2, 2, 2, 2], [5, 0, 6, 7]])
    assert completion_mask_from_ids(ids, [2], 0).tolist() == [
        [True, True, False, False],
        [True, True, False, False],  # stopped by something else than EOS
        [True, False, False, False],
        [True, True, True, True],  # a pad id in the middle was generated
    ]
    assert completion_mask_from_ids(ids[:1], [2], 2).tolist() == [[True, True, False, False]]
    assert completion_mask_from_ids(ids[1:2], [], None).all()
    assert completion_mask_from_ids(torch.tensor([[5, 7, 6]]), [2, 7], 0).tolist() == [[True, True, False]]

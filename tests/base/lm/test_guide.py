import pytest
import torch
from tiny import PAD, VOCAB, tiny_causal_lm
from transformers import AutoConfig, AutoModelForCausalLM

from hf_reward_ext.base.lm.guide import CachedGuide


def alone(model, row):
    """The last logits of one row without its padding, without a cache."""
    start = int((row != PAD).int().argmax())
    return model(row[None, start:], use_cache=False).logits[0, -1]


def check(guide, ids):
    torch.testing.assert_close(
        guide.next_token_logits(ids), torch.stack([alone(guide.model, row) for row in ids]), atol=1e-5, rtol=1e-4
    )


@pytest.mark.stack
@pytest.mark.parametrize("arch", ["llama", "gemma3_text"])
def test_any_walk_through_ids_is_followed(arch):
    guide = CachedGuide(tiny_causal_lm(arch))
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randint(3, VOCAB, shape, generator=generator)

    ids = torch.cat([torch.tensor([[PAD, PAD], [5, 6]]), draw(2, 3)], dim=1)
    for step in range(60):
        choice = step % 6
        if choice in (0, 1):  # append one or several
            ids = torch.cat([ids, draw(len(ids), 1 + 2 * choice)], dim=1)
        elif choice == 2:  # permute and repeat
            ids = ids[torch.randint(len(ids), (3,), generator=generator)]
        elif choice == 3:  # step back, and another way on
            ids = torch.cat([ids[:, :-2], draw(len(ids), 1)], dim=1)
        elif choice == 4:  # step back alone
            ids = ids[:, :-1]
        elif step % 18 == 5:  # another prompt
            ids = torch.cat([torch.tensor([[PAD], [7]]), draw(2, 4)], dim=1)
        check(guide, ids)


def test_copies_of_a_prompt_are_read_once():
    guide = CachedGuide(tiny_causal_lm())
    ids = torch.tensor([[4, 5, 6], [7, 8, 9]]).repeat_interleave(4, dim=0)
    check(guide, ids)
    assert guide.num_tokens_read == 6
    check(guide, torch.cat([ids, torch.arange(3, 11)[:, None]], dim=1))
    assert guide.num_tokens_read == 6 + 8


def test_the_same_ids_cost_nothing():
    guide = CachedGuide(tiny_causal_lm())
    ids = torch.tensor([[4, 5, 6]])
    first = guide.next_token_logits(ids)
    assert guide.next_token_logits(ids.clone()) is first and guide.num_tokens_read == 3


def test_an_error_in_the_middle_of_a_forward_does_no_harm():
    guide = CachedGuide(tiny_causal_lm())
    ids = torch.tensor([[4, 5, 6], [7, 8, 9]])
    check(guide, ids)

    def fail(*args):
        raise RuntimeError("out of memory")

    handle = guide.model.model.layers[1].register_forward_pre_hook(fail)  # the first layer has read already
    longer = torch.cat([ids, ids[:, :1]], dim=1)
    with pytest.raises(RuntimeError, match="out of memory"):
        guide.next_token_logits(longer)
    handle.remove()
    check(guide, longer)


def test_ids_that_are_written_over_later_are_remembered_as_they_were():
    guide = CachedGuide(tiny_causal_lm())
    ids = torch.tensor([[4, 5, 6]])
    guide.next_token_logits(ids)
    ids[0, 1] = 20
    check(guide, ids)


def test_a_cache_that_cannot_follow_rows_is_not_used_and_one_warning_says_so():
    config = AutoConfig.for_model(
        "mamba", vocab_size=VOCAB, hidden_size=16, state_size=4, num_hidden_layers=2, pad_token_id=PAD, expand=2
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with pytest.warns(UserWarning, match="cannot follow rows.*from the start") as caught:
        guide = CachedGuide(model)
        for ids in ([[4, 5]], [[4, 5, 6]], [[4, 7]]):
            ids = torch.tensor(ids)
            torch.testing.assert_close(guide.next_token_logits(ids), model(ids).logits[:, -1])
    assert len(caught) == 1 and guide.num_tokens_read == 7

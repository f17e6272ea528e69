"""A cached guide after any operations on its rows equals a full forward."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import PAD, VOCAB, tiny_causal_lm

from hf_reward_ext.base.lm.forward import positions_of
from hf_reward_ext.base.lm.guide import CachedGuide

OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["append", "append", "append", "select", "repeat", "take back", "new", "mask"]),
              st.integers(0, 10_000)),
    min_size=1, max_size=8,
)  # fmt: skip


def prompt(generator):
    """Left-padded rows of random lengths."""
    rows, width = (int(torch.randint(1, high, (), generator=generator)) for high in (4, 7))
    ids = torch.randint(3, VOCAB, (rows, width), generator=generator)
    lengths = torch.randint(1, width + 1, (rows, 1), generator=generator)
    mask = (torch.arange(width) >= width - lengths).long()
    return ids * mask + PAD * (1 - mask), mask


def changed(ids, mask, operation, generator):
    rows = len(ids)
    if operation == "append":
        count = int(torch.randint(1, 4, (), generator=generator))
        new = torch.randint(3, VOCAB, (rows, count), generator=generator)
        return torch.cat([ids, new], -1), torch.cat([mask, torch.ones_like(new)], -1)
    if operation == "select":
        chosen = torch.randint(0, rows, (int(torch.randint(1, 5, (), generator=generator)),), generator=generator)
        return ids[chosen], mask[chosen]
    if operation == "repeat":
        return ids.repeat_interleave(2, dim=0)[:6], mask.repeat_interleave(2, dim=0)[:6]
    if operation == "take back":
        width = int(torch.randint(1, ids.shape[1] + 1, (), generator=generator))
        kept = mask[:, :width].bool().any(-1)
        return (ids[:, :width], mask[:, :width]) if kept.all() else (ids, mask)
    if operation == "mask":
        return ids, torch.ones_like(mask)
    return prompt(generator)


@pytest.fixture(scope="module", params=["llama", "gemma3_text", "gpt_neox"])
def model(request):
    return tiny_causal_lm(request.param)


@given(seed=st.integers(0, 10_000), operations=OPERATIONS)
def test_any_operations_on_rows(model, seed, operations):
    guide = CachedGuide(model)
    ids, mask = prompt(torch.Generator().manual_seed(seed))
    for operation, number in [("", 0), *operations]:
        ids, mask = changed(ids, mask, operation, torch.Generator().manual_seed(number)) if operation else (ids, mask)
        with torch.no_grad():
            expected = model(ids, attention_mask=mask, position_ids=positions_of(mask), use_cache=False).logits[:, -1]
        torch.testing.assert_close(guide.next_token_logits(ids, mask), expected, atol=2e-4, rtol=2e-4)

import pytest
import torch
from tiny import ARCHITECTURES, tiny_causal_lm

from hf_reward_ext.base.lm.forward import as_index, last_positions

CPU = torch.device("cpu")


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_positions_give_the_logits_of_a_slice(arch):
    model, ids = tiny_causal_lm(arch), torch.arange(3, 15).reshape(2, 6)
    everything = model(ids).logits
    for count in (0, 1, 4, 6, 9):
        kept = last_positions(count, 6, CPU)
        torch.testing.assert_close(model(ids, logits_to_keep=kept).logits, everything[:, as_index(count)])
        assert torch.equal(everything[:, as_index(kept)], everything[:, as_index(count)])


def test_picked_states_are_contiguous_where_a_slice_is_not():
    states = torch.zeros(3, 6, 4)
    assert states[:, last_positions(1, 6, CPU)].is_contiguous()
    assert not states[:, -1:].is_contiguous()


def test_accelerators_keep_the_slice():
    assert last_positions(1, 6, torch.device("cuda")) == 1

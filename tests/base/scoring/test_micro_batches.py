import pytest
import torch
from tiny import tiny_causal_lm

from hf_reward_ext import (
    ELHSRForSequenceClassification,
    ELHSRModel,
    GenARMRewardModel,
    RewardTransformer,
    RewardTransformerForSequenceClassification,
)
from hf_reward_ext.base.scoring.micro_batches import in_micro_batches

IDS = torch.randint(3, 32, (7, 6), generator=torch.Generator().manual_seed(0))
MASK = torch.tensor([[1] * 6, [1] * 4 + [0] * 2, [0] * 3 + [1] * 3, *[[1] * 6] * 4])  # padded on either side


def elhsr(policy):
    return ELHSRForSequenceClassification(policy, ELHSRModel.from_policy(policy))


def channel(policy):
    return RewardTransformerForSequenceClassification(RewardTransformer.from_base(policy, channel_size=4))


@pytest.mark.parametrize("wrap", [elhsr, channel, GenARMRewardModel.from_causal_lm])
def test_models_by_name_score_in_parts_what_they_score_at_once(wrap):
    policy = tiny_causal_lm()
    model, rows = wrap(policy).eval(), []
    handle = policy.get_input_embeddings().register_forward_hook(lambda module, inputs, out: rows.append(len(out)))
    with torch.inference_mode():
        whole = model(IDS, MASK).logits
        model.tokens_per_forward = 18
        rows.clear()
        parts = model(IDS, MASK).logits
        assert rows == [3, 3, 1]
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-5)
    rows.clear()
    model(IDS, MASK)
    assert rows == [7]  # a training needs the graph of the whole
    handle.remove()


@pytest.mark.parametrize(("tokens", "sizes"), [(1, [1] * 7), (12, [2, 2, 2, 1]), (17, [2, 2, 2, 1]), (10**9, [7])])
def test_a_part_has_at_most_so_many_tokens_and_at_least_one_row(tokens, sizes):
    seen = []
    with torch.no_grad():
        found = in_micro_batches(lambda ids: seen.append(len(ids)) or ids.sum(-1), tokens, IDS)
    assert seen == sizes and torch.equal(found, IDS.sum(-1))


def test_processes_run_the_same_number_of_forwards_whatever_their_lengths(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    seen = []
    with torch.no_grad():
        for width in (1, 600):
            in_micro_batches(lambda ids: seen.append(len(ids)) or ids.sum(-1), 4096, torch.ones(20, width))
    assert seen == [8, 8, 4] * 2

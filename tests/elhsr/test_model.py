import json

import pytest
import torch
from safetensors.torch import load_file
from tiny import left_padded_batch, tiny_causal_lm, tiny_tokenizer
from transformers import AutoModel

import hf_reward_ext  # noqa: F401  registers the Auto classes
from hf_reward_ext.elhsr.losses import LOSSES, infonca_loss, nca_loss
from hf_reward_ext.elhsr.model import ELHSRModel, gated_mean, prefix_gated_mean
from hf_reward_ext.elhsr.model_config import ELHSRModelConfig


@pytest.fixture(scope="module")
def authors(fixtures_dir):
    numbers = load_file(fixtures_dir / "elhsr.safetensors")
    numbers["mask"] = torch.arange(11)[None] < numbers["lengths"][:, None]
    return numbers, json.loads((fixtures_dir / "elhsr.json").read_text())["losses"]


def authors_head(numbers, kind):
    head = ELHSRModel(ELHSRModelConfig(hidden_size=40, num_layers=0, gate=kind == "gated")).double()
    head.linear.weight.data.copy_(numbers[f"{kind}.weight"])
    head.linear.bias.data.copy_(numbers[f"{kind}.bias"])
    return head


@pytest.mark.parametrize("kind", ["gated", "plain"])
def test_rewards_equal_the_authors(authors, kind):
    numbers, _ = authors
    rewards = authors_head(numbers, kind)(numbers["features"], numbers["mask"])
    torch.testing.assert_close(rewards, numbers[f"{kind}.rewards"], atol=1e-9, rtol=0)


def test_losses_equal_the_authors(authors):
    numbers, losses = authors
    rewards, labels = numbers["gated.rewards"], numbers["labels"]
    groups = torch.zeros(6, dtype=torch.long)
    ours = {
        "bce": LOSSES["bce"](rewards, labels, groups),
        "hinge": LOSSES["hinge"](rewards, labels, groups),
        "pairwise_all": LOSSES["pairwise"](rewards, labels, groups),
        "infonca_alpha_0.01": infonca_loss(rewards, labels, groups),
        "nca_alpha_0.01": nca_loss(rewards, labels, groups),
        "infonca_alpha_1": infonca_loss(rewards, labels, groups, alpha=1.0),
        "nca_alpha_1": nca_loss(rewards, labels, groups, alpha=1.0),
    }
    assert {name: float(loss) for name, loss in ours.items()} == pytest.approx(losses, abs=1e-9)


def test_formula_by_hand_on_chosen_layers():
    torch.manual_seed(3)
    states = tuple(torch.randn(2, 5, 4) for _ in range(4))
    head = ELHSRModel(ELHSRModelConfig(hidden_size=4, num_layers=3, layers=[-1, 1]))
    mask = torch.tensor([[0, 1, 1, 1, 1], [0, 0, 1, 1, 0]], dtype=torch.bool)
    weight, bias = head.linear.weight, head.linear.bias
    for row, reward in enumerate(head(states, mask)):
        numerator = denominator = 0.0
        for position in mask[row].nonzero().flatten():
            gate_score = bias[0] + weight[0, :4] @ states[1][row, position] + weight[0, 4:] @ states[3][row, position]
            token_reward = bias[1] + weight[1, :4] @ states[1][row, position] + weight[1, 4:] @ states[3][row, position]
            gate = 1 / (1 + torch.exp(-gate_score))
            numerator, denominator = numerator + gate * token_reward, denominator + gate
        assert reward.item() == pytest.approx((numerator / denominator).item(), abs=1e-6)


def test_last_prefix_is_the_whole():
    gates, rewards = torch.rand(3, 7), torch.randn(3, 7)
    mask = torch.arange(7)[None] < torch.tensor([[7], [4], [1]])
    torch.testing.assert_close(prefix_gated_mean(gates, rewards, mask)[:, -1], gated_mean(gates, rewards, mask))


def test_standardization_folds_into_the_weights():
    head = ELHSRModel(ELHSRModelConfig(hidden_size=4, num_layers=1, standardize=True))
    head.feature_mean.copy_(torch.randn(8))
    head.feature_scale.copy_(torch.rand(8) + 0.5)
    features, mask = torch.randn(2, 5, 8) * 3 + 1, torch.ones(2, 5, dtype=torch.bool)
    by_hand = torch.nn.functional.linear((features - head.feature_mean) / head.feature_scale, *head.linear.parameters())
    before = head(features, mask)
    torch.testing.assert_close(before, gated_mean(by_hand[..., 0].sigmoid(), by_hand[..., 1], mask))
    head.fold_standardization()
    assert set(head.state_dict()) == {"linear.weight", "linear.bias"}
    torch.testing.assert_close(head(features, mask), before)


def test_saved_head_is_small_safe_and_the_same(tmp_path):
    policy = tiny_causal_lm()
    head = ELHSRModel.from_policy(policy, tiny_tokenizer(), layers=[-2, -1])
    head.config.calibration = [2.0, -0.5]
    head.save_pretrained(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    loaded = AutoModel.from_pretrained(tmp_path)
    assert isinstance(loaded, ELHSRModel)
    features, mask = torch.randn(2, 5, 32), torch.ones(2, 5, dtype=torch.bool)
    torch.testing.assert_close(loaded(features, mask), head(features, mask))
    assert loaded.probability(torch.tensor([0.25])).item() == pytest.approx(0.5)
    assert loaded.config.layers == [2, 3]


def test_head_of_another_policy_is_refused():
    policy, tokenizer = tiny_causal_lm(), tiny_tokenizer()
    policy.config._name_or_path = "some/base"
    head = ELHSRModel.from_policy(policy, tokenizer)
    head.check_policy(policy, tokenizer)
    with pytest.raises(ValueError, match=r"hidden_size=24.*was trained with `hidden_size=16`"):
        head.check_policy(tiny_causal_lm(hidden_size=24))
    with pytest.raises(ValueError, match=r"num_layers=2.*was trained with `num_layers=3`"):
        head.check_policy(tiny_causal_lm(num_hidden_layers=2))
    other = tiny_causal_lm()
    other.config._name_or_path = "other/base"
    with pytest.raises(ValueError, match="Load 'some/base'"):
        head.check_policy(other)
    head.config.base_model_revision = "abc"
    policy.config._commit_hash = "def"
    with pytest.raises(ValueError, match="at revision 'abc'"):
        head.check_policy(policy)
    policy.config._commit_hash = "abc"
    tokenizer.chat_template += " "
    with pytest.raises(ValueError, match="template_hash"):
        head.check_policy(policy, tokenizer)


def test_head_trained_with_an_adapter_needs_it():
    from peft import LoraConfig, get_peft_model

    with_adapter = get_peft_model(tiny_causal_lm(), LoraConfig(target_modules="all-linear"), adapter_name="arith")
    head = ELHSRModel.from_policy(with_adapter)
    head.check_policy(with_adapter)
    with pytest.raises(ValueError, match=r"adapters \[\] with None active.*adapter 'arith'"):
        head.check_policy(tiny_causal_lm())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(layers=[4]), r"`layers` must be .*0 \(embedding\) to 3.*got \[4\]"),
        (dict(layers=[]), "Choose among them"),
        (dict(layers=[3, -1]), "must not repeat a layer"),
        (dict(features="attention"), "'hidden_states' or 'logits'"),
        (dict(features="logits"), "vocab_size"),
    ],
)
def test_config_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        ELHSRModelConfig(hidden_size=4, num_layers=3, **change)


def test_bad_input_is_refused():
    head = ELHSRModel(ELHSRModelConfig(hidden_size=4, num_layers=1))
    mask = torch.ones(1, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match="must be 8 .*got 12"):
        head(torch.randn(1, 3, 12), mask)
    with pytest.raises(ValueError, match="must have 2 entries.*got 3"):
        head(tuple(torch.randn(3, 1, 3, 4)), mask)
    with pytest.raises(ValueError, match="Row 0 of `completion_mask` marks no token"):
        head(torch.randn(1, 3, 8), ~mask)
    with pytest.raises(ValueError, match="NaN"):
        head(torch.full((1, 3, 8), torch.nan), mask)
    with pytest.raises(RuntimeError, match="no calibration"):
        head.probability(torch.zeros(1))


def test_padding_side_and_batch_do_not_matter():
    policy = tiny_causal_lm()
    head = ELHSRModel.from_policy(policy)
    left_ids, left_mask = left_padded_batch((5, 3, 7))
    right_ids, right_mask = torch.zeros_like(left_ids), torch.zeros_like(left_mask)
    alone = []
    for row, length in enumerate(left_mask.sum(-1)):
        right_ids[row, :length] = left_ids[row, -length:]
        right_mask[row, :length] = 1
        out = policy(left_ids[row : row + 1, -length:], output_hidden_states=True)
        alone.append(head(out.hidden_states, torch.ones(1, length, dtype=torch.bool)))
    for ids, mask in ((left_ids, left_mask), (right_ids, right_mask)):
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        out = policy(ids, attention_mask=mask, position_ids=positions, output_hidden_states=[0, 1, 2, 3])
        torch.testing.assert_close(head(out.hidden_states, mask.bool()), torch.cat(alone), atol=1e-5, rtol=1e-5)

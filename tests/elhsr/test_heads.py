"""Heads other than the paper's: a hidden layer, attention over tokens, and centroids."""

import pytest
import torch
from elhsr_trainers import trainer_for
from tiny import tiny_causal_lm, tiny_tokenizer

from hf_reward_ext.elhsr import ELHSRConfig, ELHSRModel, ELHSRModelConfig, HiddenStateReward
from hf_reward_ext.elhsr.centroids import fit_centroids
from hf_reward_ext.elhsr.features import teacher_forced_features

KINDS = {
    "mlp": {"mlp_size": 5},
    "attention": {"attention": True},
    "both": {"mlp_size": 5, "attention": True},
    "mlp without a gate": {"mlp_size": 5, "gate": False},
}


def head_of(policy, **settings) -> ELHSRModel:
    torch.manual_seed(0)
    head = ELHSRModel.from_policy(policy, tiny_tokenizer(), **settings)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return head


@pytest.mark.parametrize("kind", KINDS)
def test_rewards_follow_the_formula(kind):
    policy = tiny_causal_lm()
    head = head_of(policy, **KINDS[kind])
    features = torch.randn(2, 3, head.config.num_features)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    found = head(features, mask)
    for row in range(2):
        total, weights = 0.0, 0.0
        for token in range(3 - row):
            values = features[row, token]
            if "mlp_size" in KINDS[kind]:
                values = torch.nn.functional.gelu(head.hidden.weight @ values + head.hidden.bias)
            outputs = head.linear.weight @ values + head.linear.bias
            weight = 1.0
            if KINDS[kind].get("gate", True):
                weight = outputs[0].exp() if head.config.attention else outputs[0].sigmoid()
            total, weights = total + weight * outputs[-1], weights + weight
        torch.testing.assert_close(found[row], total / weights)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_rewards_of_a_running_call_equal_those_of_the_finished_text(kind, tmp_path):
    policy = tiny_causal_lm()
    head_of(policy, **KINDS[kind]).save_pretrained(tmp_path)
    head = ELHSRModel.from_pretrained(tmp_path)
    inputs = tiny_tokenizer()(["w1 w2", "w3 w4 w5"], return_tensors="pt", padding=True, padding_side="left")
    with HiddenStateReward(policy, head) as meter:
        out = policy.generate(**inputs, max_new_tokens=6, do_sample=True, pad_token_id=0)
    length = inputs["input_ids"].shape[1]
    attention = torch.cat([inputs["attention_mask"], torch.ones_like(out[:, length:])], dim=1)
    features = teacher_forced_features(policy, head.config, out, attention)[:, length:]
    mask = meter.completion_mask
    torch.testing.assert_close(meter.rewards, head(features, mask), atol=1e-5, rtol=1e-5)
    for end in range(1, 4):
        part = head(features[:, :end], mask[:, :end])
        torch.testing.assert_close(meter.prefix_rewards[:, end - 1], part, atol=1e-5, rtol=1e-5)


def test_attention_is_bounded():
    head = ELHSRModel(ELHSRModelConfig(hidden_size=1, num_layers=1, layers=[0], attention=True))
    torch.nn.init.constant_(head.linear.weight, 1e4)
    features = torch.tensor([[[1.0], [-1.0]]])
    assert head(features, torch.ones(1, 2, dtype=torch.bool)).isfinite().all()


@pytest.mark.parametrize("settings", [{"mlp_size": 8}, {"attention": True}], ids=str)
def test_other_heads_learn_and_fold_their_standardization(tmp_path, settings):
    trainer = trainer_for(tiny_causal_lm(), tmp_path, **settings)
    trainer.train()
    evaluations = [row["eval_auc"] for row in trainer.state.log_history if "eval_auc" in row]
    assert evaluations[-1] > 0.95 and not trainer.model.config.standardize
    trainer.save_model()
    loaded = ELHSRModel.from_pretrained(tmp_path)
    features = torch.randn(1, 4, loaded.config.num_features)
    mask = torch.ones(1, 4, dtype=torch.bool)
    torch.testing.assert_close(loaded(features, mask), trainer.model(features, mask))


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_centroids_need_no_training(tmp_path, cache):
    trainer = trainer_for(tiny_causal_lm(), tmp_path, loss_type="centroids", feature_cache=cache)
    trainer.train()
    trainer.save_model()
    assert trainer.evaluate()["eval_auc"] > 0.95
    head = ELHSRModel.from_pretrained(tmp_path)
    assert not head.config.gate and head.config.calibration is not None


def test_a_centroid_head_is_the_difference_of_squared_distances():
    head = ELHSRModel(ELHSRModelConfig(hidden_size=2, num_layers=1, layers=[0], gate=False))
    features = torch.tensor([[[1.0, 0.0], [3.0, 2.0]], [[0.0, 1.0], [9.0, 9.0]], [[4.0, 4.0], [2.0, 0.0]]])
    mask = torch.tensor([[True, True], [True, False], [True, True]])
    labels = torch.tensor([[1.0, 0.0], [0.5, torch.nan]])
    fit_centroids(head, [{"features": features, "completion_mask": mask, "labels": labels}])
    means = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 2.0]])
    right = (means[0] + 0.5 * means[2]) / 1.5
    wrong = (means[1] + 0.5 * means[2]) / 1.5
    expected = (means - wrong).square().sum(-1) - (means - right).square().sum(-1)
    torch.testing.assert_close(head(features, mask), expected)
    with pytest.raises(ValueError, match="must have correct and wrong completions for centroids, got 1 correct and 0"):
        fit_centroids(head, [{"features": features[:1], "completion_mask": mask[:1], "labels": torch.tensor([[1.0]])}])


def test_options_that_exclude_each_other_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`gate` must be True with `attention`"):
        ELHSRModelConfig(hidden_size=2, num_layers=1, gate=False, attention=True)
    with pytest.raises(ValueError, match="`mlp_size` must be an integer"):
        ELHSRModelConfig(hidden_size=2, num_layers=1, mlp_size=0)
    for setting in ({"mlp_size": 4}, {"attention": True}):
        with pytest.raises(ValueError, match="`loss_type='centroids'` must be used without"):
            ELHSRConfig(str(tmp_path), loss_type="centroids", **setting)

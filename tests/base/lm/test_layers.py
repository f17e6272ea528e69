import pytest
import torch
from architectures.build import tiny_model
from packaging.version import Version
from torch_version import TORCH

from hf_reward_ext.base.lm.layers import ascending_layers, check_streams
from hf_reward_ext.elhsr import ELHSRModel, HiddenStateReward
from hf_reward_ext.elhsr.features import teacher_forced_features
from hf_reward_ext.sla import RewardTransformer

IDS, MASK = torch.tensor([[3, 4, 5, 6]]), torch.ones(1, 4, dtype=torch.long)
# Qwen 4's own forward needs an index type that torch 2.6 refuses.
SEVERAL_STREAMS = ("deepseek_v4", "hy_v4", *(["qwen4_exp_text"] if TORCH >= Version("2.8") else []))


def test_layers_ascend_and_unknown_ones_are_refused():
    assert ascending_layers([-1, 0], 3, "policy") == [0, 3]
    with pytest.raises(ValueError, match=r"`layers` must be hidden states of the policy.*got \[4\]"):
        ascending_layers([4], 3, "policy")


def test_states_of_one_stream_pass():
    states = (torch.zeros(2, 4, 16), None, torch.zeros(2, 4, 16))
    check_streams(states, [0, 2], 16, "head")
    with pytest.raises(ValueError, match=r"Hidden state 2 must have the shape \(batch, seq, 8\), got \(2, 4, 16\)"):
        check_streams(states, [2], 8, "head")
    with pytest.raises(ValueError, match="the width 5 of this head, got 16. Load the model"):
        check_streams(states, [0], 5, "head")


@pytest.mark.parametrize("model_type", SEVERAL_STREAMS)
def test_several_residual_streams_are_refused_and_the_last_state_is_read(model_type):
    policy = tiny_model(model_type, dtype=torch.float32)
    head, last = ELHSRModel.from_policy(policy), ELHSRModel.from_policy(policy, layers=[-1])
    with torch.no_grad():
        states = policy(IDS, output_hidden_states=True).hidden_states
    counted = MASK.bool()
    with pytest.raises(ValueError, match=r"several residual streams.*Make the head with `layers=\[-1\]`"):
        head(states, counted)
    with pytest.raises(ValueError, match="several residual streams"):
        teacher_forced_features(policy, head.config, IDS, MASK)
    with HiddenStateReward(policy, head), pytest.raises(ValueError, match="several residual streams"):
        policy.generate(IDS, max_new_tokens=3)
    with pytest.raises(ValueError, match=r"several residual streams.*Make the channel with `layers=\[-1\]`"):
        RewardTransformer.from_base(policy, channel_size=4)(IDS)
    torch.testing.assert_close(last(states, counted), last(states[-1], counted))
    assert RewardTransformer.from_base(policy, channel_size=4, layers=[-1])(IDS).token_rewards.shape == (1, 4)


def test_streams_that_reach_the_last_state_are_refused_with_another_remedy():
    policy = tiny_model("gemma3n_text", dtype=torch.float32)
    for layers in (None, [-1]):
        with torch.no_grad(), pytest.raises(ValueError, match="several residual streams.*Use another base"):
            RewardTransformer.from_base(policy, channel_size=4, layers=layers)(IDS)
        head = ELHSRModel.from_policy(policy, layers=layers)
        with pytest.raises(ValueError, match="several residual streams.*Use `features='logits'`"):
            teacher_forced_features(policy, head.config, IDS, MASK)
    head = ELHSRModel.from_policy(policy, features="logits")
    with HiddenStateReward(policy, head) as meter:
        policy.generate(IDS, max_new_tokens=3)
    assert meter.rewards.shape == (1,)

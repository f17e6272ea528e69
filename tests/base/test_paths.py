"""Paths without a folder are refused without a request to the Hub, in Python as on the command line."""

import pytest

from hf_reward_ext import BestOfNPipeline, ELHSRModel, FastSlowRewardModel, RewardTransformer, TextScorer
from hf_reward_ext.base.saving.paths import check_path, is_path
from hf_reward_ext.demo.policy import load_policy
from hf_reward_ext.rewards import ModelReward

MISSING = ["outputs/demo/elhsr-2000", "./head", "../head", "/nowhere/head", "~/head"]


def pipeline(name):
    policy, tokenizer = load_policy()
    return BestOfNPipeline(model=policy, tokenizer=tokenizer, reward_model=name)


LOADS = {
    "head": ELHSRModel.from_pretrained,
    "judge": FastSlowRewardModel.from_pretrained,
    "channel": RewardTransformer.from_pretrained,
    "scorer": TextScorer.from_pretrained,
    "reward": ModelReward,
    "pipeline": pipeline,
}


@pytest.mark.parametrize("name", MISSING)
@pytest.mark.parametrize("kind", LOADS)
def test_a_path_without_a_folder_is_refused(kind, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"{name!r} must be a folder or OWNER/NAME on the Hub.*check the path"):
        LOADS[kind](name)


@pytest.mark.parametrize("name", ["Qwen/Qwen3-0.6B", "gpt2", "http://127.0.0.1:8000"])
def test_a_name_on_the_hub_is_no_path(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_path(name)
    assert not is_path(name)
    (tmp_path / "Qwen").mkdir()
    check_path(name)  # an organization may have the name of a folder

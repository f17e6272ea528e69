"""The rewards as `AsyncGRPOTrainer` calls them, and where it stops without a GPU."""

import asyncio
import math
import pickle
import traceback
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset
from rewards.shelf import ASKED, TURNS, rewards
from tiny import tiny_causal_lm, tiny_tokenizer
from trl.experimental.async_grpo import AsyncGRPOConfig, AsyncGRPOTrainer
from trl.experimental.async_grpo.async_rollout_worker import RolloutGroup, TrainingSequence, _AsyncRolloutLoop

ANSWERED = [[{"role": "assistant", "content": text}] for text in ("w9 w10", "w11", "w9 w10", "w12 w13 w14")]


def group_of(completions):
    """A group of one prompt, as the worker passes it to be scored."""
    sequences = [[TrainingSequence([4, 5, 6], [0, 1, 1], [0.0, -1.0, -1.0], "rollout")] for _ in completions]
    return RolloutGroup(
        prompts=[ASKED] * 4, reward_kwargs={"answer": ["w11"] * 4}, completions=completions,
        completions_ids=[[5] * 4] * 4, completions_sequences=sequences, tool_call_counts=[0] * 4,
        tool_failure_counts=[0] * 4, model_version=0, group_id=0, env_rewards=[None] * 4, rollout_rewards=[None] * 4,
    )  # fmt: skip


def score(reward_funcs, completions):
    """The samples of a group by the function of TRL's worker that calls rewards."""
    loop = SimpleNamespace(
        reward_funcs=reward_funcs,
        reward_func_names=[reward.__name__ for reward in reward_funcs],
        _env_reward_types=[],
        _provides_rollout_reward=False,
    )
    return asyncio.run(_AsyncRolloutLoop._score_group(loop, group_of(completions)))


@pytest.mark.stack
@pytest.mark.parametrize("name", rewards())
@pytest.mark.parametrize("completions", [ANSWERED, [TURNS] * 4], ids=["answers", "turns"])
def test_a_worker_scores_a_group_with_each(name, completions):
    reward = rewards()[name]
    copied = pickle.loads(pickle.dumps(reward))  # a worker is another process
    found = [sample.metrics[f"rewards/{name}"] for sample in score([copied], completions)]
    wanted = getattr(reward, "score", reward)(
        [ASKED] * 4, completions, completion_ids=[[5] * 4] * 4, answer=["w11"] * 4
    )
    assert found == pytest.approx([math.nan if one is None else float(one) for one in wanted], nan_ok=True)


def test_all_together_are_summed_without_those_that_have_no_answer():
    samples = score(list(rewards().values()), ANSWERED)
    for sample in samples:
        parts = [sample.metrics[f"rewards/{name}"] for name in rewards()]
        assert sample.metrics["reward"] == pytest.approx(np.nansum(parts))
    assert sum(sample.advantage for sample in samples) == pytest.approx(0, abs=1e-5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="without a GPU")
def test_the_trainer_cannot_be_made_without_a_gpu(tmp_path):
    """If this fails, a later TRL can: run it, and correct docs/rewards.md."""
    tiny_causal_lm().save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    args = AsyncGRPOConfig(str(tmp_path / "out"), report_to="none", use_cpu=True, bf16=False)
    with pytest.raises((AssertionError, RuntimeError)) as stopped:
        AsyncGRPOTrainer(str(tmp_path), rewards()["format"], args, Dataset.from_list([{"prompt": ASKED}]))
    assert "get_peak_flops_per_device" in [frame.name for frame in traceback.extract_tb(stopped.value.__traceback__)]

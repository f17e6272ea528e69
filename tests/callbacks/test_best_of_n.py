import json
import random
from zlib import crc32

import numpy as np
import pytest
import torch
from datasets import Dataset
from tiny import tiny_causal_lm, tiny_tokenizer
from trl import DPOConfig

from hf_reward_ext import BestOfNCallback

PROMPTS = ["w3 w4", "w5", "w6 w7 w8"]


def config(folder, **kwargs):
    return DPOConfig(
        str(folder), **{
            **dict(
                max_steps=6, eval_strategy="steps", eval_steps=2, logging_strategy="no", save_strategy="no",
                report_to="none", bf16=False, use_cpu=True, per_device_train_batch_size=2, learning_rate=1e-2,
                per_device_eval_batch_size=2,
            ),
            **kwargs,
        }
    )  # fmt: skip


def count_of_w9(prompts, completions):
    return [float(text.split().count("w9")) for text in completions]


class Scripted:
    """The reward of the k-th call: the reference first, then each evaluation."""

    def __init__(self, *levels):
        self.levels = list(levels)

    def __call__(self, completions):
        return [self.levels[0]] * (len(completions) - 1) + [self.levels.pop(0)]


def evaluations(trainer):
    return [row for row in trainer.state.log_history if "eval_bon_reward" in row]


def test_the_best_checkpoint_is_kept_and_a_second_run_resumes(tiny_dpo, tmp_path):
    args = dict(
        save_strategy="best", metric_for_best_model="eval_bon_reward", save_total_limit=2, load_best_model_at_end=True
    )
    callback = BestOfNCallback(PROMPTS, Scripted(0.0, 0.1, 0.9, 0.3), 2, max_new_tokens=4, batch_size=4)
    trainer = tiny_dpo(config(tmp_path, **args), callback)
    trainer.train()
    assert [row["eval_bon_reward"] for row in evaluations(trainer)] == [0.1, 0.9, 0.3]
    assert [row["step"] for row in evaluations(trainer)] == [2, 4, 6]
    assert trainer.state.best_metric == 0.9
    assert trainer.state.best_model_checkpoint.endswith("checkpoint-4")
    assert not (tmp_path / "checkpoint-6").exists()
    saved = json.loads((tmp_path / "checkpoint-4" / "trainer_state.json").read_text())
    assert saved["log_history"][-1]["eval_bon_reward"] == 0.9
    # The reference of the first run counts, not the policy of the checkpoint: everything wins against 0.
    callback = BestOfNCallback(PROMPTS, Scripted(0.5, 1.5), 2, max_new_tokens=4, batch_size=4)
    resumed = tiny_dpo(config(tmp_path, **{**args, "max_steps": 8}), callback)
    resumed.train(resume_from_checkpoint=True)
    last = evaluations(resumed)[-2:]
    assert [(row["step"], row["eval_bon_reward"], row["eval_bon_win_rate"]) for row in last] == [
        (6, 0.5, 1.0),
        (8, 1.5, 1.0),
    ]
    assert resumed.state.best_model_checkpoint.endswith("checkpoint-8")


def test_training_is_the_same_as_without(tiny_dpo, tmp_path):
    weights, draws, steps = [], [], []
    for callbacks in ([], [BestOfNCallback(PROMPTS, count_of_w9, 4, max_new_tokens=4)]):
        trainer = tiny_dpo(config(tmp_path, max_steps=4, gradient_accumulation_steps=2), *callbacks)
        trainer.train()
        weights.append(torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()]))
        draws.append((random.random(), np.random.rand(), torch.rand(()).item()))
        steps.append(trainer.state.global_step)
        assert trainer.processing_class.padding_side == "right"
    assert torch.equal(*weights) and draws[0] == draws[1] and steps == [4, 4]


@pytest.mark.stack
def test_values_are_those_of_the_samples(tiny_dpo, tmp_path):
    seen = []

    def reward(prompts, completions):
        seen.append(rewards := [float(len(text.split()) % 5 + text.count("w1")) for text in completions])
        return rewards

    trainer = tiny_dpo(config(tmp_path), BestOfNCallback(PROMPTS, reward, 4, max_new_tokens=8, batch_size=3))
    metrics = trainer.evaluate()
    reference, rewards = np.array(seen).reshape(2, 3, 4)
    assert np.array_equal(reference, rewards)  # the policy did not change
    assert metrics["eval_bon_reward"] == pytest.approx(rewards.max(1).mean())
    assert metrics["eval_bon_reward_at_1"] == pytest.approx(rewards.mean())
    pairs = [np.maximum(group[i], group[j]) for group in rewards for i in range(4) for j in range(i)]
    assert metrics["eval_bon_reward_at_2"] == pytest.approx(np.mean(pairs))
    assert metrics["eval_bon_win_rate"] == 0.5
    assert 1 <= metrics["eval_bon_completion_length"] <= 8 and 0 <= metrics["eval_bon_clipped_ratio"] <= 1


def test_prompts_of_the_evaluation_data_are_met_before_training(tiny_dpo, tmp_path):
    callback = BestOfNCallback(None, count_of_w9, 2, max_new_tokens=4)
    trainer = tiny_dpo(config(tmp_path, max_steps=2), callback)
    trainer.train()
    assert set(callback.table.frame["prompt"]) == {"w3 w4", "w4 w5", "w5 w6"}
    assert "eval" in trainer.state.stateful_callbacks["bon_reference"]


def test_several_evaluation_sets_have_their_own_prompts(tiny_dpo, tmp_path):
    rows = {"prompt": ["w3 w4"], "chosen": [" w5"], "rejected": [" w6"]}
    sets = {"one": Dataset.from_dict(rows), "two": Dataset.from_dict({**rows, "prompt": ["w7"]})}
    callback = BestOfNCallback(None, count_of_w9, 2, max_new_tokens=4)
    trainer = tiny_dpo(config(tmp_path, max_steps=2), callback, eval_dataset=sets)
    trainer.train()
    assert set(trainer.state.stateful_callbacks["bon_reference"]) == {"eval_one", "eval_two"}
    assert callback.table.frame["prompt"].tolist() == ["w3 w4", "w7"]
    assert {"eval_one_bon_reward", "eval_two_bon_reward"} <= set(trainer.evaluate())


def test_references_that_are_given(tiny_dpo, tmp_path):
    def first_number(completions):
        return [float(text.split()[0].lstrip("w")) if text.startswith("w") else 0.0 for text in completions]

    ahead, behind = ["w0", "w0", "w0"], [["w1000", "w2000"]] * 3
    for reference, expected in ((ahead, 0.6), (behind, 0.0)):
        callback = BestOfNCallback(PROMPTS, first_number, 4, reference, max_new_tokens=4)
        metrics = tiny_dpo(config(tmp_path), callback).evaluate()
        assert (metrics["eval_bon_win_rate"] >= expected) if expected else (metrics["eval_bon_win_rate"] == 0)
    same = tiny_causal_lm(initializer_range=0.1)
    callback = BestOfNCallback(PROMPTS, first_number, 4, same, max_new_tokens=4)
    assert tiny_dpo(config(tmp_path), callback).evaluate()["eval_bon_win_rate"] == 0.5


def test_wrong_numbers_are_refused():
    with pytest.raises(ValueError, match="`num_candidates` must be at least 1, got 0"):
        BestOfNCallback(PROMPTS, count_of_w9, 0)


def test_a_tokenizer_without_padding_and_chats(tiny_dpo, tmp_path):
    chats = [[{"role": "user", "content": "w3 w4"}], [{"role": "user", "content": "w5"}]]
    callback = BestOfNCallback(chats, lambda completions: [float(len(one)) for one in completions], 2, max_new_tokens=4)
    assert tiny_dpo(config(tmp_path), callback).evaluate()["eval_bon_reward"] == 1.0  # one message each
    assert callback.table.frame["prompt"][0] == chats[0]
    assert tiny_tokenizer().padding_side == "left"


def trained(tiny_dpo, tmp_path, callback, trainer=False, **kwargs):
    run = tiny_dpo(config(tmp_path, max_steps=4, learning_rate=0.5, **kwargs), *([] if trainer else [callback]))
    if trainer:
        callback.trainer = run
        run.add_callback(callback)
    run.train()
    return [row["eval_bon_win_rate"] for row in evaluations(run)]


def test_the_reference_of_prompts_from_the_evaluation_data(tiny_dpo, tmp_path):
    """The policy at the first evaluation, or where the prompts are known before it, at the beginning."""

    def callback(prompts=None):
        return BestOfNCallback(prompts, lambda completions: [crc32(text.encode()) % 97 for text in completions], 4,
                               max_new_tokens=6)  # fmt: skip

    given = trained(tiny_dpo, tmp_path, callback(["w3 w4", "w4 w5", "w5 w6"]))
    assert given[0] != 0.5  # two steps of training apart
    assert trained(tiny_dpo, tmp_path, callback(), trainer=True) == given
    on_start = trained(tiny_dpo, tmp_path, callback(), eval_on_start=True)
    assert on_start == [0.5, *given]
    assert trained(tiny_dpo, tmp_path, callback())[0] == 0.5


def test_completions_without_an_answer_are_left_out_and_counted(tiny_dpo, tmp_path):
    seen = []

    def reward(completions):
        rewards = [None if index % 4 == 1 or index >= 8 else float(index) for index in range(len(completions))]
        seen.append(rewards)
        return rewards

    callback = BestOfNCallback(PROMPTS, reward, 4, max_new_tokens=4, batch_size=3)
    metrics = tiny_dpo(config(tmp_path), callback).evaluate()
    assert metrics["eval_bon_unanswered_ratio"] == 6 / 12
    assert metrics["eval_bon_reward"] == np.mean([3, 7])  # of two prompts; the third has no answer
    assert metrics["eval_bon_reward_at_1"] == pytest.approx(np.mean([0, 2, 3, 4, 6, 7]))
    assert metrics["eval_bon_win_rate"] == 0.5
    frame = callback.table.frame
    assert frame["reward"][:2].tolist() == [3, 7] and np.isnan(frame["reward"][2])
    with pytest.raises(ValueError, match="`None` for all"):
        tiny_dpo(config(tmp_path), BestOfNCallback(PROMPTS, lambda completions: [None] * len(completions), 2,
                                                   max_new_tokens=4)).evaluate()  # fmt: skip


def test_functions_get_the_tokens_too(tiny_dpo, tmp_path):
    def length(completion_ids, **columns):
        return [float(len(ids)) for ids in completion_ids]

    callback = BestOfNCallback(PROMPTS, length, 4, max_new_tokens=4)
    metrics = tiny_dpo(config(tmp_path), callback).evaluate()
    assert metrics["eval_bon_reward_at_1"] == pytest.approx(metrics["eval_bon_completion_length"])


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (dict(reward_model=lambda completions, answer: [0.0]), TypeError, r"has the arguments \['answer'\]"),
        (dict(prompts=["w3", ""]), ValueError, "Row 1 of the prompt data: `prompt` must have text"),
        (dict(prompts=["w3", None]), ValueError, "Row 1 of the prompt data: `prompt` must be text or a list"),
        (dict(prompts=[]), ValueError, "The prompts are empty"),
    ],
)
def test_what_does_not_fit_is_refused_before_sampling(given, error, message, tiny_dpo, tmp_path, monkeypatch):
    callback = BestOfNCallback(**{"prompts": PROMPTS, "reward_model": count_of_w9, **given}, max_new_tokens=4)
    trainer = tiny_dpo(config(tmp_path), callback)
    monkeypatch.setattr(type(trainer.model), "generate", lambda *_, **__: pytest.fail("work began"))
    with pytest.raises(error, match=message):
        trainer.train()


def test_a_stream_of_prompts_is_read_once(tiny_dpo, tmp_path):
    callback = BestOfNCallback((prompt for prompt in PROMPTS), count_of_w9, 2, max_new_tokens=4)
    trainer = tiny_dpo(config(tmp_path, max_steps=4), callback)
    trainer.train()
    assert len(evaluations(trainer)) == 2 and len(callback.table.frame) == 6
    with pytest.raises(ValueError, match="`prompts` must be a list of prompts, got the text"):
        BestOfNCallback("w3 w4", count_of_w9)

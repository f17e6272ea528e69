import numpy as np
import pytest
import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model
from tiny import tiny_causal_lm, tiny_tokenizer
from transformers import TrainerControl, TrainerState
from trl import DPOConfig

from hf_reward_ext.base.lm.forward import run_forward
from hf_reward_ext.callbacks import RewardDriftCallback
from hf_reward_ext.callbacks.parting import Measured, parting
from hf_reward_ext.callbacks.policy_shift import StartPolicy, feature_shift, shift_from_start

WHERE_THERE_IS_NO_HUB = "ignore:A test tried to use socket:UserWarning"  # a trainer looks for its model's card
PROMPTS = ["w3 w4", "w5", "w6 w7 w8"]
MANY = [f"w{number}" for number in range(3, 11)]


def config(folder, **kwargs):
    shared = dict(
        max_steps=6, eval_strategy="steps", eval_steps=2, logging_strategy="no", save_strategy="no", report_to="none",
        bf16=False, use_cpu=True, per_device_train_batch_size=2, per_device_eval_batch_size=8, learning_rate=1e-2,
    )  # fmt: skip
    return DPOConfig(str(folder), **{**shared, **kwargs})


def spread(center):
    """Eight rewards around a number, one for each prompt."""
    return center + np.linspace(-0.1, 0.1, 8) ** 3


class Scripted:
    """Rewards around the next level at each call; `None` where the level is `None`."""

    def __init__(self, *levels):
        self.levels = list(levels)

    def __call__(self, prompts, completions):
        level = self.levels.pop(0)
        return [None if level is None and row else (level or 0) + 0.001 * row for row in range(len(completions))]


@pytest.mark.parametrize(
    ("trained", "held_out", "parts"),
    [
        ([0, 1], [1, 0], True),
        ([0, 1], [0, 1], False),  # learns
        ([1, 0], [1, 0], False),  # gets worse at both
        ([0, 1], [1, 1], False),
        ([0, 1, 2], [0, 1, 0], True),  # first better, then gamed: compared with the best
        ([0, 2, 1], [0, 1, 0], False),
        ([0, 1, 2], [1, float("nan"), 0], True),
    ],
)
def test_rewards_part_if_one_rises_and_the_other_falls(trained, held_out, parts):
    *earlier, now = (
        Measured(step, spread(one), spread(other))
        for step, (one, other) in enumerate(zip(trained, held_out, strict=True))
    )
    assert parting(earlier, now).is_beyond(3.0) == parts


def test_the_change_is_in_errors_over_prompts_that_have_both_rewards():
    first = Measured(0, np.array([0.0, 0.0, 0.0, np.nan]), np.array([1.0, 1.0, 1.0, 9.0]))
    second = Measured(5, np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 1.0, np.nan, np.nan]))
    found = parting([first], second)
    assert found.trained_errors == pytest.approx(2 / (1 / np.sqrt(3)))
    assert found.held_out_errors == pytest.approx(-0.5 / (np.sqrt(0.5) / np.sqrt(2)))
    assert (found.since, found.trained, found.held_out) == (0, (0.0, 2.5), (3.0, 0.5))


@pytest.mark.filterwarnings(WHERE_THERE_IS_NO_HUB)
def test_a_gamed_run_warns_and_a_sound_one_does_not(tiny_dpo, tmp_path):
    callback = RewardDriftCallback(MANY, Scripted(0, 1, 2), Scripted(1, 2, 0), num_candidates=1, max_new_tokens=4)
    args = config(tmp_path, max_steps=4)
    with pytest.warns(UserWarning, match="part at step 4: since step 2 the reward in training rose from 1 to 2, but"):
        trainer = tiny_dpo(args, callback)
        trainer.train()
    assert [row["parted"] for row in callback.history] == [0, 0, 1]
    assert [row["step"] for row in callback.history] == [0, 2, 4]
    logged = [row for row in trainer.state.log_history if "eval_drift_reward" in row]
    assert [row["eval_drift_parted"] for row in logged] == [0, 1]
    assert callback.history[0]["kl"] == 0 == callback.history[0]["feature_shift"]
    assert callback.history[-1]["kl"] > 0 and callback.history[-1]["feature_shift"] > 0
    callback.plot(tmp_path / "drift.png")
    assert (tmp_path / "drift.png").stat().st_size > 10_000
    assert {"reward", "held_out_reward", "kl"} <= set(callback.table.frame)


@pytest.mark.filterwarnings("error:.*(rewards part|have no):UserWarning")
def test_rewards_that_rise_together_do_not_warn(tiny_dpo, tmp_path):
    callback = RewardDriftCallback(MANY, Scripted(0, 1, 2), Scripted(1, 2, 3), num_candidates=1, max_new_tokens=4)
    tiny_dpo(config(tmp_path, max_steps=4), callback).train()
    assert len(callback.history) == 3 and not any(row["parted"] for row in callback.history)


@pytest.mark.filterwarnings(WHERE_THERE_IS_NO_HUB)
def test_a_policy_that_leaves_what_the_reward_applies_to_warns(tiny_dpo, tmp_path):
    callback = RewardDriftCallback(MANY, Scripted(0, None), Scripted(1, 1), num_candidates=1, max_new_tokens=4)
    with pytest.warns(
        UserWarning, match=r"At step 2 87.5% of the samples have no reward \(`None`\), at the start 0.0%"
    ):
        tiny_dpo(config(tmp_path, max_steps=2), callback).train()


def test_divergence_and_features_are_those_of_single_rows():
    policy, reference = tiny_causal_lm(seed=1, initializer_range=0.2), tiny_causal_lm(initializer_range=0.2)
    sequences = torch.randint(3, 32, (4, 9))
    prompt_mask = torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]])
    written = torch.tensor([[1] * 5, [1, 1, 0, 0, 0], [1] * 3 + [0] * 2, [1] * 5]).bool()
    found = shift_from_start(policy, StartPolicy(reference), sequences, prompt_mask, written)
    for row, shift in enumerate(found):
        first, count = 1 if row < 2 else 0, int(written[row].sum())
        ids = sequences[row : row + 1, first : 4 + count]
        mine, start = policy(ids).logits.log_softmax(-1), reference(ids, output_hidden_states=True)
        base = start.logits.log_softmax(-1)
        kl = (mine.exp() * (mine - base)).sum(-1)[0, -count - 1 : -1].sum()
        assert shift.kl == pytest.approx(kl.item(), abs=1e-4)
        expected = start.hidden_states[-1][0, -count:].mean(0).tolist()
        assert shift.features == pytest.approx(expected, abs=1e-4)


def test_features_move_in_deviations_of_the_start():
    start = np.array([[0.0, 5.0, 7.0], [2.0, 5.0, 9.0]])
    assert feature_shift(start, start) == 0
    assert feature_shift(start + [3, 0, 4], start) == pytest.approx(np.sqrt((9 + 16) / 2))
    assert feature_shift(np.ones((2, 1)) * 4, np.ones((2, 1))) == 0  # a constant feature has no scale


def test_the_start_of_an_adapter_is_its_base_and_stays_so(tiny_dpo, tmp_path):
    base = tiny_causal_lm(initializer_range=0.1)
    ids = torch.randint(3, 32, (1, 5))
    before = run_forward(base, ids).logits.detach().clone()
    policy = get_peft_model(base, LoraConfig(target_modules=["q_proj", "v_proj"], r=2, lora_alpha=64))
    callback = RewardDriftCallback(PROMPTS, Scripted(*[0] * 9), Scripted(*[0] * 9), num_candidates=2, max_new_tokens=4)
    args = config(tmp_path, max_steps=2, learning_rate=0.1)
    trainer = tiny_dpo(args, callback, policy=policy)
    trainer.ref_model = None
    callback.on_train_begin(args, trainer.state, trainer.control, policy, tiny_tokenizer())
    assert callback.history[0]["kl"] == pytest.approx(0, abs=1e-6)
    torch.nn.init.normal_(policy.base_model.model.model.layers[0].self_attn.q_proj.lora_B["default"].weight)
    callback.on_train_begin(args, trainer.state, trainer.control, policy, tiny_tokenizer())
    assert callback.history[0]["kl"] == pytest.approx(0, abs=1e-6)  # sampled from the base, whatever the adapter is
    trainer.state.global_step = 1
    callback.on_evaluate(args, trainer.state, trainer.control, {}, policy, tiny_tokenizer())
    assert callback.history[-1]["kl"] > 0.01
    with policy.disable_adapter():
        torch.testing.assert_close(run_forward(policy, ids).logits, before)
    assert not torch.allclose(run_forward(policy, ids).logits, before)  # and the adapters are on again


def begin(callback, folder, step=0):
    args, state = config(folder), TrainerState(global_step=step)
    Accelerator(cpu=True)  # a trainer makes one
    callback.on_train_begin(args, state, TrainerControl(), tiny_causal_lm(), tiny_tokenizer())


def test_what_it_cannot_measure_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`prompts` must be given"):
        RewardDriftCallback(None, len, len)
    with pytest.raises(ValueError, match="`threshold` must be a number above 0"):
        RewardDriftCallback(PROMPTS, Scripted(), Scripted(), threshold=0)
    with pytest.raises(ValueError, match="`num_candidates` must be"):
        RewardDriftCallback(PROMPTS, Scripted(), Scripted(), num_candidates=0)
    with pytest.raises(TypeError, match=r"has the arguments \['target'\]"):
        begin(RewardDriftCallback(PROMPTS, Scripted(0), needs_a_column), tmp_path)
    with pytest.raises(ValueError, match="Training goes on from step 3.*Pass `reference=`"):
        begin(RewardDriftCallback(PROMPTS, Scripted(0), Scripted(0)), tmp_path, step=3)
    begin(RewardDriftCallback(PROMPTS, Scripted(0), Scripted(0), reference=tiny_causal_lm()), tmp_path, step=3)
    with pytest.raises(ValueError, match="`reward_model` must have an answer"):
        begin(RewardDriftCallback(PROMPTS, answerless, Scripted(0)), tmp_path)
    with pytest.raises(RuntimeError, match=r"Call `trainer.train\(\)` before"):
        callback = RewardDriftCallback(PROMPTS, Scripted(0), Scripted(0))
        callback.on_evaluate(config(tmp_path), TrainerState(), TrainerControl(), {}, tiny_causal_lm(), tiny_tokenizer())


def answerless(prompts, completions):
    return [None] * len(prompts)


def needs_a_column(prompts, completions, target):
    return target

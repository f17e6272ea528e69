import pytest
from transformers import TrainerCallback, TrainerControl, TrainerState
from trl import DPOConfig

from hf_reward_ext.callbacks import BestOfNCallback
from hf_reward_ext.callbacks.reporting import log_metrics, metric_prefix


def test_values_join_the_record_of_their_evaluation():
    state = TrainerState(global_step=4, epoch=0.5)
    state.log_history = [{"eval_loss": 1.0, "eval_runtime": 2.0, "step": 4, "epoch": 0.5}]
    metrics = {"eval_loss": 1.0, "eval_runtime": 2.0}
    log_metrics({"bon_reward": 3}, metrics, None, state, TrainerControl())
    assert metrics["eval_bon_reward"] == 3.0
    assert state.log_history == [
        {"eval_loss": 1.0, "eval_runtime": 2.0, "step": 4, "epoch": 0.5, "eval_bon_reward": 3.0}
    ]
    state.global_step = 5  # nothing was logged there
    log_metrics({"bon_reward": 4}, metrics, None, state, TrainerControl())
    assert state.log_history[1] == {"eval_bon_reward": 4.0, "step": 5, "epoch": 0.5}


def test_several_evaluation_sets_keep_their_names():
    assert metric_prefix({"eval_math_loss": 0.1, "eval_math_runtime": 1.0}) == "eval_math"
    assert metric_prefix({}) == "eval"


class Tracker(TrainerCallback):
    def __init__(self):
        self.logged = []

    def on_log(self, args, state, control, logs, **kwargs):
        self.logged.append(dict(logs))


@pytest.fixture
def trainer_of(tiny_dpo, tmp_path):
    def trainer_of(*callbacks):
        return tiny_dpo(
            DPOConfig(str(tmp_path), max_steps=1, report_to="none", bf16=False, use_cpu=True, eval_strategy="steps"),
            *callbacks,
        )

    return trainer_of


def test_trackers_hear_of_the_values_once(trainer_of):
    tracker = Tracker()
    trainer = trainer_of(tracker)
    callback = BestOfNCallback(
        ["w3 w4"], lambda completions: [1.0] * len(completions), 2, trainer=trainer, max_new_tokens=3
    )
    trainer.add_callback(callback)
    metrics = trainer.evaluate()
    plain, ours = tracker.logged
    assert "eval_loss" in plain and "eval_bon_reward" not in plain
    assert ours["eval_bon_reward"] == metrics["eval_bon_reward"] == 1.0
    assert ours["eval_bon_win_rate"] == 0.5 and "eval_loss" not in ours


def test_without_the_trainer_the_values_are_in_its_metrics_and_history(trainer_of):
    tracker = Tracker()
    callback = BestOfNCallback(["w3 w4"], lambda completions: [1.0] * len(completions), 2, max_new_tokens=3)
    trainer = trainer_of(tracker, callback)
    assert trainer.evaluate()["eval_bon_reward"] == trainer.state.log_history[-1]["eval_bon_reward"] == 1.0
    assert len(tracker.logged) == 1

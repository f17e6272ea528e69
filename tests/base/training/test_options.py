"""Options of all training configurations that are out of range, before anything is loaded."""

import math

import pytest
from method_trainers import CLASSES

SHARED = [
    ("learning_rate", math.nan), ("learning_rate", -1e-4), ("learning_rate", math.inf), ("learning_rate", "fast"),
    ("learning_rate", None),
    ("weight_decay", math.nan), ("max_grad_norm", -1.0), ("num_train_epochs", math.nan), ("adam_beta1", 1.0),
    ("per_device_train_batch_size", 0), ("per_device_eval_batch_size", -2), ("gradient_accumulation_steps", 0),
    ("max_length", 0), ("max_length", 2.5), ("pad_to_multiple_of", 0), ("dataset_num_proc", 0), ("seed", -1),
]  # fmt: skip
OWN = {
    "ELHSR": [("target_temperature", 0.0), ("target_temperature", math.nan), ("max_candidates_per_prompt", 0),
              ("max_candidates_per_prompt", -1), ("feature_batch_size", 0), ("early_stopping_patience", 0),
              ("top_logprobs", 0), ("loss_type", "mse"), ("features", "states"), ("feature_cache", "ram"),
              ("validation_fraction", math.nan)],
    "SLA": [("channel_loss_weight", math.nan), ("dpo_beta", 0.0), ("simpo_beta", -1.0), ("token_bt_scale", 0.0),
            ("channel_size", 0), ("turns", "first"), ("loss_type", "mse"), ("policy_loss", "ppo")],
    "GenARM": [("beta", math.nan), ("beta", math.inf), ("gamma", math.nan), ("label_smoothing", math.nan),
               ("turns", "first"), ("loss_type", "mse")],
    "Fast-Slow": [("bradley_terry_weight", math.nan), ("judgment_weight", -1.0), ("score_temperature", math.nan),
                  ("center_rewards_coefficient", math.nan), ("kind", "pair"),
                  ("chat_template_kwargs", {"deep": True})],
}  # fmt: skip


@pytest.mark.parametrize(
    ("method", "name", "value"),
    [(method, name, value) for method in CLASSES for name, value in SHARED + OWN[method]],
)
def test_an_option_out_of_range_is_named(method, name, value, tmp_path):
    with pytest.raises((ValueError, TypeError), match=f"`{name}[=`]"):
        CLASSES[method][1](str(tmp_path), use_cpu=True, **{name: value})


@pytest.mark.parametrize("method", CLASSES)
def test_options_may_be_left_out(method, tmp_path):
    CLASSES[method][1](str(tmp_path), use_cpu=True, max_length=None, pad_to_multiple_of=None, dataset_num_proc=None)


STRATEGIES = [
    {"eval_strategy": "steps", "eval_steps": 5}, {"save_strategy": "no"}, {"save_strategy": "steps"},
    {"eval_strategy": "no"}, {"eval_strategy": "no", "save_strategy": "no"},
]  # fmt: skip


@pytest.mark.parametrize("settings", STRATEGIES)
def test_the_best_epoch_of_elhsr_needs_both_strategies(settings, tmp_path):
    config = CLASSES["ELHSR"][1]
    with pytest.raises(ValueError, match="which is on by default in `ELHSRConfig`.*load_best_model_at_end=False`"):
        config(str(tmp_path), use_cpu=True, **settings)
    config(str(tmp_path), use_cpu=True, load_best_model_at_end=False, **settings)

"""A training run, from parsed options to a saved model."""

import json
import time
from pathlib import Path
from typing import Any, cast

from trl import get_dataset, get_peft_config, get_quantization_config

from hf_reward_ext.cli.models import load_causal_lm, load_tokenizer, model_type
from hf_reward_ext.cli.rows import Rows, check_columns, load_splits, take_split
from hf_reward_ext.cli.train_parser import Parsed
from hf_reward_ext.elhsr import ELHSRTrainer
from hf_reward_ext.fast_slow import FastSlowRewardModel, FastSlowTrainer, JudgeTemplate
from hf_reward_ext.genarm import GenARMTrainer
from hf_reward_ext.sla import RewardTransformer, SLATrainer

TRAINERS = {"genarm": GenARMTrainer, "sla": SLATrainer, "fast-slow": FastSlowTrainer, "elhsr": ELHSRTrainer}
_PAIRS = [("chosen", "rejected"), ("chosen_ids", "rejected_ids")]
_LABELLED = [
    ("prompt", "completion", "label"),
    ("prompt", "completions", "labels"),
    ("prompt_ids", "completion_ids", "label"),
]


def train(method: str, parsed: Parsed) -> dict | None:
    """
    Trains, saves, and on request calibrates and uploads.

    Args:
        method (`str`): One of `TRAINERS`.
        parsed ([`Parsed`]): The options.

    Returns:
        `dict`: Where the model lies and its last metrics; `None` in all processes but the first.
    """
    started = time.perf_counter()
    _check_options(method, parsed)
    checkpoint = _checkpoint(parsed.training)
    train_rows, eval_rows = _datasets(method, parsed)
    trainer: Any = TRAINERS[method](
        args=parsed.training,
        train_dataset=train_rows,
        eval_dataset=eval_rows if parsed.training.eval_strategy != "no" else None,
        **_model(method, parsed),
    )
    result = trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model()
    report = {
        "command": f"train {method}",
        "output_dir": parsed.training.output_dir,
        "train": result.metrics,
        "eval": next((row for row in reversed(trainer.state.log_history) if "eval_loss" in row), None),
    }
    if method == "fast-slow":
        report["calibration"] = _finish_judge(trainer, parsed.script, eval_rows)
    if parsed.training.push_to_hub:
        trainer.push_to_hub(dataset_name=parsed.script.dataset_name)
    is_first = trainer.is_world_process_zero()
    trainer.end()
    if not is_first:
        return None
    print(f"Saved in {parsed.training.output_dir} after {time.perf_counter() - started:.0f} s.")
    return report


def _check_options(method: str, parsed: Parsed) -> None:
    model, script, training = parsed.model, parsed.script, parsed.training
    if not model.model_name_or_path:
        parsed.usage_error("--model_name_or_path is missing: the name or folder of the model to train on")
    if not script.dataset_name and not parsed.mixture.datasets:
        parsed.usage_error("--dataset_name is missing: a name on the Hub, a file, or a folder")
    if training.output_dir == "trainer_output":
        parsed.usage_error("--output_dir is missing: the folder for the trained model")
    if method == "elhsr" and model.use_peft:
        parsed.usage_error("--use_peft was given, but elhsr trains a head and leaves the policy as it is; leave it out")
    if method == "sla" and model.use_peft and training.freeze_base and training.policy_loss is None:
        parsed.usage_error("--use_peft was given with a frozen base; add --policy_loss or --freeze_base false")
    if method == "fast-slow" and script.calibration_budget is not None and script.calibration_risk is not None:
        parsed.usage_error("--calibration_budget and --calibration_risk exclude each other")


def _checkpoint(training) -> str | bool | None:
    """`--resume_from_checkpoint` as a folder, or `True` for the last one."""
    given = training.resume_from_checkpoint
    if given is None or str(given).lower() in ("false", "none"):
        return None
    if str(given).lower() in ("true", "last"):
        if not list(Path(training.output_dir).glob("checkpoint-*")):
            raise FileNotFoundError(
                f"`--resume_from_checkpoint {given}` was given, but {training.output_dir!r} has no checkpoint. Leave "
                "it out to start afresh."
            )
        return True
    if not Path(given).is_dir():
        raise FileNotFoundError(
            f"`--resume_from_checkpoint {given}` was given, but there is no such folder. Pass a checkpoint, or `last`."
        )
    return given


def _datasets(method: str, parsed: Parsed) -> tuple[Rows, Rows | None]:
    script = parsed.script
    if parsed.mixture.datasets:
        name, splits = "the mixture", cast(dict[str, Rows], dict(get_dataset(parsed.mixture)))
    else:
        name = script.dataset_name
        splits = load_splits(name, script.dataset_config, script.dataset_streaming)
    rows = take_split(splits, script.dataset_train_split, name, "--dataset_train_split")
    check_columns(rows, name, *_PAIRS, *(_LABELLED if method == "elhsr" else []))
    held_out = None
    if script.eval_dataset_name:
        name = script.eval_dataset_name
        own = load_splits(name, streaming=script.dataset_streaming)
        split = script.dataset_test_split if script.dataset_test_split in own else script.dataset_train_split
        held_out = take_split(own, split, name, "--dataset_test_split")
    elif script.dataset_test_split in splits:
        held_out = splits[script.dataset_test_split]
    holds_out_itself = method == "elhsr" and parsed.training.validation_fraction > 0
    calibrates = method == "fast-slow" and (script.calibration_budget, script.calibration_risk) != (None, None)
    wanted = parsed.training.eval_strategy != "no" and not holds_out_itself
    if held_out is None and (wanted or calibrates or script.dataset_test_split != "test"):
        raise ValueError(
            f"Evaluation data was asked for, but {name!r} has no split "
            f"{script.dataset_test_split!r}, only {sorted(splits)}. Name one with --dataset_test_split, or pass "
            "--eval_dataset_name."
        )
    return rows, held_out


def _model(method: str, parsed: Parsed) -> dict[str, Any]:
    """Model, tokenizer, adapter and judge prompt for the trainer."""
    name, options = cast(str, parsed.model.model_name_or_path), parsed.model
    kwargs: dict[str, Any] = dict(
        revision=options.model_revision,
        trust_remote_code=parsed.training.trust_remote_code,
        attn_implementation=options.attn_implementation,
        dtype=options.dtype,
        **(parsed.training.model_init_kwargs or {}),
    )
    parsed.training.model_init_kwargs = None  # used up here
    quantization = get_quantization_config(options)
    if quantization is not None:
        kwargs["quantization_config"] = quantization
    kind = model_type(name)
    if method == "fast-slow" and kind == "fast_slow":
        model: Any = FastSlowRewardModel.from_pretrained(name, **kwargs)
    elif method == "sla" and kind == "sla_reward_transformer":
        model = RewardTransformer.from_pretrained(name, **kwargs)
    else:
        model = load_causal_lm(name, **kwargs)
    arguments: dict[str, Any] = {"model": model, "processing_class": load_tokenizer(name)}
    peft_config = get_peft_config(options)
    if peft_config is not None:
        arguments["peft_config"] = peft_config
    if method == "fast-slow" and parsed.script.judge_template is not None:
        arguments["template"] = JudgeTemplate.from_dict(_template(parsed.script.judge_template))
    return arguments


def _template(given: str | dict) -> dict:
    if isinstance(given, dict):
        return given
    return json.loads(Path(given).read_text(encoding="utf-8") if Path(given).is_file() else given)


def _finish_judge(trainer: FastSlowTrainer, script, pairs: Rows | None) -> dict | None:
    """Calibrates the gate and writes it into the checkpoint."""
    goals = {"budget": script.calibration_budget, "risk": script.calibration_risk}
    goals = {name: value for name, value in goals.items() if value is not None}
    if not trainer.is_world_process_zero() or not (goals or script.judge_max_new_tokens):
        return None
    judge = trainer.judge
    if script.judge_max_new_tokens:
        judge.config.max_new_tokens = script.judge_max_new_tokens
    report = judge.calibrate(pairs, **goals) if goals else None
    judge.save_pretrained(str(trainer.args.output_dir))
    return report

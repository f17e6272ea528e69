"""Training run, from parsed options to a saved model."""

import json
import logging
import os
import time
from pathlib import Path
from typing import Any, cast

from trl import get_dataset, get_peft_config, get_quantization_config

from hf_reward_ext.base.preference.step_rows import STEP_LOSS
from hf_reward_ext.base.saving.atomic import check_folder
from hf_reward_ext.base.training.disk import naming_folder
from hf_reward_ext.cli.checkpoints import find_checkpoint
from hf_reward_ext.cli.chosen_training import Training
from hf_reward_ext.cli.memory import FLOAT_BITS, check_weights
from hf_reward_ext.cli.methods import METHODS
from hf_reward_ext.cli.models import adapter_base, base_of, check_name, load_causal_lm, load_tokenizer, model_type
from hf_reward_ext.cli.rows import Rows, check_columns, load_splits, take_split
from hf_reward_ext.demo.policy import NAME as DEMO_POLICY
from hf_reward_ext.fast_slow import FastSlowRewardModel, FastSlowTrainer, JudgeTemplate
from hf_reward_ext.sla import RewardTransformer

logger = logging.getLogger(__name__)
_PAIRS = [("chosen", "rejected"), ("chosen_ids", "rejected_ids")]
_STEPS = ("prompt", "completions", "labels")
_LABELED = [
    ("prompt", "completion", "label"),
    _STEPS,
    ("prompt_ids", "completion_ids", "label"),
]


def train(options: Training) -> dict | None:
    """
    Train and save, and optionally calibrate and upload.

    Args:
        options ([`Training`]): Method and options.

    Returns:
        `dict`: Folder of the model and its last metrics; `None` in all processes but the first.
    """
    started = time.perf_counter()
    method, training = METHODS[options.method], options.training
    check_folder(training.output_dir, "--output_dir")
    checkpoint = find_checkpoint(training.output_dir, training.resume_from_checkpoint)
    train_rows, eval_rows = _datasets(options)
    check_name(options.model.model_name_or_path, "--model_name_or_path")
    _check_memory(options)
    trainer: Any = method.load(method.trainer)(
        args=training,
        train_dataset=train_rows,
        eval_dataset=eval_rows if training.eval_strategy != "no" else None,
        **_model(options),
    )
    if trainer.is_world_process_zero():
        _note_form(train_rows, trainer.processing_class)
    result = trainer.train(resume_from_checkpoint=checkpoint)
    with naming_folder(str(training.output_dir)):
        trainer.save_model()
        trainer.create_model_card()
    report = {
        "command": f"train {options.method}",
        "output_dir": training.output_dir,
        "train": result.metrics,
        "eval": _last_metrics(trainer),
    }
    if options.method == "fast-slow":
        report["calibration"] = _finish_judge(trainer, options.script, eval_rows)
    if training.push_to_hub:
        trainer.push_to_hub(dataset_name=options.script.dataset_name)
    is_first = trainer.is_world_process_zero()
    trainer.end()
    if not is_first:
        return None
    has_messages = _is_chat(train_rows) and "prompt_ids" not in next(iter(train_rows))
    use = f"{method.use} --chat" if has_messages and "--prompt" in method.use else method.use
    _print_end(report, use, time.perf_counter() - started)
    return report


def _check_memory(options: Training) -> None:
    """Reject a model whose weights do not fit in memory, unless several devices share them."""
    name, given, training = cast(str, options.model.model_name_or_path), options.model, options.training
    is_sharded = any(os.environ.get(f"ACCELERATE_USE_{kind}") == "true" for kind in ("FSDP", "DEEPSPEED"))
    if name == DEMO_POLICY or is_sharded or training.fsdp or training.deepspeed:
        return
    quantized = 4 if given.load_in_4bit else 8 if given.load_in_8bit else None
    models = {one: None for one in [base_of(name, given.model_revision)] if one is not None}
    has_map = bool((training.model_init_kwargs or {}).get("device_map"))
    device = "auto" if has_map else "cpu" if training.use_cpu else None
    check_weights({name: given.model_revision, **models}, quantized or FLOAT_BITS[given.dtype or "auto"], device)


def check_options(options: Training) -> None:
    """End with a usage error if options are missing or exclude each other."""
    model, script, training = options.model, options.script, options.training
    if not model.model_name_or_path:
        options.usage_error("--model_name_or_path is missing: the name or folder of the model to train on")
    if not script.dataset_name and not options.mixture.datasets:
        options.usage_error("--dataset_name is missing: a name on the Hub, a file, or a folder")
    if training.output_dir == "trainer_output":
        options.usage_error("--output_dir is missing: the folder for the trained model")
    if options.method == "elhsr" and model.use_peft:
        options.usage_error("--use_peft must be left out for elhsr, which trains a head and does not change the policy")
    if options.method == "sla" and model.use_peft and training.freeze_base and training.policy_loss is None:
        options.usage_error("--use_peft must come with --policy_loss or --freeze_base false, since the base is frozen")
    if options.method == "fast-slow":
        if script.budget is not None and script.risk is not None:
            options.usage_error("--budget and --risk exclude each other")
        if script.judge_template is not None:
            try:
                JudgeTemplate.from_dict(_template(script.judge_template))
            except (TypeError, ValueError) as error:
                options.usage_error(f"--judge_template: {error}")


def _datasets(options: Training) -> tuple[Rows, Rows | None]:
    method, script = options.method, options.script
    if options.mixture.datasets:
        name, splits = "the mixture", cast(dict[str, Rows], dict(get_dataset(options.mixture)))
    else:
        name = script.dataset_name
        splits = load_splits(name, script.dataset_config, script.dataset_streaming)
    rows = take_split(splits, script.dataset_train_split, name, "--dataset_train_split")
    if getattr(options.training, "loss_type", None) == STEP_LOSS:
        check_columns(rows, name, _STEPS)
    else:
        check_columns(rows, name, *_PAIRS, *(_LABELED if method == "elhsr" else []))
    held_out = None
    if script.eval_dataset_name:
        name = script.eval_dataset_name
        own = load_splits(name, streaming=script.dataset_streaming)
        split = script.dataset_test_split if script.dataset_test_split in own else script.dataset_train_split
        held_out = take_split(own, split, name, "--dataset_test_split")
    elif script.dataset_test_split in splits:
        held_out = splits[script.dataset_test_split]
    holds_out_itself = method == "elhsr" and options.training.validation_fraction > 0
    calibrates = method == "fast-slow" and (script.budget, script.risk) != (None, None)
    wanted = options.training.eval_strategy != "no" and not holds_out_itself
    if held_out is None and (wanted or calibrates or script.dataset_test_split != "test"):
        raise ValueError(
            f"Evaluation data was asked for, but {name!r} has no split "
            f"{script.dataset_test_split!r}, only {sorted(splits)}. Name one with --dataset_test_split, or pass "
            "--eval_dataset_name."
        )
    return rows, held_out


def _model(options: Training) -> dict[str, Any]:
    """Return model, tokenizer, adapter and judge prompt for the trainer."""
    name, given, training = cast(str, options.model.model_name_or_path), options.model, options.training
    kwargs: dict[str, Any] = dict(
        revision=given.model_revision,
        attn_implementation=given.attn_implementation,
        dtype=given.dtype,
        **(training.model_init_kwargs or {}),
    )
    quantization = get_quantization_config(given)
    is_plain = name != DEMO_POLICY and adapter_base(name) is None
    kind = model_type(name, trust_remote_code=training.trust_remote_code) if is_plain else None
    if is_plain and kind not in ("fast_slow", "sla_reward_transformer"):
        training.model_init_kwargs = kwargs  # the trainer loads the model after all rows are checked
        arguments: dict[str, Any] = {"model": name, "quantization_config": quantization}
    else:
        training.model_init_kwargs = None
        kwargs |= {"trust_remote_code": training.trust_remote_code}
        kwargs |= {} if quantization is None else {"quantization_config": quantization}
        arguments = {"model": _load(name, kind, options.method, kwargs), "processing_class": load_tokenizer(name)}
    arguments["peft_config"] = get_peft_config(given)
    if options.method == "fast-slow" and options.script.judge_template is not None:
        arguments["template"] = JudgeTemplate.from_dict(_template(options.script.judge_template))
    return {key: value for key, value in arguments.items() if value is not None}


def _load(name: str, kind: str | None, method: str, kwargs: dict[str, Any]) -> Any:
    if kind == "fast_slow" and method == "fast-slow":
        return FastSlowRewardModel.from_pretrained(name, **kwargs)
    if kind == "sla_reward_transformer" and method == "sla":
        return RewardTransformer.from_pretrained(name, **kwargs)
    return load_causal_lm(name, **kwargs)


def _template(given: str | dict) -> dict:
    if isinstance(given, dict):
        return given
    return json.loads(Path(given).read_text(encoding="utf-8") if Path(given).is_file() else given)


def _finish_judge(trainer: FastSlowTrainer, script, pairs: Rows | None) -> dict | None:
    """Calibrate the gate, and save it in the checkpoint."""
    goals = {"budget": script.budget, "risk": script.risk}
    goals = {name: value for name, value in goals.items() if value is not None}
    if not trainer.is_world_process_zero() or not (goals or script.judge_max_new_tokens):
        return None
    judge = trainer.judge
    if script.judge_max_new_tokens:
        judge.config.max_new_tokens = script.judge_max_new_tokens
    report = judge.calibrate(pairs, **goals) if goals else None
    judge.save_pretrained(str(trainer.args.output_dir))
    return report


def _note_form(rows: Rows, tokenizer: Any) -> None:
    """Log a warning if rows are text although the tokenizer has a chat template."""
    if not _is_chat(rows) and tokenizer.chat_template is not None:
        logger.warning(
            "Rows of text are read as plain text, though the tokenizer has a chat template: rows of messages go "
            "through it."
        )


def _is_chat(rows: Rows) -> bool:
    """Return whether prompts, or texts without one, are messages or ids, which have their own form."""
    row = next(iter(rows))
    text = next((row[name] for name in ("prompt", "chosen", "completion", "completions") if name in row), None)
    if "prompt" not in row and isinstance(text, list) and text:
        text = text[0]
    return not isinstance(text, str)


def _last_metrics(trainer: Any) -> dict | None:
    """Return the evaluation of the saved weights: that of the best checkpoint if it is loaded, else the last one."""
    rows = [row for row in trainer.state.log_history if "eval_loss" in row]
    step = trainer.state.best_global_step if trainer.args.load_best_model_at_end else None
    return next((row for row in reversed(rows) if step in (None, row["step"])), None)


def _print_end(report: dict, use: str, seconds: float) -> None:
    folder, measured = report["output_dir"], report["eval"] or report["train"]
    shown = {name: value for name, value in measured.items() if name.endswith(("loss", "accuracy", "auc"))}
    at = f" (epoch {measured['epoch']:.3g})" if report["eval"] else ""
    print(", ".join(f"{name} {value:.4g}" for name, value in shown.items()) + at)
    print(f"Saved in {folder} after {seconds:.0f} s.")
    logger.info("Next: hf-reward-ext %s", use.format(folder=folder))

"""Command `hf-reward-ext train`: the trainers, with the interface of TRL's scripts."""

import sys
from argparse import SUPPRESS, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, Any

from trl import DatasetMixtureConfig, ModelConfig, ScriptArguments

from hf_reward_ext.base.options import Count, Number, check_declared
from hf_reward_ext.cli.chosen_training import Training
from hf_reward_ext.cli.methods import METHODS
from hf_reward_ext.cli.parser import COMMON, OptionParser, is_option
from hf_reward_ext.cli.processes import is_launched

SHORT = f"train a reward model: {', '.join(METHODS)}"
_DESCRIPTION = """\
Trains a reward model with TRL's trainer and TRL's options.

methods:
""" + "\n".join(f"  {name:10} {method.text}" for name, method in METHODS.items())
_EPILOG = """\
`hf-reward-ext train METHOD --help` lists the options. `--config x.yaml` takes them from a file; the command line takes
precedence. Options of `accelerate launch` (--num_processes 2, --accelerate_config zero2) start several processes.

examples:
  hf-reward-ext train elhsr --model_name_or_path Qwen/Qwen3-0.6B --dataset_name rows.jsonl --output_dir head
  hf-reward-ext train genarm --model_name_or_path Qwen/Qwen3-0.6B --dataset_name pairs.jsonl --output_dir arm --use_peft
  hf-reward-ext train sla --config sla.yaml --resume_from_checkpoint last
  accelerate launch --num_processes 2 -m hf_reward_ext train fast-slow --config judge.yaml
"""
# Options shown by `--help`; `--help_all` also shows those of transformers and TRL.
SHOWN = """output_dir num_train_epochs max_steps per_device_train_batch_size per_device_eval_batch_size
gradient_accumulation_steps learning_rate lr_scheduler_type warmup_steps weight_decay max_grad_norm max_length
center_rewards_coefficient eval_strategy eval_steps save_strategy save_steps save_total_limit load_best_model_at_end
metric_for_best_model logging_steps report_to run_name seed bf16 use_cpu activation_checkpointing
resume_from_checkpoint push_to_hub hub_model_id disable_tqdm""".split()


@dataclass
class TrainArguments(ScriptArguments):
    """
    [`~trl.ScriptArguments`] with local data, and separate evaluation data.

    Args:
        eval_dataset_name (`str`, *optional*): Evaluation data, with the format of `dataset_name`.
    """

    eval_dataset_name: str | None = field(
        default=None,
        metadata={"help": "Evaluation data: name, file or folder. Default: the test split of the training data."},
    )


@dataclass
class JudgeArguments(TrainArguments):
    """
    Settings of a judge other than training arguments.

    Args:
        judge_template (`str`, *optional*): Fields of [`JudgeTemplate`] as a JSON object or file, or a mapping in YAML.
        judge_max_new_tokens (`int`, *optional*): Maximum number of tokens of a written judgment.
        budget, risk (`float`, *optional*): Aim of a calibration on the evaluation pairs after training, see
            [`FastSlowRewardModel.calibrate`].
    """

    judge_template: str | None = field(
        default=None,
        metadata={"help": "Judge prompt: fields of JudgeTemplate as JSON, JSON file or YAML mapping."},
    )
    judge_max_new_tokens: Annotated[int | None, Count()] = field(
        default=None, metadata={"help": "Maximum number of tokens of a written judgment."}
    )
    budget: Annotated[float | None, Number(least=0, most=1)] = field(
        default=None, metadata={"help": "Calibration after training: maximum share of escalated decisions."}
    )
    risk: Annotated[float | None, Number(above=0, below=1)] = field(
        default=None, metadata={"help": "Calibration after training: maximum error rate of fast verdicts."}
    )


class TrainParser(OptionParser):
    """
    Parser of the options of a method.

    Args:
        method (`str`): Method, one of `METHODS`.
        show_all (`bool`, *optional*): Whether the help lists all options.
    """

    def __init__(self, method: str, show_all: bool = False):
        from trl import RewardConfig

        script = JudgeArguments if method == "fast-slow" else TrainArguments
        config = METHODS[method].load(METHODS[method].config)
        own = _names(config) - _names(RewardConfig)
        titles = {
            **dict.fromkeys(_names(config), "training"),
            **dict.fromkeys(own | (_names(JudgeArguments) - _names(TrainArguments)), method),
            **dict.fromkeys(_names(TrainArguments) | _names(DatasetMixtureConfig), "data"),
            **dict.fromkeys(_names(ModelConfig), "model and adapter"),
            "debug": COMMON,
            "log_level": COMMON,
        }
        self._show_all = show_all
        super().__init__(
            [script, config, ModelConfig, DatasetMixtureConfig],
            titles=titles,
            order=[method, "data", "model and adapter", "training", COMMON],
            prog=f"hf-reward-ext train {method}",
            usage="%(prog)s [--config FILE] --model_name_or_path NAME --dataset_name NAME --output_dir DIR [options]",
            description=f"Trains {METHODS[method].text}.",
            epilog="Other options are passed to `accelerate launch`: --num_processes, --accelerate_config, ...",
        )
        self._group(COMMON).add_argument(
            "--help_all",
            action="store_true",
            default=SUPPRESS,
            help="show all options, including those of transformers and TRL",
        )

    def _adapt(self, field: str, title: str, names: Sequence[str], kwargs: dict[str, Any]) -> None:
        is_shown = self._show_all or title != "training" or field in SHOWN
        if not is_shown or kwargs.get("action") == "store_false" or field == "ignore_bias_buffers":
            kwargs["help"] = SUPPRESS
        if field == "debug":
            # Of transformers' type; a list is not converted, as text would be.
            kwargs.update(nargs="?", const=[], help="show the traceback of an error; a value is for transformers")


def _names(kind: type) -> set[str]:
    return {field.name for field in fields(kind)}  # pyright: ignore[reportArgumentType]


def parse(arguments: Sequence[str]) -> tuple[Training, Namespace]:
    """
    Parse method and options, and the flags of every command.

    Raises:
        SystemExit: With code 2 if an option or value is wrong, with 0 after `--help`.
    """
    parser = ArgumentParser(
        prog="hf-reward-ext train",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("method", choices=METHODS, metavar="METHOD", help=", ".join(METHODS))
    method = parser.parse_args(list(arguments[:1])).method
    others = list(arguments[1:])
    is_child = is_launched()  # before the training arguments set environment variables of accelerate
    options, flags = _parse(method, others, is_child)
    flags.debug = any(is_option(argument, "debug") for argument in others)
    flags.log_level = None if options.training.log_level == "passive" else options.training.log_level
    return options, flags


def parse_method(method: str, arguments: Sequence[str], is_child: bool = False) -> Training:
    """Parse the options of `train METHOD`; see [`parse`]."""
    return _parse(method, arguments, is_child)[0]


def _parse(method: str, arguments: Sequence[str], is_child: bool) -> tuple[Training, Namespace]:
    show_all = any(is_option(argument, "help_all") for argument in arguments)
    parser = TrainParser(method, show_all)
    if show_all:
        parser.print_help()
        sys.exit(0)
    filled, flags, unknown, on_line = parser.parse(arguments)
    script, training, model, mixture = filled
    try:
        check_declared(script, spell=lambda name: f"--{name}")
    except (ValueError, TypeError) as error:
        parser.error(str(error))
    given = list(arguments)
    options = Training(method, script, training, model, mixture, unknown, on_line, given, is_child, parser.error)
    return options, flags


def run(options: Training) -> dict | None:
    """Train in this process, or in processes started by accelerate."""
    from hf_reward_ext.cli.launch import launch, wants_launch
    from hf_reward_ext.cli.training import check_options, train

    if not options.is_launched and wants_launch(options.launch_arguments):
        return launch(options)
    if options.launch_arguments_on_line:
        options.usage_error(f"unrecognized arguments: {' '.join(options.launch_arguments_on_line)}")
    check_options(options)
    return train(options)

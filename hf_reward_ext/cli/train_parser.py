"""TRL's parser, with options in groups and a help that shows those that matter first."""

import sys
from argparse import SUPPRESS, HelpFormatter
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, NamedTuple

from trl import DatasetMixtureConfig, ModelConfig, RewardConfig, TrlParser

from hf_reward_ext.cli.methods import METHODS
from hf_reward_ext.cli.parsing import shown_width
from hf_reward_ext.cli.train_arguments import JudgeArguments, TrainArguments
from hf_reward_ext.elhsr import ELHSRConfig
from hf_reward_ext.fast_slow import FastSlowConfig
from hf_reward_ext.genarm import GenARMConfig
from hf_reward_ext.sla import SLAConfig

CONFIGS = {"genarm": GenARMConfig, "sla": SLAConfig, "fast-slow": FastSlowConfig, "elhsr": ELHSRConfig}
# Shown by `--help`; the others of transformers and TRL by `--help_all`.
COMMON = """output_dir num_train_epochs max_steps per_device_train_batch_size per_device_eval_batch_size
gradient_accumulation_steps learning_rate lr_scheduler_type warmup_steps weight_decay max_grad_norm max_length
center_rewards_coefficient eval_strategy eval_steps save_strategy save_steps save_total_limit load_best_model_at_end
metric_for_best_model logging_steps report_to run_name seed bf16 use_cpu gradient_checkpointing resume_from_checkpoint
push_to_hub hub_model_id disable_tqdm""".split()
OPTIONS = "of every command"
_METAVARS = {"int": "N", "float": "X", "string_to_bool": "BOOL"}


class Parsed(NamedTuple):
    """
    A parsed command line.

    Args:
        script, training, model, mixture: The dataclasses that were filled.
        launch_arguments (`list[str]`): What none of them knows, so it is for accelerate.
        cli_launch_arguments (`list[str]`): Those of the command line, without those of the file.
        usage_error (`callable`): Ends the process with a message.
    """

    script: Any
    training: Any
    model: ModelConfig
    mixture: DatasetMixtureConfig
    launch_arguments: list[str]
    cli_launch_arguments: list[str]
    usage_error: Any


class TrainParser(TrlParser):
    """
    [`~trl.TrlParser`] of a method.

    Args:
        method (`str`): One of `METHODS`.
        show_all (`bool`): Whether the help lists every option.
    """

    def __init__(self, method: str, show_all: bool = False):
        script = JudgeArguments if method == "fast-slow" else TrainArguments
        types: Any = (script, CONFIGS[method], ModelConfig, DatasetMixtureConfig)
        own = _names(CONFIGS[method]) - _names(RewardConfig)
        self._titles = {
            **dict.fromkeys(own | (_names(JudgeArguments) - _names(TrainArguments)), method),
            **dict.fromkeys(_names(TrainArguments) | _names(DatasetMixtureConfig), "data"),
            **dict.fromkeys(_names(ModelConfig), "model and adapter"),
        }
        self._own_title = method
        self._show_all = show_all
        self._groups: dict[str, Any] = {}
        super().__init__(
            types,
            prog=f"hf-reward-ext train {method}",
            usage="%(prog)s [--config FILE] --model_name_or_path NAME --dataset_name NAME --output_dir DIR [options]",
            description=f"Trains {METHODS[method]}.",
            epilog="What is not listed goes to `accelerate launch`: --num_processes, --accelerate_config, ...",
            formatter_class=OptionFormatter,
            allow_abbrev=False,
        )
        group = self._group(OPTIONS)
        group.add_argument("--config", metavar="FILE", help="YAML file of these options; the command line wins over it")
        for name, what in (
            ("--json", "one JSON object on stdout, everything else on stderr"),
            ("--help_all", "every option of transformers and TRL too"),
        ):
            group.add_argument(name, action="store_true", default=SUPPRESS, help=what)

    def add_argument(self, *names, **kwargs):
        """Puts an option of the dataclasses into its group."""
        name = names[0].lstrip("-")
        if name in ("-h", "h"):
            return super().add_argument(*names, **kwargs)
        plain = name.removeprefix("no_")
        title = self._titles.get(name, self._titles.get(plain, "training"))
        is_shown = self._show_all or title != "training" or plain in COMMON
        if not is_shown or plain != name or name == "ignore_bias_buffers":
            kwargs["help"] = SUPPRESS
        if name == "debug":
            title = OPTIONS
            kwargs.update(nargs="?", const="", help="show the traceback of an error; with a value as in transformers")
        if "choices" not in kwargs and "action" not in kwargs:
            kwargs.setdefault("metavar", _METAVARS.get(kwargs["type"].__name__, "TEXT"))
        return self._group(title).add_argument(*names, **kwargs)

    def _group(self, title: str):
        for one in (self._own_title, "data", "model and adapter", "training", OPTIONS):  # in this order
            if one not in self._groups:
                self._groups[one] = self.add_argument_group(one)
        return self._groups[title]


class OptionFormatter(HelpFormatter):
    """One spelling of each option, and its default unless that is nothing."""

    def __init__(self, prog, **kwargs):
        super().__init__(prog, max_help_position=36, width=shown_width(), **kwargs)

    def _format_action_invocation(self, action):
        if not action.option_strings:
            return super()._format_action_invocation(action)
        name = next((one for one in action.option_strings if one.startswith("--")), action.option_strings[0])
        values = (
            "" if action.nargs == 0 else " " + self._format_args(action, str(action.metavar or action.dest.upper()))
        )
        return name + values

    def _get_help_string(self, action):
        shown = action.help or ""
        if action.default in (None, SUPPRESS, "", []) or action.nargs == 0 or "%(default)" in shown:
            return shown
        return f"{shown} (default: %(default)s)"


def _names(dataclass) -> set[str]:
    return {field.name for field in fields(dataclass)}


def parse(method: str, arguments: Sequence[str]) -> Parsed:
    """
    Options of `train METHOD`.

    Args:
        method (`str`): One of `METHODS`.
        arguments (`list[str]`): What follows it.

    Raises:
        SystemExit: With code 2 if an option or value is wrong, with 0 behind `--help`.
    """
    show_all = any(argument in ("--help_all", "--help-all") for argument in arguments)
    parser = TrainParser(method, show_all)
    if show_all:
        parser.print_help()
        sys.exit(0)
    try:
        *filled, from_config, from_line = parser.parse_args_and_config(
            list(arguments), return_remaining_strings=True, separate_remaining_strings=True
        )
    except (ValueError, TypeError, OSError) as error:
        parser.error(" ".join(str(error).split()))
    script, training, model, mixture = filled[:4]
    return Parsed(script, training, model, mixture, from_config + from_line, from_line, parser.error)

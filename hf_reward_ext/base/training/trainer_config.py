"""Training arguments shared by all methods."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from trl import RewardConfig

from hf_reward_ext.base.options import check_choice, check_count, check_number


@dataclass
class BaseRewardConfig(RewardConfig):
    """
    [`~trl.RewardConfig`] with defaults that work without an accelerator, and without deprecated options.

    Args:
        chat_template_kwargs (`dict`, *optional*): Arguments of the chat template (`enable_thinking`, ...); arguments in
            a row take precedence.

    A subclass adds the bounds of its options to `_numbers`, `_counts` and `_choices`.

    Raises:
        TypeError: If an option has another type.
        ValueError: If an option is NaN, infinite or out of its range, or activations are to be offloaded and there is
            no accelerator.
    """

    _numbers: ClassVar[dict[str, dict[str, float]]] = {  # bounds of numbers
        "learning_rate": {"least": 0},
        "weight_decay": {"least": 0},
        "max_grad_norm": {"least": 0},
        "num_train_epochs": {"least": 0},
        "warmup_steps": {"least": 0},
        "adam_beta1": {"least": 0, "below": 1},
        "adam_beta2": {"least": 0, "below": 1},
        "adam_epsilon": {"least": 0},
        "center_rewards_coefficient": {"least": 0},
    }
    _counts: ClassVar[dict[str, int]] = {  # lower bounds of integers
        "per_device_train_batch_size": 1,
        "per_device_eval_batch_size": 1,
        "gradient_accumulation_steps": 1,
        "max_length": 1,
        "pad_to_multiple_of": 1,
        "dataset_num_proc": 1,
        "seed": 0,
    }
    _choices: ClassVar[dict[str, tuple]] = {}
    _optional: ClassVar[set[str]] = {  # options that may be None
        "center_rewards_coefficient",
        "max_length",
        "pad_to_multiple_of",
        "dataset_num_proc",
    }

    _activation_checkpointing: ClassVar[bool] = True  # TRL's default, under the name that is not deprecated

    _VALID_DICT_FIELDS: ClassVar[list[str]] = [*RewardConfig._VALID_DICT_FIELDS, "chat_template_kwargs"]

    chat_template_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Arguments of the chat template, as JSON. Arguments in a row take precedence."}
    )
    gradient_checkpointing: bool | None = field(
        default=None, metadata={"help": "Deprecated name of activation_checkpointing."}
    )

    def __post_init__(self):
        has_accelerator = torch.accelerator.is_available() and not self.use_cpu
        if self.bf16 is None and not has_accelerator:
            self.bf16 = False
        if not torch.accelerator.is_available():
            self.dataloader_pin_memory = False  # avoids a warning of torch in every epoch
        if self.activation_checkpointing is None and self.gradient_checkpointing is None:
            self.activation_checkpointing = self._activation_checkpointing
        super().__post_init__()
        if self.activation_offloading and not has_accelerator:
            raise ValueError(
                "`activation_offloading` must be False without an accelerator, got True: activations are in the "
                "processor's memory already. Leave it out."
            )
        self._check_options()

    def _check_options(self) -> None:
        given = {name: value for name, value in vars(self).items() if value is not None or name not in self._optional}
        for name in self._numbers.keys() & given.keys():
            check_number(name, given[name], **self._numbers[name])
        for name in self._counts.keys() & given.keys():
            if given[name] != "auto":  # `pad_to_multiple_of`
                check_count(name, given[name], self._counts[name])
        for name in self._choices.keys() & given.keys():
            check_choice(name, given[name], self._choices[name])

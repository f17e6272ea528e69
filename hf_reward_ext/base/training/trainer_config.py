"""Training arguments that all methods share."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from trl import RewardConfig


@dataclass
class BaseRewardConfig(RewardConfig):
    """
    [`~trl.RewardConfig`] with defaults that work without an accelerator, and without options that are deprecated.

    Args:
        chat_template_kwargs (`dict`, *optional*): Arguments of the chat template (`enable_thinking`, ...), which those
            of a row replace.

    Raises:
        ValueError: If activations are to be offloaded and there is no accelerator.
    """

    _activation_checkpointing: ClassVar[bool] = True  # TRL's default, under the name that is not deprecated

    _VALID_DICT_FIELDS: ClassVar[list[str]] = [*RewardConfig._VALID_DICT_FIELDS, "chat_template_kwargs"]

    chat_template_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Arguments of the chat template, as JSON. Those of a row replace them."}
    )
    gradient_checkpointing: bool | None = field(
        default=None, metadata={"help": "Deprecated name of activation_checkpointing."}
    )

    def __post_init__(self):
        has_accelerator = torch.accelerator.is_available() and not self.use_cpu
        if self.bf16 is None and not has_accelerator:
            self.bf16 = False
        if not torch.accelerator.is_available():
            self.dataloader_pin_memory = False  # torch warns once per epoch otherwise
        if self.activation_checkpointing is None and self.gradient_checkpointing is None:
            self.activation_checkpointing = self._activation_checkpointing
        super().__post_init__()
        if self.activation_offloading and not has_accelerator:
            raise ValueError(
                "`activation_offloading` must be False without an accelerator, got True: activations are in the "
                "processor's memory already. Leave it out."
            )

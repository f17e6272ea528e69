"""What the configurations of all methods share: they refuse fields that they do not have."""

import inspect
from dataclasses import fields
from typing import Any

from transformers import PreTrainedConfig

from hf_reward_ext.base.lm.keywords import refuse_unknown

# Fields of every configuration that transformers takes without declaring them.
_UNDECLARED = {"num_labels", "name_or_path", "pad_token_id", "bos_token_id", "eos_token_id", "attn_implementation"}
_UNDECLARED |= {"experts_implementation", "torch_dtype", "quantization_config"}


class RewardModelConfig(PreTrainedConfig):
    """
    A configuration whose constructor refuses unknown fields.

    What a `config.json` holds beside them is kept: other libraries write fields of their own into it.
    """

    def __init__(self, **kwargs):
        refuse_unknown(type(self).__name__, kwargs, _common())
        super().__init__(**kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs):
        known = _common() | set(inspect.signature(cls.__init__).parameters)
        loaded = super().from_dict({name: value for name, value in config_dict.items() if name in known}, **kwargs)
        config = loaded[0] if isinstance(loaded, tuple) else loaded
        for name, value in config_dict.items():
            if name not in known and name != "model_type":
                setattr(config, name, value)
        return loaded


def _common() -> set[str]:
    return _UNDECLARED | {field.name for field in fields(PreTrainedConfig)}

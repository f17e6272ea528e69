"""Base class of the configurations of all methods, which rejects unknown fields."""

import inspect
from dataclasses import fields
from typing import Any

from transformers import CONFIG_MAPPING, PreTrainedConfig

from hf_reward_ext.base.lm.keywords import refuse_unknown

# Fields that every configuration of transformers accepts without declaring them.
_UNDECLARED = {"num_labels", "name_or_path", "pad_token_id", "bos_token_id", "eos_token_id", "attn_implementation"}
_UNDECLARED |= {"experts_implementation", "torch_dtype", "quantization_config"}


class RewardModelConfig(PreTrainedConfig):
    """
    A configuration whose constructor refuses unknown fields.

    Unknown fields in a `config.json` are kept, because other libraries add fields to it.
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


def check_nestable(config: PreTrainedConfig, what: str) -> None:
    """
    Reject a causal LM whose configuration could not be loaded as part of another one.

    Args:
        config (`PreTrainedConfig`): Configuration of the causal LM.
        what (`str`): Name of the containing model, for messages.

    Raises:
        ValueError: If the model has custom code, which its configuration alone does not include.
    """
    if config.model_type not in CONFIG_MAPPING:
        raise ValueError(
            f"The causal LM of a {what} must be a model of transformers to be saved with it, got the type "
            f"{config.model_type!r}, which has custom code. Train and save an adapter, or register its classes "
            "with `AutoConfig.register` and `AutoModelForCausalLM.register`."
        )


def _common() -> set[str]:
    return _UNDECLARED | {field.name for field in fields(PreTrainedConfig)}

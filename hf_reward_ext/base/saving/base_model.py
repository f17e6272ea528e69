"""Loading of the causal LM that a saved head, channel or adapter was trained on, by the name in its config."""

from importlib.resources import files

from peft import AutoPeftModelForCausalLM, PeftConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig, PreTrainedModel

_HUB_OPTIONS = ("revision", "cache_dir", "token", "local_files_only", "subfolder")
# Base models that are part of this package instead of the Hub.
_SHIPPED = {"hf_reward_ext/demo-policy": "demo/checkpoint"}


def load_base(config: PreTrainedConfig, **kwargs) -> PreTrainedModel:
    """
    Load the base model that the fields of [`base_pointer`] name, without an adapter.

    Args:
        config (`PreTrainedConfig`): Config of the saved part, with `base_model_name_or_path`.
        **kwargs: Arguments of `AutoModelForCausalLM.from_pretrained` (`dtype`, `device_map`, ...).

    Example:
    ```python
    >>> policy = load_base(head.config)
    ```
    """
    name = config.base_model_name_or_path
    revision = config.base_model_revision or "main"
    base = AutoModelForCausalLM.from_pretrained(location_of(name), revision=revision, **kwargs)
    base.config._name_or_path = name
    return base


def load_base_tokenizer(config: PreTrainedConfig):
    """Load the tokenizer of the base model; arguments as for [`load_base`]."""
    revision = config.base_model_revision or "main"
    return AutoTokenizer.from_pretrained(location_of(config.base_model_name_or_path), revision=revision)


def load_adapter(name, *, is_trainable: bool = False, **kwargs) -> PeftModel:
    """
    Load an adapter with the base model that its config names.

    Args:
        name (`str` or `Path`): Folder or Hub name of the adapter.
        is_trainable (`bool`, *optional*, defaults to `False`): Whether the adapter gets gradients.
        **kwargs: Arguments of `AutoModelForCausalLM.from_pretrained` (`dtype`, `device_map`, `revision`, ...).

    Example:
    ```python
    >>> guide = load_adapter("outputs/guide")
    ```
    """
    hub = {key: kwargs[key] for key in _HUB_OPTIONS if key in kwargs}
    base_name = PeftConfig.from_pretrained(name, **hub).base_model_name_or_path
    if base_name not in _SHIPPED:  # PEFT also finds the tokenizer, and resizes the embeddings to it
        return AutoPeftModelForCausalLM.from_pretrained(name, is_trainable=is_trainable, **kwargs)
    base = AutoModelForCausalLM.from_pretrained(
        location_of(base_name), **{key: value for key, value in kwargs.items() if key not in hub}
    )
    base.name_or_path = base.config._name_or_path = base_name
    return PeftModel.from_pretrained(base, name, is_trainable=is_trainable, **hub)


def location_of(name: str) -> str:
    """Return the folder of a model that is part of this package, and the name of any other unchanged."""
    return str(files("hf_reward_ext") / _SHIPPED[name]) if name in _SHIPPED else name

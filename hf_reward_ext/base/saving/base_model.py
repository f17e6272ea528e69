"""Loading of the causal LM that a saved head or channel was trained on, by the name in its config."""

from importlib.resources import files

from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig, PreTrainedModel

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
    base = AutoModelForCausalLM.from_pretrained(_location(name), revision=revision, **kwargs)
    base.config._name_or_path = name
    return base


def load_base_tokenizer(config: PreTrainedConfig):
    """Load the tokenizer of the base model; arguments as for [`load_base`]."""
    revision = config.base_model_revision or "main"
    return AutoTokenizer.from_pretrained(_location(config.base_model_name_or_path), revision=revision)


def _location(name: str) -> str:
    return str(files("hf_reward_ext") / _SHIPPED[name]) if name in _SHIPPED else name

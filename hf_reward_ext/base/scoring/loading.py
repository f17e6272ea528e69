"""Loading of reward models and their tokenizers by name or folder."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from peft import PeftConfig, TaskType
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedConfig
from transformers.utils import cached_file, find_adapter_config_file

from hf_reward_ext.base.saving.base_model import load_base_tokenizer
from hf_reward_ext.base.saving.paths import check_path

_HEADS = {"score", "classifier"}  # the modules that PEFT saves whole for this task


def load_reward_model(name: str | Path, **model_kwargs: Any) -> Any:
    """
    Load a reward model (of this library, TRL or the Hub) with `AutoModelForSequenceClassification`.

    Args:
        name (`str` or `Path`): Name or folder.
        **model_kwargs: Arguments of `from_pretrained` (`dtype`, `device_map`, ...).

    Raises:
        ValueError: If it is not a reward model: a causal LM, an adapter on one, or a model without a trained head.

    Example:
    ```python
    >>> model = load_reward_model("Skywork/Skywork-Reward-V2-Qwen3-0.6B")
    ```
    """
    name = str(name)
    if not has_file(name, "config.json") and find_adapter_config_file(name) is not None:
        _check_adapter(name, model_kwargs)
        return AutoModelForSequenceClassification.from_pretrained(name, num_labels=1, **model_kwargs)
    config = _config(name, model_kwargs)
    if not type(config).__module__.startswith("transformers."):  # a class of this library, or code from the Hub
        return AutoModelForSequenceClassification.from_pretrained(name, **model_kwargs)
    architectures = config.architectures or []
    if any(architecture.endswith("ForCausalLM") for architecture in architectures):
        raise ValueError(
            f"{name!r} must be a reward model, got the causal LM {architectures}, which has no reward head. Wrap it in "
            "a reward model and pass that object, or pass the folder of a reward model."
        )
    if config.num_labels != 1:
        raise ValueError(
            f"{name!r} must be a reward model with one label, got `num_labels={config.num_labels}`. Pass the folder of "
            "a reward model."
        )
    model, info = AutoModelForSequenceClassification.from_pretrained(name, output_loading_info=True, **model_kwargs)
    if info["missing_keys"]:
        raise ValueError(
            f"{name!r} must hold a whole reward model, but its weights lack {sorted(info['missing_keys'])[:5]}, which "
            "would be random. Pass the folder of a trained reward model."
        )
    return model


def load_reward_tokenizer(name: str | Path, **kwargs: Any) -> Any:
    """
    Load the tokenizer of a reward model, or that of its base model if it was saved without one.

    Args:
        name (`str` or `Path`): Name or folder of the reward model.
        **kwargs: Arguments of `AutoTokenizer.from_pretrained`.
    """
    name = str(name)
    if not has_file(name, "tokenizer_config.json") and has_file(name, "config.json"):
        config = _config(name, {})
        if getattr(config, "base_model_name_or_path", None) is not None:
            return load_base_tokenizer(config)
    return AutoTokenizer.from_pretrained(name, **kwargs)


def has_file(name: str, file: str) -> bool:
    """Return whether a folder, or a repository on the Hub, has a file; a path without a folder raises an error."""
    check_path(name)
    return cached_file(name, file, _raise_exceptions_for_missing_entries=False) is not None


def _check_adapter(name: str, model_kwargs: dict[str, Any]) -> None:
    """Reject an adapter whose reward head would be random, which the loading info of transformers does not show."""
    options = _hub_options(model_kwargs)
    where = {key: options[key] for key in ("revision", "token") if key in options}
    adapter = PeftConfig.from_pretrained(name, **where)
    if adapter.task_type not in (TaskType.SEQ_CLS, None):
        raise ValueError(
            f"{name!r} must be a reward model, got an adapter of task type {str(adapter.task_type)!r}, which has no "
            "reward head. Wrap it in a reward model and pass that object, or pass the folder of a reward model."
        )
    base = AutoConfig.from_pretrained(str(adapter.base_model_name_or_path), **options | {"revision": adapter.revision})
    if any(architecture.endswith("ForSequenceClassification") for architecture in base.architectures or []):
        return
    file = cached_file(name, "adapter_model.safetensors", _raise_exceptions_for_missing_entries=False, **where)
    with safe_open(file, "pt") if file else nullcontext() as weights:
        heads = [] if weights is None else [key for key in weights.keys() if _HEADS & set(key.split("."))]
    if not heads:
        raise ValueError(
            f"{name!r} must hold a whole reward model, but its adapter_model.safetensors has none of the heads "
            f"{sorted(_HEADS)}, which would be random. Pass the folder of a trained reward model."
        )


def _config(name: str, model_kwargs: dict[str, Any]) -> PreTrainedConfig:
    return AutoConfig.from_pretrained(name, **_hub_options(model_kwargs))


def _hub_options(model_kwargs: dict[str, Any]) -> dict[str, Any]:
    return {key: model_kwargs[key] for key in ("revision", "trust_remote_code", "token") if key in model_kwargs}

"""Models and tokenizers by the names that the commands take."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig

from hf_reward_ext.demo.policy import NAME as DEMO_POLICY
from hf_reward_ext.demo.policy import load_policy


def model_type(name: str) -> str | None:
    """`model_type` of the config of a model; `None` for the demo policy, and for a folder that holds an adapter."""
    if name == DEMO_POLICY or adapter_base(name) is not None:
        return None
    return config_of(name).model_type


def config_of(name: str) -> PreTrainedConfig:
    """
    Config of a model by name or folder.

    Raises:
        FileNotFoundError: If the folder has none.
    """
    if Path(name).is_dir() and not (Path(name) / "config.json").is_file():
        raise FileNotFoundError(
            f"The model folder {name!r} was given, but it has no `config.json`. Pass a folder that a trainer wrote."
        )
    return AutoConfig.from_pretrained(name)


def adapter_base(name: str) -> str | None:
    """Name of the base model, if a folder holds an adapter."""
    path = Path(name) / "adapter_config.json"
    return json.loads(path.read_text())["base_model_name_or_path"] if path.is_file() else None


def load_tokenizer(name: str, **kwargs):
    """The tokenizer of a model; an adapter may lie without one."""
    if name == DEMO_POLICY:
        return load_policy()[1]
    base = adapter_base(name)
    if base is not None and not (Path(name) / "tokenizer_config.json").is_file():
        return load_tokenizer(base, **kwargs)
    return AutoTokenizer.from_pretrained(name, **kwargs)


def load_causal_lm(name: str, **kwargs) -> Any:
    """
    A causal LM by name or folder: the demo policy, an adapter on its base, or any of the Hub.

    Args:
        name (`str`): Name or folder.
        **kwargs: For `from_pretrained` (`dtype`, `revision`, ...); the demo policy is float32 unless told otherwise.
    """
    if name == DEMO_POLICY:
        dtype = kwargs.get("dtype")
        policy: Any = load_policy()[0]
        return policy.to(torch.float32 if dtype in (None, "auto") else getattr(torch, dtype))
    base = adapter_base(name)
    if base is None:
        return AutoModelForCausalLM.from_pretrained(name, **kwargs)
    from peft import PeftModel

    return PeftModel.from_pretrained(load_causal_lm(base, **kwargs), name)

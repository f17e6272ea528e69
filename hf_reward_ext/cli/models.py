"""Models and tokenizers by the names that the commands take."""

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig
from transformers.utils import find_adapter_config_file

from hf_reward_ext.demo.policy import NAME as DEMO_POLICY
from hf_reward_ext.demo.policy import load_policy


def model_type(name: str) -> str | None:
    """`model_type` of the config of a model; `None` for the demo policy, and for an adapter without a config."""
    if name == DEMO_POLICY:
        return None
    has_config = (Path(name) / "config.json").is_file()
    return None if not has_config and adapter_base(name) is not None else config_of(name).model_type


def config_of(name: str) -> PreTrainedConfig:
    """Config of a model by name or folder."""
    _check_folder(name, "config.json")
    return AutoConfig.from_pretrained(name)


def _check_folder(name: str, *files: str) -> None:
    if Path(name).is_dir() and not any((Path(name) / file).is_file() for file in files):
        raise FileNotFoundError(
            f"The model folder {name!r} was given, but it has no {' or '.join(files)}. Pass a folder that a trainer "
            "wrote."
        )


def adapter_base(name: str) -> str | None:
    """Name of the base model, if what lies there is an adapter."""
    path = None if name == DEMO_POLICY else find_adapter_config_file(name)
    return json.loads(Path(path).read_text(encoding="utf-8"))["base_model_name_or_path"] if path else None


def base_of(name: str) -> str:
    """
    The base model that a head, channel or adapter was trained on.

    Raises:
        ValueError: If it does not say.
    """
    base = adapter_base(name)
    if base is None and name != DEMO_POLICY:
        base = getattr(config_of(name), "base_model_name_or_path", None)
    if base is None:
        raise ValueError(f"{name!r} does not say which model it was trained on. Pass that model as --model.")
    return base


def loading_settings(args: Namespace) -> dict[str, Any]:
    """Keyword arguments of `from_pretrained` by the options of `add_model_options`."""
    settings: dict[str, Any] = {"dtype": args.dtype, "trust_remote_code": args.trust_remote_code}
    return settings | ({"device_map": "auto"} if args.device == "auto" else {})


def on_device(model, args: Namespace) -> Any:
    """The model where `--device` says, in evaluation mode."""
    if args.device != "auto":
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        model = model.to(args.device or found or "cpu")
    return model.eval()


def load_tokenizer(name: str, **kwargs):
    """The tokenizer of a model; an adapter may lie without one."""
    if name == DEMO_POLICY:
        return load_policy()[1]
    _check_folder(name, "config.json", "adapter_config.json")
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
        policy.name_or_path = DEMO_POLICY  # what an adapter's config remembers
        return policy.to(torch.float32 if dtype in (None, "auto") else getattr(torch, dtype))
    base = adapter_base(name)
    if base is None:
        return AutoModelForCausalLM.from_pretrained(name, **kwargs)
    from peft import PeftModel

    return PeftModel.from_pretrained(load_causal_lm(base, **kwargs), name)

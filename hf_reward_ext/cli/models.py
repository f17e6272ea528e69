"""Loading of models, tokenizers and scorers by name."""

import json
import logging
import re
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig
from transformers.utils import cached_file, find_adapter_config_file

from hf_reward_ext.base.saving.fingerprint import fingerprint_folder
from hf_reward_ext.base.saving.loading import check_finite, check_loaded, whole_adapter
from hf_reward_ext.base.saving.paths import is_path
from hf_reward_ext.base.scoring.loading import load_reward_model, load_reward_tokenizer
from hf_reward_ext.base.scoring.pair import PairScorer
from hf_reward_ext.base.scoring.scorer import Scorer, as_scorer
from hf_reward_ext.cli.folders import check_model_folder
from hf_reward_ext.cli.functions import load_function
from hf_reward_ext.cli.options import TRAINING_FREE, LoadingOptions, is_function, is_training_free, is_url
from hf_reward_ext.demo.policy import NAME as DEMO_POLICY
from hf_reward_ext.demo.policy import load_policy
from hf_reward_ext.engines import RemoteReward
from hf_reward_ext.genarm import GenARMRewardModel

logger = logging.getLogger(__name__)


def check_name(name: str | None, option: str, functions: bool = False) -> None:
    """
    Reject a name that cannot be a model, without a request to the Hub.

    Args:
        name (`str`, *optional*): Name or folder; `None` is accepted.
        option (`str`): Name of the option, for messages.
        functions (`bool`, *optional*): Whether `MODULE:FUNCTION` is allowed too.

    Raises:
        FileNotFoundError: If it can only be a folder, and there is none, or none with a model.
        ValueError: If it is neither a folder nor `OWNER/NAME`, or a file in the folder is broken.
    """
    if name is None or name == DEMO_POLICY or (functions and is_function(name)):
        return
    or_function = ", or MODULE:FUNCTION" if functions else ""
    if name and Path(name).is_dir():
        check_model_folder(name, option)
        return
    if is_path(name):
        raise FileNotFoundError(
            f"`{option}` must be a folder or OWNER/NAME on the Hub{or_function}, but there is no folder {name!r}. "
            "Check the path."
        )
    if "/" not in name:
        remedy = f" For a function write MODULE:{name}." if functions else ""
        if functions and (close := get_close_matches(name, TRAINING_FREE, 1)):
            remedy = f" The training-free reward is {close[0]!r}."
        raise ValueError(
            f"`{option}` must be a folder or OWNER/NAME on the Hub{or_function}, got {name!r}, and there is no folder "
            f"of that name.{remedy or ' Check the path.'}"
        )


def fingerprint(name: str, revision: str | None = None) -> dict[str, Any]:
    """
    Return values that identify a model and its base: hashes of files, or the commit on the Hub.

    Args:
        name (`str`): Name or folder.
        revision (`str`, *optional*): Branch, tag or commit.
    """
    if name == DEMO_POLICY:
        return {"name": name, "files": fingerprint_folder(str(files("hf_reward_ext.demo") / "checkpoint"))}
    if Path(name).is_dir():
        found: dict[str, Any] = {"files": fingerprint_folder(name)}
    else:
        found = {"name": name, "commit": _commit(name, revision)}
    base = base_of(name, revision)
    return found | ({"base": fingerprint(base)} if base and base != name else {})


def base_of(name: str, revision: str | None = None) -> str | None:
    """Return the name of the model that a head, channel or adapter was trained on, if it names one."""
    return adapter_base(name, revision) or getattr(_config_or_none(name, revision), "base_model_name_or_path", None)


def _commit(name: str, revision: str | None) -> str | None:
    for file in ("config.json", "adapter_config.json"):
        path = cached_file(name, file, revision=revision, _raise_exceptions_for_missing_entries=False)
        parts = Path(path).parts if path else ()
        if "snapshots" in parts:
            return parts[parts.index("snapshots") + 1]
    return None


def _config_or_none(name: str, revision: str | None) -> PreTrainedConfig | None:
    has_config = cached_file(name, "config.json", revision=revision, _raise_exceptions_for_missing_entries=False)
    return AutoConfig.from_pretrained(name, revision=revision) if has_config else None


def model_type(name: str, **kwargs: Any) -> str | None:
    """Return the `model_type` of a model; `None` for the demo policy, and for an adapter without a config."""
    if name == DEMO_POLICY:
        return None
    has_config = (Path(name) / "config.json").is_file()
    return None if not has_config and adapter_base(name) is not None else config_of(name, **kwargs).model_type


def config_of(name: str, **kwargs: Any) -> PreTrainedConfig:
    """Return the config of a model by name or folder."""
    return AutoConfig.from_pretrained(name, **kwargs)


def adapter_base(name: str, revision: str | None = None) -> str | None:
    """Return the name of the base model of an adapter; `None` for other models."""
    path = None if name == DEMO_POLICY else find_adapter_config_file(name, revision=revision)
    return json.loads(Path(path).read_text(encoding="utf-8"))["base_model_name_or_path"] if path else None


def base_model_name(name: str, option: str = "--model") -> str:
    """
    Return the base model that a head, channel or adapter was trained on.

    Raises:
        ValueError: If it has no name of a base model.
    """
    base = adapter_base(name)
    if base is None and name != DEMO_POLICY:
        base = getattr(config_of(name), "base_model_name_or_path", None)
    if base is None:
        raise ValueError(f"{name!r} has no name of the model it was trained on. Pass that model as {option}.")
    return base


def loading_settings(options: LoadingOptions) -> dict[str, Any]:
    """Return the keyword arguments of `from_pretrained`."""
    settings: dict[str, Any] = {"dtype": options.dtype, "trust_remote_code": options.trust_remote_code}
    return settings | ({"device_map": "auto"} if options.device == "auto" else {})


def on_device(model: Any, options: LoadingOptions) -> Any:
    """Return the model on `--device`, in evaluation mode."""
    if options.device != "auto":
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        model = model.to(options.device or found or "cpu")
    return model.eval()


def load_tokenizer(name: str, **kwargs: Any) -> Any:
    """
    Load the tokenizer of a model, or that of the base for an adapter saved without one.

    Args:
        name (`str`): Name or folder.
        **kwargs: Arguments of `from_pretrained` (`revision`, `trust_remote_code`).
    """
    if name == DEMO_POLICY:
        return load_policy()[1]
    base = adapter_base(name)
    if base is not None and not (Path(name) / "tokenizer_config.json").is_file():
        return load_tokenizer(base)
    return AutoTokenizer.from_pretrained(name, **kwargs)


def set_template_variables(tokenizer: Any, variables: Mapping[str, Any]) -> Any:
    """
    Set variables of a tokenizer's chat template for all uses, and return the tokenizer.

    Args:
        tokenizer: Tokenizer to change.
        variables (`dict`): Text, numbers or booleans by name, such as `{"enable_thinking": False}`.

    Raises:
        ValueError: If there are variables but no template, or one that does not use them.
    """
    if not variables:
        return tokenizer
    template = tokenizer.chat_template
    if template is None:
        raise ValueError(
            "`--chat_template_kwargs` must come with a chat template, but the tokenizer has none. Leave it out."
        )
    texts = [template] if isinstance(template, str) else template.values()
    for name in variables:
        if not any(re.search(rf"\b{name}\b", text) for text in texts):
            raise ValueError(
                f"`--chat_template_kwargs` must be variables of the chat template, which does not use {name!r}. Leave "
                "it out."
            )
    head = "".join(f"{{%- set {name} = {json.dumps(value)} -%}}" for name, value in variables.items())
    one = isinstance(template, str)
    tokenizer.chat_template = head + template if one else {name: head + text for name, text in template.items()}
    return tokenizer


def load_causal_lm(name: str, **kwargs: Any) -> Any:
    """
    Load a causal LM by name or folder: the demo policy, an adapter on its base, or any model of the Hub.

    Args:
        name (`str`): Name or folder.
        **kwargs: Arguments of `from_pretrained` (`dtype`, `revision`, ...); the demo policy is float32 by default.
    """
    if name == DEMO_POLICY:
        dtype = kwargs.get("dtype")
        policy: Any = load_policy()[0]
        policy.name_or_path = DEMO_POLICY  # recorded in the adapter's config
        return policy.to(torch.float32 if dtype in (None, "auto") else getattr(torch, dtype))
    base = adapter_base(name)
    if base is None:
        loaded: Any = AutoModelForCausalLM.from_pretrained(name, output_loading_info=True, **kwargs)
        model, report = loaded
        check_loaded(name, model, {"missing_keys": report["missing_keys"]})  # others may be of another head
        return model
    revision = kwargs.pop("revision", None)  # revision of the adapter, not of its base
    policy = load_causal_lm(base, **kwargs)
    return load_adapter(policy, name, revision=revision)


def load_adapter(policy: Any, name: str, **kwargs: Any) -> Any:
    """
    Return an adapter on its base, whole and finite.

    Args:
        policy (`PreTrainedModel`): The base.
        name (`str`): Name or folder of the adapter.
        **kwargs: For `PeftModel.from_pretrained` (`revision`, `adapter_name`).
    """
    from peft import PeftModel

    from hf_reward_ext.genarm.conditioned_folder import is_conditioned_folder

    if is_conditioned_folder(name):
        raise ValueError(
            f"{name!r} must be a plain adapter, got a conditioned guide, whose weights no command takes. Fold them in "
            f"with `fold_weights(load_conditioned_guide({name!r}), weights)`, and save the result."
        )
    with whole_adapter(name):
        adapted = PeftModel.from_pretrained(policy, name, **kwargs)
    check_finite(name, adapted, "adapter_model.safetensors")
    return adapted


def load_scorer(
    name: str, option: str, options: LoadingOptions, batch_size: int, revision: str | None = None
) -> Scorer | PairScorer:
    """
    Load a scorer of prompts and completions.

    Args:
        name (`str`): `MODULE:FUNCTION`; the address of a server; a reward model or judge by name or folder; or a
            causal LM or adapter, which scores as an autoregressive reward model.
        option (`str`): Name of the option, for messages.
        options ([`LoadingOptions`]): Loading options of models.
        batch_size (`int`): Number of texts per forward.
        revision (`str`, *optional*): Branch, tag or commit of this model.

    Raises:
        RuntimeError: If the server does not answer.
        TypeError, ValueError: If the function does not exist or cannot be called, or the model cannot score text.
    """
    if is_function(name):
        return as_scorer(load_function(name, option))
    if is_url(name):
        remote = RemoteReward(name)
        remote.check_answers()
        return as_scorer(remote)
    kwargs = {**loading_settings(options), "revision": revision}
    given = {"revision": revision, "trust_remote_code": options.trust_remote_code}
    if is_causal_lm(name):
        logger.info(
            "%s is a causal LM: its reward is the sum of its log-probabilities, which is lower for longer responses.",
            name,
        )
        causal_lm = load_causal_lm(name, **kwargs)
        merged = causal_lm.merge_and_unload() if hasattr(causal_lm, "peft_config") else causal_lm
        model = on_device(GenARMRewardModel.from_causal_lm(merged), options)
        return as_scorer(model, load_tokenizer(name, **given), batch_size)
    model = on_device(load_reward_model(name, **kwargs), options)
    check_finite(name, model)
    return as_scorer(model, load_reward_tokenizer(name, **given), batch_size)


def is_causal_lm(name: str) -> bool:
    """Return whether a model is a causal LM or an adapter on one, which scores by its log-probability."""
    if model_type(name) is None:
        return True
    return any(architecture.endswith("ForCausalLM") for architecture in config_of(name).architectures or ())


def is_head(name: str) -> bool:
    """Return whether a reward model is an ELHSR head, which scores during generation."""
    return not is_function(name) and not is_training_free(name) and not is_url(name) and model_type(name) == "elhsr"

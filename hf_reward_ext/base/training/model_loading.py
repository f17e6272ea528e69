"""Loading of the causal LM and the tokenizer, shared by all trainers."""

from typing import Any, cast

import torch
from peft import PeftConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import find_adapter_config_file

from hf_reward_ext.base.saving.base_model import load_adapter, location_of
from hf_reward_ext.base.training.trainer_config import BaseRewardConfig

_HUB_OPTIONS = ("revision", "token", "cache_dir", "local_files_only")


def load_causal_lm(name: str, args: BaseRewardConfig, quantization_config=None):
    """
    Load the causal LM to train, in float32 unless `args.model_init_kwargs` has a `dtype`, as TRL's trainers do.

    Args:
        name (`str`): Repository or folder of a causal LM, or of an adapter, which is loaded trainable on its base.
        args ([`BaseRewardConfig`]): Training arguments with `model_init_kwargs` and `trust_remote_code`.
        quantization_config (*optional*): Quantization of the weights.

    Raises:
        ValueError: If options are given twice or are not those of a reward model, or the checkpoint has no LM head.
    """
    options = cast(dict[str, Any], dict(args.model_init_kwargs or {}))  # pyright: ignore[reportArgumentType, reportCallIssue]
    if options.pop("num_labels", 1) != 1:
        raise ValueError(
            f"`model_init_kwargs['num_labels']` must be 1, got {cast(dict, args.model_init_kwargs)['num_labels']}: a "
            "reward is one number. Leave it out."
        )
    if quantization_config is not None:
        if "quantization_config" in options:
            raise ValueError(
                "`quantization_config` must be given once, got one as an argument and one in `model_init_kwargs`. "
                "Leave out the latter."
            )
        options["quantization_config"] = quantization_config
    if isinstance(options.get("dtype"), str) and options["dtype"] != "auto":
        options["dtype"] = getattr(torch, options["dtype"])
    options = {"dtype": torch.float32, "trust_remote_code": args.trust_remote_code, **options}
    hub_options = {key: options[key] for key in _HUB_OPTIONS if key in options}
    if find_adapter_config_file(location_of(name), **hub_options) is not None:
        return load_adapter(name, is_trainable=True, **options)
    model, report = AutoModelForCausalLM.from_pretrained(location_of(name), output_loading_info=True, **options)  # pyright: ignore[reportGeneralTypeIssues]
    model.name_or_path = model.config._name_or_path = name
    _check_head(name, model, report["missing_keys"])
    return model


def check_causal_lm(model) -> PreTrainedModel:
    """
    Return the causal LM without its adapters.

    Raises:
        TypeError: If the model is not a decoder-only language model with an LM head.
    """
    causal_lm = model.get_base_model() if hasattr(model, "get_base_model") else model
    if (
        not hasattr(causal_lm, "get_output_embeddings")
        or causal_lm.get_output_embeddings() is None
        or causal_lm.config.is_encoder_decoder
    ):
        raise TypeError(
            f"`model` must be a causal LM, got a `{type(causal_lm).__name__}`. Load it with `AutoModelForCausalLM`."
        )
    return causal_lm


def router_loss_weight(causal_lm) -> float:
    """Return the weight of the load-balancing loss of a mixture of experts; 0 unless its config enables the loss."""
    config = causal_lm.config.get_text_config()
    return getattr(config, "router_aux_loss_coef", 0.0) if getattr(config, "output_router_logits", False) else 0.0


def load_processing_class(causal_lm, args: BaseRewardConfig) -> PreTrainedTokenizerBase:
    """
    Load the tokenizer of a model, by its name and at its revision.

    Raises:
        ValueError: If the model has no name.
    """
    name = causal_lm.config._name_or_path
    if not name:
        raise ValueError(
            f"`processing_class` must be given: this `{type(causal_lm).__name__}` has no name to load a tokenizer by."
        )
    options = cast(dict[str, Any], args.model_init_kwargs or {})
    given = {key: options[key] for key in _HUB_OPTIONS if key in options}
    given.setdefault("revision", getattr(causal_lm.config, "_commit_hash", None))
    return AutoTokenizer.from_pretrained(location_of(name), trust_remote_code=args.trust_remote_code, **given)


def model_name(model) -> str:
    """Return the name or folder of a model, `""` for one that was built in memory."""
    return model if isinstance(model, str) else getattr(model.config, "_name_or_path", "")


def check_peft_config(model, peft_config) -> None:
    """
    Reject an adapter config that cannot be applied to a model.

    Raises:
        TypeError: If `peft_config` is not a `PeftConfig`.
        ValueError: If the model has an adapter already.
    """
    if peft_config is None:
        return
    if not isinstance(peft_config, PeftConfig):
        raise TypeError(f"`peft_config` must be a `PeftConfig`, got a `{type(peft_config).__name__}`.")
    if hasattr(model, "peft_config"):
        raise ValueError(
            f"`peft_config` must be None for a model that has adapters ({sorted(model.peft_config)}). Leave it out to "
            "train the adapter that is active, or merge it first with `merge_and_unload()`."
        )


def _check_head(name: str, model, missing) -> None:
    head = model.get_output_embeddings()
    names = {key for key, module in model.named_modules() if module is head}
    lost = sorted(key for key in missing if key.rpartition(".")[0] in names)
    if lost:
        raise ValueError(
            f"`model` must be a causal LM, but the checkpoint {name!r} ({model.config.architectures}) has no weights "
            f"for {lost}. Pass the causal LM that it was made from."
        )

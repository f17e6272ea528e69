"""Whatever scores text, by the names that the commands take."""

import importlib
import os
import sys
from argparse import Namespace
from collections.abc import Callable

from hf_reward_ext.base.scoring.loading import load_reward_model, load_reward_tokenizer
from hf_reward_ext.base.scoring.pair import PairScorer
from hf_reward_ext.base.scoring.scorer import Scorer, as_scorer
from hf_reward_ext.cli.models import config_of, load_causal_lm, load_tokenizer, loading_settings, model_type, on_device
from hf_reward_ext.genarm import GenARMRewardModel


def load_function(name: str) -> Callable:
    """
    A function by `MODULE:FUNCTION`; modules of the working directory are found.

    Raises:
        ValueError: If there is no such module or function.
    """
    module, _, function = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(module), function)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ValueError(f"{name!r} was given, but {error}. Pass MODULE:FUNCTION of something importable.") from error


def load_scorer(name: str, args: Namespace) -> Scorer | PairScorer:
    """
    A scorer of prompts and completions.

    Args:
        name (`str`): `MODULE:FUNCTION`; a reward model or judge by name or folder; or a causal LM or adapter, which
            scores as an autoregressive reward model.
        args (`Namespace`): Options of `add_model_options`, and `batch_size`.

    Raises:
        ValueError: If the function is not there, or the model scores nothing.
    """
    if ":" in name:
        return as_scorer(load_function(name))
    kwargs = loading_settings(args)
    if model_type(name) is None or _is_causal_lm(name):
        causal_lm = load_causal_lm(name, **kwargs)
        merged = causal_lm.merge_and_unload() if hasattr(causal_lm, "peft_config") else causal_lm
        model = on_device(GenARMRewardModel.from_causal_lm(merged), args)
        return as_scorer(model, load_tokenizer(name), args.batch_size)
    model = on_device(load_reward_model(name, **kwargs), args)
    return as_scorer(model, load_reward_tokenizer(name), args.batch_size)


def _is_causal_lm(name: str) -> bool:
    return any(architecture.endswith("ForCausalLM") for architecture in config_of(name).architectures or ())

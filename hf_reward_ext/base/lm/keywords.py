"""Checks of keywords, so that no call drops one silently."""

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from torch import Tensor
from transformers import GenerationConfig, GenerationMixin

from hf_reward_ext.base.lm.forward import forward_parameters


def refuse_unknown(call: str, given: Iterable[str], known: Collection[str] = ()) -> None:
    """
    Reject keywords that a call would ignore.

    Args:
        call (`str`): Name of the call, for the error message.
        given (`list[str]`): Names of the given keywords.
        known (`list[str]`, *optional*): Names of the keywords that the call handles.

    Raises:
        TypeError: For any other name, as Python does.

    Example:
    ```python
    >>> refuse_unknown("ELHSRModel.save_pretrained", ["token"], ["token", "variant"])
    ```
    """
    unknown = sorted(set(given) - set(known))
    if unknown:
        names = ", ".join(f"`{name}`" for name in unknown)
        raise TypeError(f"`{call}` must get keywords that it handles, got {names}. Leave them out.")


def declared_keywords(function: Callable) -> set[str]:
    """Return the parameter names that a function declares; it may drop any other keyword."""
    return {name for name, one in inspect.signature(function).parameters.items() if one.kind is not one.VAR_KEYWORD}


def check_generate_keywords(model, keywords: Collection[str]) -> None:
    """
    Reject keywords that `model.generate` would reject, before a prompt is read.

    Raises:
        TypeError: For a keyword that is no argument of `generate`, its configuration or the model's forward.
    """
    if "custom_generate" in keywords:  # a custom decoding method has further keywords, and `generate` checks them
        return
    known = declared_keywords(GenerationMixin.generate) | vars(GenerationConfig()).keys() | forward_parameters(model)  # pyright: ignore[reportAttributeAccessIssue]
    refuse_unknown("generate", keywords, known | {"tokenizer", "assistant_tokenizer", "trust_remote_code"})


def check_scoring_keywords(model, keywords: Mapping[str, Any]) -> None:
    """
    Reject keywords, other than ids and masks, that the forward of a whole-text scorer does not handle.

    Trainers, pipelines and tokenizers pass some keywords to every model; values without an effect are accepted.

    Raises:
        TypeError: For a keyword that scorers do not have.
        ValueError: For a value that would have an effect.
    """
    call = f"{type(model).__name__}.forward"
    refuse_unknown(call, keywords, _WITHOUT_EFFECT)
    for name, value in keywords.items():
        if isinstance(value, Tensor):
            value = bool(value.any())
        if value is not None and bool(value) != _WITHOUT_EFFECT[name]:
            raise ValueError(
                f"`{name}` of `{call}` must be {_WITHOUT_EFFECT[name]}, since only rewards come back, got {value}. "
                "Leave it out."
            )


_WITHOUT_EFFECT = {
    "return_dict": True,
    "use_cache": False,
    "output_attentions": False,
    "output_hidden_states": False,
    "token_type_ids": False,
}

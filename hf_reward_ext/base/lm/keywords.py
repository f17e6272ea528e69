"""Keywords that a call must not drop."""

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from torch import Tensor
from transformers import GenerationConfig, GenerationMixin

from hf_reward_ext.base.lm.forward import forward_parameters


def refuse_unknown(call: str, given: Iterable[str], known: Collection[str] = ()) -> None:
    """
    Refuses keywords that a call would ignore.

    Args:
        call (`str`): Name of the call, for the message.
        given (`list[str]`): Names that were given.
        known (`list[str]`, *optional*): Names that the call handles.

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
    """Names that a function declares; what it takes beside them it may drop."""
    return {name for name, one in inspect.signature(function).parameters.items() if one.kind is not one.VAR_KEYWORD}


def check_generate_keywords(model, keywords: Collection[str]) -> None:
    """
    Refuses what `model.generate` would refuse, before a prompt is read for it.

    Raises:
        TypeError: For a keyword that neither `generate`, nor its configuration, nor the model's forward has.
    """
    if "custom_generate" in keywords:  # a way of decoding has keywords of its own, and `generate` checks them
        return
    known = declared_keywords(GenerationMixin.generate) | vars(GenerationConfig()).keys() | forward_parameters(model)  # pyright: ignore[reportAttributeAccessIssue]
    refuse_unknown("generate", keywords, known | {"tokenizer", "assistant_tokenizer", "trust_remote_code"})


def check_scoring_keywords(model, keywords: Mapping[str, Any]) -> None:
    """
    Refuses what the forward of a scorer of whole texts does not handle beside ids and masks.

    Trainers, pipelines and tokenizers pass some keywords to every model; their values without effect are accepted.

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

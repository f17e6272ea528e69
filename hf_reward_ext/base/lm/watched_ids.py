"""Ids of a `generate` call whose rows are identified by them."""

from typing import Any

from jaxtyping import Int
from torch import Tensor
from transformers import GenerationConfig


def watched_ids(arguments: dict[str, Any], config: GenerationConfig, name: str) -> Int[Tensor, "rows seq"]:
    """
    Return the prompts of a call of `generate`.

    Args:
        arguments (`dict`): Arguments of `generate` by name.
        config (`GenerationConfig`): Effective settings.
        name (`str`): Name of the reader, for messages.

    Raises:
        ValueError: If the call has no ids, or uses continuous batching.
    """
    ids = arguments.get("inputs")
    ids = arguments.get("input_ids") if ids is None else ids
    if not isinstance(ids, Tensor) or ids.dim() != 2 or arguments.get("inputs_embeds") is not None:
        raise ValueError(
            f"`generate` must get `input_ids` of shape (rows, seq) with a `{name}`, which finds rows by their ids. "
            "Pass `input_ids` instead of `inputs_embeds`."
        )
    if config.cache_implementation == "paged":
        raise ValueError(
            f"`cache_implementation` must not be 'paged' with a `{name}`: continuous batching packs the rows of many "
            "requests into one. Leave `cache_implementation` out."
        )
    return ids

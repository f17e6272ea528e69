"""What may be done with a cache."""

from transformers import Cache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer


def can_select_rows(cache: Cache) -> bool:
    """
    Whether rows of the cache can be repeated and selected without losing state.

    Linear-attention layers inherit the methods, but their recurrent state does not follow.
    """
    return bool(cache.layers) and all(
        type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers
    )

"""Cache with several groups of rows, of which `generate` uses one."""

# Names that the stubs of transformers do not know.
# pyright: reportAttributeAccessIssue=false

from types import MethodType

import torch
from torch import Tensor
from transformers import Cache


def group_rows(cache: Cache, num_groups: int) -> None:
    """
    Apply operations on the rows of one group to all groups. A second call has no effect.

    `crop` and `batch_repeat_interleave` already keep groups together.
    """
    for layer in cache.layers:
        if "num_groups" not in vars(layer):
            layer.num_groups = num_groups
            # Bound to the layer, so that a copy of the cache has its own methods.
            layer.reorder_cache = MethodType(_reorder_cache, layer)
            layer.batch_select_indices = MethodType(_batch_select_indices, layer)


def _reorder_cache(self, beam_idx: Tensor) -> None:
    type(self).reorder_cache(self, _in_every_group(self, beam_idx))


def _batch_select_indices(self, indices: Tensor) -> None:
    type(self).batch_select_indices(self, _in_every_group(self, indices))


def _in_every_group(layer, rows: Tensor) -> Tensor:
    size = 0 if layer.keys is None else len(layer.keys) // layer.num_groups  # no methods yet, or those of other layers
    return torch.cat([rows + group * size for group in range(layer.num_groups)])

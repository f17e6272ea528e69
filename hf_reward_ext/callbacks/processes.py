"""Distribution of a list over the processes of a run."""

from typing import TypeVar

from accelerate import PartialState
from accelerate.utils import gather_object

Item = TypeVar("Item")


def own_share(items: list[Item]) -> tuple[int, list[Item]]:
    """
    Return the part of a list that this process handles, and the index of its first item.

    All parts have the same length: short parts are filled with the last item, so that no process waits forever for
    another one in the forward of a sharded model.

    Args:
        items (`list`): Items, the same on every process, not empty.
    """
    state = PartialState()
    size = -(-len(items) // state.num_processes)
    first = state.process_index * size
    share = items[first : first + size]
    return first, share + [items[-1]] * (size - len(share))


def gather_shares(results: list[Item], count: int) -> list[Item]:
    """
    Return the results of all processes in the order of the list, without those of filled items.

    Args:
        results (`list`): Results, one per item of [`own_share`].
        count (`int`): Length of the distributed list.
    """
    return gather_object(results)[:count]

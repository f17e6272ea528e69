"""Work on a list, shared among the processes of a run."""

from typing import TypeVar

from accelerate import PartialState
from accelerate.utils import gather_object

Item = TypeVar("Item")


def own_share(items: list[Item]) -> tuple[int, list[Item]]:
    """
    The part of a list that this process works on, and the place of its first item.

    Every process gets equally many: short shares are filled with the last item, so that no process waits in vain for
    another in the forward of a sharded model.

    Args:
        items (`list`): The same on every process, not empty.
    """
    state = PartialState()
    size = -(-len(items) // state.num_processes)
    first = state.process_index * size
    share = items[first : first + size]
    return first, share + [items[-1]] * (size - len(share))


def gather_shares(results: list[Item], count: int) -> list[Item]:
    """
    The results of all processes in the order of the list, on every process; what was only filled in is dropped.

    Args:
        results (`list`): One per item of [`own_share`].
        count (`int`): Length of the list that was shared.
    """
    return gather_object(results)[:count]

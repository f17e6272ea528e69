"""Reward functions, called according to their signature."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from inspect import Parameter
from typing import Any

_VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_SIDES = ("prompts", "completions")
# Arguments that TRL's trainers add to the columns of the data; they are never prompts or completions.
_TRL_COLUMNS = ("completion_ids", "trainer_state", "log_extra", "log_metric", "environments")


class RewardFunction:
    """
    Uniform way to call reward functions, bound to the signature at construction.

    | signature | call |
    |---|---|
    | `prompts` and `completions` in any order, `completions` alone, `**columns` | by name, as TRL's trainers do |
    | `(p, c)`: two required arguments of any names | prompts first |
    | further arguments | columns of the prompts, by name |

    The function may be asynchronous.

    Args:
        function (`callable`): The function.

    Attributes:
        name (`str`): Name for messages and logs.
        columns (`frozenset[str]`): Columns that the function requires.

    Raises:
        TypeError: If it can be called in none of these ways.

    Example:
    ```python
    >>> RewardFunction(lambda p, c: [len(text) for text in c])(["a"], ["bc"])
    [2]
    ```
    """

    def __init__(self, function: Callable):
        self.function = function
        name = str(getattr(function, "__name__", None) or type(function).__name__)
        self.name = "function" if name == "<lambda>" else name  # of results and pictures
        parameters = _parameters(function, self.name)
        kinds = {parameter.kind for parameter in parameters}
        self._accepts_any = Parameter.VAR_KEYWORD in kinds
        self._sides = _bind_sides(parameters)
        if not self._sides and kinds == {Parameter.VAR_POSITIONAL}:
            self._by_position = dict(zip(_SIDES, _SIDES, strict=True))
        else:
            hidden = [one.name for one in parameters if one.kind is Parameter.POSITIONAL_ONLY]
            self._by_position = {name: side for name, side in self._sides.items() if name in hidden}
        others = [one for one in parameters if one.name not in self._sides and one.kind not in _VARIADIC]
        self._known = frozenset(one.name for one in others)
        self.columns = frozenset(one.name for one in others if one.default is Parameter.empty)
        scored = {*self._sides.values(), *self._by_position.values()} | self._known
        if not self._accepts_any and not scored & {"completions", "completion_ids"}:
            raise _uncallable(self.name, "takes no completions")
        if any(one.kind is Parameter.POSITIONAL_ONLY and one.default is Parameter.empty for one in others):
            raise _uncallable(self.name, "has more than two positional-only arguments")

    def check_columns(self, available: Collection[str]) -> None:
        """
        Reject a function that requires columns that are not available.

        Args:
            available (`set[str]`): Names of the columns that calls will pass.

        Raises:
            TypeError: If an argument has no column.
        """
        missing = sorted(self.columns - set(available))
        if missing:
            raise TypeError(
                f"`{self.name}` must be callable with prompts, completions and the columns {sorted(available)}, but it "
                f"also has the arguments {missing}. Give them a default, or pass prompts with such columns."
            )

    def __call__(self, prompts: Sequence, completions: Sequence, columns: Mapping[str, Sequence] | None = None) -> Any:
        """
        Call the function.

        Args:
            prompts, completions (`list`): One prompt per completion.
            columns (`dict` from `str` to `list`, *optional*): Columns of the prompts.

        Returns:
            The return value of the function, awaited if it is asynchronous.
        """
        columns = columns or {}
        self.check_columns(columns)
        values: dict[str, list] = {"prompts": list(prompts), "completions": list(completions)}
        columns = {name: value for name, value in columns.items() if name not in _SIDES}
        # An argument of another name gets the column of that name, if there is one.
        given = {name: columns.get(name, values[side]) for name, side in self._sides.items()}
        if self._accepts_any:
            unbound = {side: value for side, value in values.items() if side not in self._sides.values()}
            given |= unbound | columns
        else:
            given |= {name: value for name, value in columns.items() if name in self._known}
        arguments = [given.pop(name, values[side]) for name, side in self._by_position.items()]
        returned = self.function(*arguments, **given)
        return _wait_for(returned) if inspect.isawaitable(returned) else returned


def _parameters(function: Callable, name: str) -> list[Parameter]:
    if inspect.isclass(function):
        raise TypeError(f"`{name}` must be callable with completions, got the class itself. Pass an instance.")
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        raise _uncallable(name, "has no readable signature") from error


def _bind_sides(parameters: Sequence[Parameter]) -> dict[str, str]:
    """Return the name of each argument that gets prompts or completions, and which of them it gets."""
    order = [one.name for one in parameters]
    sides = {one.name: one.name for one in parameters if one.name in _SIDES and one.kind not in _VARIADIC}
    required = [one.name for one in parameters if one.kind in _POSITIONAL and one.default is Parameter.empty]
    unknown = [name for name in required if name not in (*_SIDES, *_TRL_COLUMNS)]
    if "completions" in sides:
        if "prompts" not in sides and unknown and order.index(unknown[0]) < order.index("completions"):
            sides[unknown[0]] = "prompts"
    elif "prompts" in sides and unknown:
        sides[unknown[0]] = "completions"
    elif "prompts" not in sides and len(unknown) > 1:
        sides |= {unknown[0]: "prompts", unknown[1]: "completions"}
    return {name: sides[name] for name in order if name in sides}


def _uncallable(name: str, why: str) -> TypeError:
    return TypeError(
        f"`{name}` must be callable as `(prompts, completions)` or `(prompts, completions, **columns)`, but it {why}. "
        "Wrap it in a function that is."
    )


def _wait_for(awaitable: Awaitable) -> Any:
    async def result():
        return await awaitable

    with ThreadPoolExecutor(1) as thread:  # a notebook runs an event loop in this thread
        return thread.submit(asyncio.run, result()).result()

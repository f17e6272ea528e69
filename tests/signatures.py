"""
The public signatures: parameter names, order and defaults. `make signatures` records them in signatures.json.

Public are the names in `__all__` of every package, and the public methods and properties of classes among them that
are defined here; what transformers and TRL define changes with their versions.
"""

import dataclasses
import importlib
import inspect
import json
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path

import hf_reward_ext

FILE = Path(__file__).with_suffix(".json")
CALLED = ("__init__", "__call__", "__enter__", "__exit__")


def public_objects() -> dict[str, object]:
    """Every public name by its place, each once: under the first package that lists it."""
    names = ["hf_reward_ext"]
    names += [one.name for one in pkgutil.walk_packages(hf_reward_ext.__path__, "hf_reward_ext.") if one.ispkg]
    found = {}
    for package in map(importlib.import_module, names):
        for name in getattr(package, "__all__", ()):
            found.setdefault(id(getattr(package, name)), (f"{package.__name__}.{name}", getattr(package, name)))
    return dict(found.values())


def own_members(cls: type) -> Iterator[tuple[str, object]]:
    """Public methods and properties of a class, from its ancestors too, as far as they are defined here."""
    seen = set()
    for ancestor in cls.__mro__:
        if not ancestor.__module__.startswith("hf_reward_ext"):
            continue
        for name, member in vars(ancestor).items():
            is_member = callable(member) or isinstance(member, property | classmethod | staticmethod)
            if name in seen or not is_member or inspect.isclass(member):
                continue
            if name in CALLED or not name.startswith("_"):
                seen.add(name)
                yield name, member


def public_callables() -> dict[str, Callable]:
    """Public functions, constructors and methods, by name; constructors under the name of their class."""
    found = {}
    for place, public in public_objects().items():
        if not inspect.isclass(public):
            if callable(public):
                found[place] = public
            continue
        if dataclasses.is_dataclass(public) or "__init__" not in dict(own_members(public)):
            found[place] = public
        for name, member in own_members(public):
            is_generated = name == "__init__" and dataclasses.is_dataclass(public)
            if not isinstance(member, property) and not is_generated:
                function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
                found[place if name == "__init__" else f"{place}.{name}"] = function
    return found


def described(function: Callable) -> str:
    """`(self, name, other=3, *, last=None, **kwargs)`: no annotations, which change without consequence."""
    parameters = inspect.signature(function).parameters.values()
    bare = [one.replace(annotation=one.empty, default=_Shown(one.default)) for one in parameters]
    return str(inspect.Signature(bare))


class _Shown:
    """A default as it is written in code, not with its address."""

    def __new__(cls, default):
        return default if default is inspect.Parameter.empty else super().__new__(cls)

    def __init__(self, default):
        self.default = default

    def __repr__(self) -> str:
        name = getattr(self.default, "__qualname__", None)
        return name if name is not None else repr(self.default)


def own_fields(cls: type) -> str:
    """Fields of a dataclass that are declared here; TRL's own change with its versions."""
    declared = [set(vars(one).get("__annotations__", ())) for one in cls.__mro__ if "hf_reward_ext" in one.__module__]
    shown = []
    for field in dataclasses.fields(cls):
        if any(field.name in names for names in declared):
            made = field.default_factory is not dataclasses.MISSING
            default = f"{_Shown(field.default_factory)!r}()" if made else repr(_Shown(field.default))
            shown.append(field.name if field.default is dataclasses.MISSING and not made else f"{field.name}={default}")
    return f"fields({', '.join(shown)})"


def signatures() -> dict[str, str]:
    """Description of every public signature by name."""
    found = {}
    for place, function in public_callables().items():
        found[place] = own_fields(function) if dataclasses.is_dataclass(function) else described(function)
    for place, public in public_objects().items():
        if inspect.isclass(public):
            properties = [name for name, member in own_members(public) if isinstance(member, property)]
            found |= {f"{place}.{name}": "property" for name in properties}
    return dict(sorted(found.items()))


if __name__ == "__main__":
    FILE.write_text(json.dumps(signatures(), indent=1) + "\n")

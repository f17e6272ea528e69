"""Extension of griffe: references in docstrings, written as in Transformers, become links to the reference pages."""

import re
from typing import Any

import griffe

# `name ([`Type`] of shape `(rows, seq)`, *optional*):`, whose type is shown as code.
_TYPE = re.compile(r"^( +[\w*, ]+ \()(.*?)(\):)", re.MULTILINE)
_REFERENCE = re.compile(r"\[`~?([\w.]+)`\](?!\[|\()")


class HubReferences(griffe.Extension):
    """Turn [`name`] into a link if a public name of the package is meant, and into code otherwise."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        paths = {str(name): _path(room, str(name)) for room in _rooms(pkg) for name in room.exports or ()}
        _link(pkg, paths, set())


def _rooms(package: griffe.Module) -> list[griffe.Module]:
    return [member for member in package.members.values() if isinstance(member, griffe.Module)]


def _path(room: griffe.Module, name: str) -> str:
    """Return the path of a public name, which may be a function in a module of the same name."""
    is_module = isinstance(room.members.get(name), griffe.Module)
    return f"{room.path}.{name}.{name}" if is_module else f"{room.path}.{name}"


def _link(item: griffe.Object, paths: dict[str, str], seen: set[str]) -> None:
    seen.add(item.path)
    if item.docstring is not None:
        text = _TYPE.sub(lambda found: found[1] + _plain(found[2]) + found[3], item.docstring.value)
        item.docstring.value = _REFERENCE.sub(lambda found: _replace(found[1], paths), text)
    for member in item.members.values():
        if isinstance(member, griffe.Object) and member.path not in seen:
            _link(member, paths, seen)


def _plain(text: str) -> str:
    """Return a type without markup; the parser ends it at the first parenthesis."""
    return re.sub(r"\[`~?|`\]|[`*]", "", text).translate(str.maketrans("()", "[]"))


def _replace(name: str, paths: dict[str, str]) -> str:
    short = name.rsplit(".", 1)[-1]
    return f"[`{short}`][{paths[short]}]" if short in paths else f"`{short}`"

"""Reading of a YAML file of options, so that every value means what it does on the command line."""

import re
from pathlib import Path
from typing import Any

import yaml

_INTEGER = "tag:yaml.org,2002:int"
_FLOAT = "tag:yaml.org,2002:float"


class _Loader(yaml.SafeLoader):
    """Loader without repeated keys, and without numbers that YAML 1.1 reads differently (`010` is 8, `1:30` is 90)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise yaml.constructor.ConstructorError(
                None, None, f"{repeated[0]!r} is given several times", node.start_mark
            )
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_INTEGER, _FLOAT)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_INTEGER, re.compile(r"[-+]?(0|[1-9][0-9_]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(
        r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)


def read_options(path: Path) -> dict[Any, Any]:
    """
    Return the mapping in a YAML file.

    Raises:
        ValueError: If the file is no YAML in UTF-8, repeats a key, or is no mapping; the message names it.
        OSError: If it cannot be read.
    """
    try:
        settings = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # of YAML, of Unicode and dates, of depth
        raise ValueError(f"{str(path)!r} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{str(path)!r} does not map option names to values")
    return settings

"""How every command reads its options: from the command line, and from a YAML file below it."""

import os
import re
import shutil
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn


def add_command(
    commands,
    name: str,
    run: Callable[[Namespace], dict | None],
    add_options: Callable[[ArgumentParser], None],
    *,
    short: str,
    description: str,
    examples: Sequence[str],
    check: Callable[[Namespace], None] | None = None,
) -> None:
    """
    Adds a command, with the options that all have.

    Args:
        commands: What `add_subparsers` returned.
        name (`str`): Of the command.
        run (`callable`): Does the work; what it returns is printed with `--json`.
        add_options (`callable`): Gets the command's parser.
        short, description (`str`): For the list of commands, and for the command's own help.
        examples (`list[str]`): Command lines, printed below the options.
        check (`callable`, *optional*): Ends with `args.usage_error(...)` if options do not go together; runs before
            the library is loaded.
    """
    parser = commands.add_parser(
        name,
        help=short,
        description=description,
        usage=f"hf-reward-ext {name} [options]",
        epilog="examples:\n" + "\n".join(f"  hf-reward-ext {name} {line}" for line in examples),
        allow_abbrev=False,
        formatter_class=partial(RawDescriptionHelpFormatter, max_help_position=30, width=shown_width()),
    )
    add_options(parser)
    common = parser.add_argument_group("of every command")
    common.add_argument("--config", metavar="FILE", help="YAML file of these options; the command line wins over it")
    common.add_argument("--json", action="store_true", help="one JSON object on stdout, everything else on stderr")
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(run=run, check=check, usage_error=parser.error)


def shown_width() -> int:
    """Columns of a help text."""
    return max(60, min(shutil.get_terminal_size((100, 24)).columns, 120))


def expand(arguments: Sequence[str], usage_error: Callable[[str], NoReturn]) -> list[str]:
    """
    The command line with what its `--config` file says put before it, and options written with `_`.

    The file maps option names to values; its block `env` sets environment variables.

    Args:
        arguments (`list[str]`): The command and its options.
        usage_error (`callable`): Ends the process with a message.

    Example:
    ```python
    >>> expand(["bon", "--num-candidates", "4"], parser.error)
    ['bon', '--num_candidates', '4']
    ```
    """
    given = [_with_underscores(argument) for argument in arguments]
    if "--config" not in given:
        return given
    place = given.index("--config")
    if place + 1 == len(given):
        usage_error("argument --config: expected a file")
    settings = _settings(Path(given[place + 1]), usage_error)
    os.environ.update({name: str(value) for name, value in (settings.pop("env", None) or {}).items()})
    from_file = [argument for name, value in settings.items() for argument in _as_arguments(name, value)]
    return [given[0], *from_file, *given[1:place], *given[place + 2 :]]


def _settings(path: Path, usage_error: Callable[[str], NoReturn]) -> dict:
    import yaml

    if not path.is_file():
        usage_error(f"argument --config: there is no file {str(path)!r}")
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        usage_error(f"argument --config: {str(path)!r} is no YAML: {' '.join(str(error).split())}")
    if not isinstance(settings, dict):
        usage_error(f"argument --config: {str(path)!r} does not map option names to values")
    return settings


def _with_underscores(argument: str) -> str:
    name, equals, value = argument.partition("=")
    return "--" + name[2:].replace("-", "_") + equals + value if re.match("--[a-z]", argument) else argument


def _as_arguments(name: str, value) -> list[str]:
    """What the command line would say; flags that are off and values that are null say nothing."""
    if value is None or value is False:
        return []
    if value is True:
        return [f"--{name}"]
    if isinstance(value, list):
        return [f"--{name}", *map(str, value)]
    return [f"--{name}={value}"]

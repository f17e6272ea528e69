"""Parser based on TRL's, with groups of options, a file of options, and usage errors."""

import os
import re
import shutil
from argparse import SUPPRESS, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

from trl import TrlParser

from hf_reward_ext.base.options import check_declared
from hf_reward_ext.cli.config_file import read_options
from hf_reward_ext.cli.verbosity import LEVELS

COMMON = "of every command"
_METAVARS = {"int": "N", "float": "X"}
_FLAGS = ("json", "quiet", "debug")
_TYPES = ((bool, "true or false"), (int, "an integer"), (float, "a number"), (str, "text"))
_ONLY_ON_LINE = ("config", "h", "help", "help_all")
# Metadata of a field for this parser: another name of the option, its meaning for results (see outputs.py), and what it
# has no effect without.
_OWN_METADATA = ("option", "kind", "revision", "needs")


class Parsed(NamedTuple):
    """
    A parsed command line.

    Args:
        options (`tuple`): Dataclasses with the options.
        flags (`Namespace`): Options of every command: `json`, `quiet`, `log_level`, `debug`.
        unknown (`list[str]`): Unknown arguments in the file and on the command line.
        unknown_on_line (`list[str]`): Unknown arguments on the command line only.
    """

    options: tuple
    flags: Namespace
    unknown: list[str]
    unknown_on_line: list[str]


class OptionParser(TrlParser):
    """
    [`~trl.TrlParser`] of one command.

    In addition to TRL's parsing of dataclasses and a file of options, it has groups of options, one spelling of each
    option in the help, files in UTF-8, and usage errors for all mistakes.

    Args:
        types (`type` or `list[type]`): Dataclasses of options. A class attribute `title` is the group of the fields
            that the class itself defines.
        titles (`dict[str, str]`, *optional*): Groups of fields by name, for classes without a title.
        order (`list[str]`, *optional*): Groups that come first.
        **kwargs: Arguments of `argparse.ArgumentParser`.
    """

    def __init__(
        self, types: Any, *, titles: Mapping[str, str] | None = None, order: Sequence[str] = (), **kwargs: Any
    ):
        self._titles = dict(titles or {})
        self._groups: dict[str, Any] = {}
        self._order = list(order)
        self._renamed: dict[str, str] = {}
        types = types if isinstance(types, list | tuple) else [types]
        for kind in types:
            self._titles = {**_titles_of(kind), **self._titles}
        kwargs = {"formatter_class": OptionFormatter, "allow_abbrev": False, **kwargs}
        super().__init__(types, **kwargs)
        group = self._group(COMMON)
        group.add_argument("--config", metavar="FILE", help="YAML file of options; the command line takes precedence")
        group.add_argument("--json", action="store_true", help="one JSON object on stdout, everything else on stderr")
        group.add_argument("--quiet", action="store_true", help="only results, warnings and errors: no progress bars")
        if "log_level" not in self._titles:  # another option of TrainingArguments
            text = f"lowest level of messages, of this library and of those it uses: {', '.join(LEVELS)}"
            group.add_argument("--log_level", choices=LEVELS, metavar="LEVEL", help=text)
        if "debug" not in self._titles:  # TrainingArguments has this option
            group.add_argument("--debug", action="store_true", help="show the traceback of an error")

    def parse(self, arguments: Sequence[str]) -> Parsed:
        """
        Parse the command line and the file of `--config`, whose block `env` sets environment variables.

        Args:
            arguments (`list[str]`): Arguments of the command.

        Raises:
            SystemExit: With code 2 if an option or value is wrong, with 0 after `--help`.
        """
        path, arguments = self._split_config(arguments)
        for argument in arguments:
            if argument.endswith("=--"):  # argparse drops the value, and a flag would be on
                self.error(f"argument {argument.removesuffix('=--')}: must have another value than '--'")
        try:
            # Like `parse_args_and_config`, which opens the file in the encoding of the locale.
            from_file = [] if path is None else self.set_defaults_with_config(**self._read(Path(path)))
            *filled, flags, from_line = self.parse_args_into_dataclasses(
                arguments, return_remaining_strings=True, look_for_args_file=False
            )
        except (ValueError, TypeError, OSError) as error:
            self.error(" ".join(str(error).split()))
        return Parsed(tuple(filled), flags, from_file + from_line, from_line)

    def parse_command(self, arguments: Sequence[str]) -> tuple[Any, Namespace]:
        """Parse the dataclass of a command, check its values, and reject unknown options."""
        (options,), flags, unknown, on_line = self.parse(arguments)
        if unknown:
            where = "unrecognized arguments" if on_line else "argument --config: unrecognized options in the file"
            self.error(f"{where}: {' '.join(on_line or unknown)}")
        try:
            check_types(options)
            check_declared(options, spell=lambda name: f"--{self._option(name)}")
            options.check()
            self._check_needs(options)
        except (ValueError, TypeError) as error:
            self.error(" ".join(str(error).split()))
        return options, flags

    def _check_needs(self, options: Any) -> None:
        """Reject options that were given, but have no effect without another one."""
        for field in fields(options):
            needed, _, value = field.metadata.get("needs", "").partition("=")
            if not needed or getattr(options, field.name) == field.default:
                continue
            found = getattr(options, needed)
            if found != value if value else not found:
                name, other = self._option(field.name), " ".join([self._option(needed), value]).rstrip()
                raise ValueError(f"--{name} has no effect without --{other}; give it, or leave --{name} out")

    def add_argument(self, *names: str, **kwargs: Any):
        """Add an option of a dataclass to its group."""
        name = names[0].lstrip("-")
        if name in ("h", "help"):
            return super().add_argument(*names, **kwargs)
        field = name.removeprefix("no_") if kwargs.get("action") == "store_false" else name
        if kwargs.get("option"):
            self._renamed[field] = kwargs["option"]
            names, kwargs["dest"] = (f"--{kwargs['option']}",), field
        kwargs = {key: value for key, value in kwargs.items() if key not in _OWN_METADATA}
        kind = getattr(kwargs.get("type"), "__name__", "")
        if kind == "string_to_bool":
            kwargs |= {"nargs": "?", "const": True}
        elif "choices" not in kwargs and "action" not in kwargs:
            kwargs.setdefault("metavar", _METAVARS.get(kind.removeprefix("optional "), "TEXT"))
        title = self._titles.get(field, "options")
        self._adapt(field, title, names, kwargs)
        added = self._group(title).add_argument(*names, **kwargs)
        if kind == "string_to_bool" and kwargs.get("default") is None:  # neither on nor off by default
            self._group(title).add_argument(f"--no_{field}", action="store_false", dest=field, help=SUPPRESS)
        return added

    def _adapt(self, field: str, title: str, names: Sequence[str], kwargs: dict[str, Any]) -> None:
        """Change an option before it is added; a hook for subclasses."""

    def _group(self, title: str):
        for name in [*self._order, title]:
            if name not in self._groups:
                self._groups[name] = self.add_argument_group(name)
        return self._groups[title]

    def _option(self, field: str) -> str:
        return self._renamed.get(field, field)

    def _split_config(self, arguments: Sequence[str]) -> tuple[str | None, list[str]]:
        parser = ArgumentParser(add_help=False, allow_abbrev=False)
        parser.add_argument("--config", nargs="?", const="")
        found, others = parser.parse_known_args(list(arguments))
        if found.config == "":
            self.error("argument --config: expected a file")
        return found.config, others

    def _read(self, path: Path) -> dict[str, Any]:
        if not path.is_file():
            self.error(f"argument --config: there is no file {str(path)!r}")
        try:
            settings = read_options(path)
        except ValueError as error:
            self.error(f"argument --config: {error}")
        variables = settings.pop("env", None) or {}
        if not isinstance(variables, dict):
            self.error(f"argument --config: `env` in {str(path)!r} does not map names to values")
        os.environ.update({str(name): str(value) for name, value in variables.items()})
        spelled = {option: field for field, option in self._renamed.items()}
        hints = {name: hint for kind in self.dataclass_types for name, hint in get_type_hints(kind).items()}
        read = {}
        for name, value in settings.items():
            field = str(name).replace("-", "_")
            field = spelled.get(field, field)
            if field in _ONLY_ON_LINE:
                self.error(f"argument --config: `{name}` in {str(path)!r} is an option of the command line only")
            if field in _FLAGS and field not in hints and not isinstance(value, bool):
                self.error(f"argument --config: `{name}` in {str(path)!r} must be true or false, got {value!r}")
            if field == "log_level" and field not in hints and value not in LEVELS:
                self.error(f"argument --config: `{name}` in {str(path)!r} must be one of {LEVELS}, got {value!r}")
            if field in read:
                self.error(f"argument --config: `{name}` in {str(path)!r} is given several times")
            if value is not None or type(None) in get_args(hints.get(field)):  # null means the default
                read[field] = value
        return read


def command_parser(name: str, options: type, description: str, examples: Sequence[str]) -> OptionParser:
    """
    Return the parser of a command with one dataclass.

    Args:
        name (`str`): Name of the command.
        options (`type`): Dataclass of the command, with a method `check` for options that exclude each other.
        description (`str`): Description of the command.
        examples (`list[str]`): Command lines, printed below the options.
    """
    return OptionParser(
        options,
        prog=f"hf-reward-ext {name}",
        usage=f"hf-reward-ext {name} [options]",
        description=description,
        epilog="examples:\n" + "\n".join(f"  hf-reward-ext {name} {line}".rstrip() for line in examples),
    )


class OptionFormatter(RawDescriptionHelpFormatter):
    """Help formatter with one spelling of each option, and its default if there is one."""

    def __init__(self, prog: str, **kwargs: Any):
        width = max(60, min(shutil.get_terminal_size((100, 24)).columns, 120))
        super().__init__(prog, max_help_position=32, width=width, **kwargs)

    def _format_action_invocation(self, action):
        if not action.option_strings:
            return super()._format_action_invocation(action)
        name = next((one for one in action.option_strings if one.startswith("--")), action.option_strings[0])
        if action.nargs == 0 or getattr(action.type, "__name__", "") == "string_to_bool":
            return name
        return f"{name} {self._format_args(action, str(action.metavar or action.dest.upper()))}"

    def _get_help_string(self, action):
        shown = action.help or ""
        is_nothing = action.default is False or action.default in (None, SUPPRESS, "", [])
        is_hidden = is_nothing or action.nargs == 0 or "default" in shown.lower()
        return shown if is_hidden else f"{shown} (default: %(default)s)"


def check_types(options: Any) -> None:
    """
    Reject values of another type than declared, which a file may have; a single value is allowed for a list.

    Raises:
        TypeError: For the first such value.
    """
    for name, hint in get_type_hints(type(options)).items():
        value = getattr(options, name)
        kinds = [kind for kind in (hint, *get_args(hint)) if kind is not type(None)]
        lists = [kind for kind in kinds if getattr(kind, "__origin__", None) is list]
        if lists and value is not None:
            items = value if isinstance(value, list) else [value]
            setattr(options, name, items)
            for item in items:
                _check_type(name, item, list(get_args(lists[0])))
        elif value is not None:
            _check_type(name, value, kinds)
            if isinstance(value, list | dict):
                raise TypeError(f"--{name} must be a single value, got {value!r}.")


def _check_type(name: str, value: Any, kinds: Collection) -> None:
    declared = [(kind, what) for kind, what in _TYPES if kind in kinds]
    if declared and not any(_is_of(value, kind) for kind, _ in declared):
        raise TypeError(f"--{name} must be {' or '.join(what for _, what in declared)}, got {value!r}.")


def _is_of(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, int | float if kind is float else kind)


def _titles_of(kind: Any) -> dict[str, str]:
    """Return the group of each field, which is the title of the class that defines it."""
    titles: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if is_dataclass(base) and "title" in vars(base):
            own = set(base.__annotations__) & {field.name for field in fields(base)}
            titles |= dict.fromkeys(own, base.title)  # pyright: ignore[reportAttributeAccessIssue]
    return titles


def is_option(argument: str, *names: str) -> bool:
    """Return whether an argument is one of some options, in either spelling."""
    return re.sub("-", "_", argument.partition("=")[0].removeprefix("--")) in names and argument.startswith("--")

"""Entry point of `hf-reward-ext`."""

import importlib
import json
import os
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from importlib.metadata import version

from hf_reward_ext.cli import bon, completion, evaluate, generate, judge, label_steps, train
from hf_reward_ext.cli.processes import leaves_work_to_another, own_rank
from hf_reward_ext.cli.verbosity import verbosity

COMMANDS = (*completion.COMPLETED, completion)
SPLIT = (generate, bon, label_steps, judge, evaluate)  # several processes share their rows
DESCRIPTION = "Reward models that act at generation time: train them, decode with them, judge, evaluate and serve."
EXIT_CODES = "exit codes: 0 done, 1 an error while running, 2 an invalid command line"


def main(arguments: list[str] | None = None) -> int:
    """
    Parse the command line and run the command.

    Args:
        arguments (`list[str]`, *optional*): Arguments. Default: those of the process.

    Returns:
        Exit code: 0, or 1 after an error, which is printed as one line on stderr.

    Raises:
        SystemExit: With code 2 for an invalid command line, with 0 after `--help`.
        Exception: Any error of the command, with `--debug`.
    """
    arguments = _of_process() if arguments is None else list(arguments)
    command = _command(arguments)
    options, flags = command.parse(arguments[1:])
    if command not in (train, *SPLIT) and leaves_work_to_another(arguments[0]):
        return 0
    importlib.import_module("hf_reward_ext.registered")
    try:
        with _quiet_process() if command in SPLIT and own_rank() else nullcontext():
            with redirect_stdout(sys.stderr) if flags.json else nullcontext(), verbosity(flags.quiet, flags.log_level):
                result = command.run(options)
        if flags.json and result is not None:
            print(json.dumps(result))
        return 0
    except KeyboardInterrupt:
        print("hf-reward-ext: interrupted", file=sys.stderr)
        return 1
    except Exception as error:
        if flags.debug:
            raise
        print(f"hf-reward-ext: error: {_one_line(error)}", file=sys.stderr)
        return 1


@contextmanager
def _quiet_process() -> Iterator[None]:
    """Leave messages to the first of several processes, which gets the errors of the others."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def _command(arguments: list[str]):
    """Return the module of the command, which is the first argument."""
    names = {command.__name__.rpartition(".")[2].replace("_", "-"): command for command in COMMANDS}
    parser = ArgumentParser(prog="hf-reward-ext", description=DESCRIPTION, epilog=EXIT_CODES, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=version("hf_reward_ext"))
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="command")
    for name, command in names.items():
        commands.add_parser(name, help=command.SHORT, add_help=False)
    return names[parser.parse_args(arguments[:1]).command]


def _of_process() -> list[str]:
    """Return the arguments as UTF-8, and make the output accept any text, independent of the locale."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]
    return [os.fsencode(argument).decode("utf-8", "surrogateescape") for argument in sys.argv[1:]]


def _one_line(error: Exception) -> str:
    """Return an error as one line, with its type unless the message is written for users."""
    message = " ".join(str(error).split())
    if isinstance(error, (ValueError, TypeError, OSError, RuntimeError)) and message:
        return message
    return f"{type(error).__name__}: {message} (--debug shows where)"


if __name__ == "__main__":
    sys.exit(main())

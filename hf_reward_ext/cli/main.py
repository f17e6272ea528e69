"""Entry point of `hf-reward-ext`."""

import importlib
import json
import os
import sys
from argparse import ArgumentParser
from contextlib import nullcontext, redirect_stdout
from importlib.metadata import version

from hf_reward_ext.cli import bon, demo, evaluate, generate, judge, train
from hf_reward_ext.cli.processes import leaves_work_to_another

COMMANDS = (demo, train, generate, bon, judge, evaluate)
DESCRIPTION = "Reward models that act at generation time: train them, decode with them, judge and evaluate."
EXIT_CODES = "exit codes: 0 done, 1 an error while running, 2 a command line that is not understood"


def main(arguments: list[str] | None = None) -> int:
    """
    Parse the command line and runs the command.

    Args:
        arguments (`list[str]`, *optional*): Default: those of the process.

    Returns:
        The exit code: 0, or 1 after an error, which is one line on stderr.

    Raises:
        SystemExit: With code 2 for a command line that is not understood, with 0 after `--help`.
        Exception: What went wrong, with `--debug`.
    """
    arguments = _of_process() if arguments is None else list(arguments)
    command = _command(arguments)
    options, flags = command.parse(arguments[1:])
    if command is not train and leaves_work_to_another(arguments[0]):
        return 0
    importlib.import_module("hf_reward_ext.registered")
    try:
        with redirect_stdout(sys.stderr) if flags.json else nullcontext():
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


def _command(arguments: list[str]):
    """Return the module of the command that is named first."""
    names = {command.__name__.rpartition(".")[2]: command for command in COMMANDS}
    parser = ArgumentParser(prog="hf-reward-ext", description=DESCRIPTION, epilog=EXIT_CODES, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=version("hf_reward_ext"))
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="command")
    for name, command in names.items():
        commands.add_parser(name, help=command.SHORT, add_help=False)
    return names[parser.parse_args(arguments[:1]).command]


def _of_process() -> list[str]:
    """Return the arguments of the process as UTF-8, and output that no text stops, whatever the locale."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]
    return [os.fsencode(argument).decode("utf-8", "surrogateescape") for argument in sys.argv[1:]]


def _one_line(error: Exception) -> str:
    """Return the message of errors that are written for users; of others also what they are."""
    message = " ".join(str(error).split())
    if isinstance(error, (ValueError, TypeError, OSError, RuntimeError)) and message:
        return message
    return f"{type(error).__name__}: {message} (--debug shows where)"


if __name__ == "__main__":
    sys.exit(main())

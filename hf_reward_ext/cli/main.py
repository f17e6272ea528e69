"""Entry point of `hf-reward-ext`."""

import importlib
import json
import sys
from argparse import ArgumentParser
from contextlib import nullcontext, redirect_stdout
from importlib.metadata import version

from hf_reward_ext.cli import bon, demo, evaluate, generate, judge, train
from hf_reward_ext.cli.parsing import expand

COMMANDS = (demo, train, generate, bon, judge, evaluate)
DESCRIPTION = "Reward models that act at generation time: train them, decode with them, judge and evaluate."
EXIT_CODES = "exit codes: 0 done, 1 an error while running, 2 a command line that is not understood"


def main(arguments: list[str] | None = None) -> int:
    """
    Parses the command line and runs the command.

    Args:
        arguments (`list[str]`, *optional*): Default: those of the process.

    Returns:
        The exit code: 0, or 1 after an error, which is told in one line on stderr.

    Raises:
        SystemExit: With code 2 for a command line that is not understood, with 0 behind `--help`.
        Exception: What went wrong, with `--debug`.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = _parser()
    if arguments[:1] != ["train"]:  # TRL's parser reads the options of a training
        arguments = expand(arguments, parser.error)
    args, unknown = parser.parse_known_args(arguments)
    if unknown:
        args.usage_error(f"unrecognized arguments: {' '.join(unknown)}")
    if args.check:
        args.check(args)
    importlib.import_module("hf_reward_ext.registered")
    as_json = "--json" in arguments
    try:
        with redirect_stdout(sys.stderr) if as_json else nullcontext():
            result = args.run(args)
        if as_json and result is not None:
            print(json.dumps(result))
        return 0
    except KeyboardInterrupt:
        print("hf-reward-ext: interrupted", file=sys.stderr)
        return 1
    except Exception as error:
        if "--debug" in arguments:
            raise
        print(f"hf-reward-ext: error: {_one_line(error)}", file=sys.stderr)
        return 1


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="hf-reward-ext", description=DESCRIPTION, epilog=EXIT_CODES, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=version("hf_reward_ext"))
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(commands)
    return parser


def _one_line(error: Exception) -> str:
    """The message of errors that are written for users; of others also what they are."""
    message = " ".join(str(error).split())
    if isinstance(error, (ValueError, TypeError, OSError, RuntimeError)) and message:
        return message
    return f"{type(error).__name__}: {message} (--debug shows where)"


if __name__ == "__main__":
    sys.exit(main())

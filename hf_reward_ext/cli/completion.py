"""Command `hf-reward-ext completion`: a script that completes commands and options in a shell."""

from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from hf_reward_ext.cli import bon, demo, env, evaluate, generate, judge, label_steps, serve, train
from hf_reward_ext.cli.methods import METHODS
from hf_reward_ext.cli.options import option
from hf_reward_ext.cli.parser import OptionParser, command_parser

COMPLETED = (demo, train, generate, bon, label_steps, judge, evaluate, serve, env)
SHORT = "print a script that completes commands and options in a shell"
DESCRIPTION = """\
Prints a script that completes commands, options and their values. It needs the extra `completion`."""
EXAMPLES = (
    "--shell bash > ~/.local/share/bash-completion/completions/hf-reward-ext",
    "--shell zsh > ~/.zfunc/_hf-reward-ext",
)


@dataclass
class CompletionOptions:
    """Shell of the script."""

    title: ClassVar[str] = "completion"
    shell: Literal["bash", "zsh"] = option("shell that reads the script", "bash")

    def check(self) -> None:
        """Accept all options, which are independent."""


def parser() -> OptionParser:
    """Return the parser of the command."""
    return command_parser("completion", CompletionOptions, DESCRIPTION, EXAMPLES)


def parse(arguments: Sequence[str]):
    """Parse the options, and the flags of every command."""
    return parser().parse_command(arguments)


def run(options: CompletionOptions) -> dict:
    """Print the script."""
    try:
        import shtab
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("`completion` needs shtab: pip install 'hf_reward_ext[completion]'") from error
    script = shtab.complete(_whole_parser(), shell=options.shell)
    print(script)
    return {"command": "completion", "shell": options.shell, "script": script}


def _whole_parser() -> ArgumentParser:
    """Return one parser of all commands; the command line itself builds only that of the command it runs."""
    whole = ArgumentParser(prog="hf-reward-ext")
    whole.add_argument("--version", action="store_true", help="show the version")
    commands = whole.add_subparsers(metavar="COMMAND")
    for command in COMPLETED:
        name = command.__name__.rpartition(".")[2].replace("_", "-")
        if command is not train:
            commands.add_parser(name, help=command.SHORT, parents=[command.parser()], add_help=False)
            continue
        methods = commands.add_parser(name, help=command.SHORT).add_subparsers(metavar="METHOD")
        for method, described in METHODS.items():
            parents = [train.TrainParser(method, show_all=True)]
            methods.add_parser(method, help=described.text, parents=parents, add_help=False)
    return whole

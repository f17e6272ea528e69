"""Entry point of `hf-reward-ext`."""

from argparse import ArgumentParser

from hf_reward_ext import __version__
from hf_reward_ext.cli import demo


def main(arguments: list[str] | None = None) -> None:
    """Parses the command line and runs the command."""
    parser = ArgumentParser(prog="hf-reward-ext", description="Reward models that act at generation time.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", dest="command", required=True)
    demo.add_parser(commands)
    args = parser.parse_args(arguments)
    args.run(args)

"""`hf-reward-ext train`: the four trainers, as `trl` runs its own."""

from argparse import REMAINDER, Namespace, RawDescriptionHelpFormatter

from hf_reward_ext.cli.methods import METHODS

_DESCRIPTION = """\
Trains a reward model with TRL's trainer and TRL's options.

methods:
""" + "\n".join(f"  {name:10} {what}" for name, what in METHODS.items())
_EPILOG = """\
`hf-reward-ext train METHOD --help` lists the options. `--config x.yaml` takes them from a file; the command line wins
over it. Options of `accelerate launch` (--num_processes 2, --accelerate_config zero2) start several processes.

examples:
  hf-reward-ext train elhsr --config examples/configs/elhsr.yaml
  hf-reward-ext train genarm --model_name_or_path Qwen/Qwen3-0.6B --dataset_name pairs.jsonl --output_dir arm --use_peft
  hf-reward-ext train sla --config sla.yaml --resume_from_checkpoint last
  accelerate launch --num_processes 2 -m hf_reward_ext.cli.main train fast-slow --config judge.yaml
"""


def add_parser(commands) -> None:
    """Adds the command to the console script."""
    parser = commands.add_parser(
        "train",
        help="train a reward model: genarm, sla, fast-slow or elhsr",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("method", choices=METHODS, metavar="METHOD", help=", ".join(METHODS))
    parser.add_argument("arguments", nargs=REMAINDER, metavar="...", help="options of the method")
    parser.set_defaults(run=run, check=None, usage_error=parser.error)


def run(args: Namespace) -> dict | None:
    """Parses the method's options and trains, in this process or in those that accelerate starts."""
    from hf_reward_ext.cli.launch import is_launched, launch, wants_launch
    from hf_reward_ext.cli.train_parser import parse
    from hf_reward_ext.cli.training import train

    is_child = is_launched()
    parsed = parse(args.method, [argument for argument in args.arguments if argument != "--json"])
    if not is_child and wants_launch(parsed.launch_arguments):
        return launch(args.method, parsed, args.arguments)
    if parsed.cli_launch_arguments:
        parsed.usage_error(f"unrecognized arguments: {' '.join(parsed.cli_launch_arguments)}")
    return train(args.method, parsed)

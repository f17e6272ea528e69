"""`hf-reward-ext demo`: the methods at work on the embedded policy."""

from argparse import Namespace


def add_parser(commands) -> None:
    """Adds the command to the console script."""
    parser = commands.add_parser(
        "demo",
        help="train heads on the embedded policy and compare the methods",
        description="Trains reward heads on the embedded policy in front of you, runs the methods on held-out "
        "problems, prints one table, and writes it as JSON with a plot. Takes under 4 minutes on 2 cores.",
    )
    parser.add_argument("--output", default="outputs/demo", help="folder for the table, the plot and the heads")
    parser.add_argument("--small", action="store_true", help="a few seconds, too few problems to conclude anything")
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(run=run)


def run(args: Namespace) -> None:
    """Runs the tour."""
    from hf_reward_ext.demo.tour import FULL, SMALL, run_tour

    run_tour(args.output, SMALL if args.small else FULL, args.seed)
    print(f"Written to {args.output}.")

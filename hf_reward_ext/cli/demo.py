"""`hf-reward-ext demo`: the methods at work on the embedded policy, and its data for the other commands."""

from argparse import ArgumentParser, Namespace

from hf_reward_ext.cli.parsing import add_command


def add_parser(commands) -> None:
    """Adds the command to the console script."""
    add_command(
        commands,
        "demo",
        run,
        _add_options,
        short="train heads on the embedded policy and compare the methods",
        description="Trains reward heads on the embedded policy in front of you, runs the methods on held-out\n"
        "problems, prints one table, and writes it as JSON with a plot. Takes under 4 minutes on 2 cores.\n"
        "With --write_data it writes training and test rows of the policy instead, for the other commands.",
        examples=["", "--small --output outputs/small", "--write_data outputs/data"],
    )


def _add_options(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("demo")
    group.add_argument(
        "--output", default="outputs/demo", help="folder for table, plot and heads (default: %(default)s)"
    )
    group.add_argument("--small", action="store_true", help="a few seconds, too few problems to conclude anything")
    group.add_argument("--write_data", metavar="DIR", help="write JSON lines of the arithmetic task there, and stop")
    group.add_argument(
        "--num_train", type=int, default=2000, metavar="N", help="training problems to write (default: %(default)s)"
    )
    group.add_argument(
        "--num_test", type=int, default=200, metavar="N", help="dev and test problems to write (default: %(default)s)"
    )
    group.add_argument("--seed", type=int, default=0, metavar="N", help="of everything (default: %(default)s)")


def run(args: Namespace) -> dict:
    """Runs the tour, or writes its data."""
    if args.write_data:
        from hf_reward_ext.cli.demo_data import write_demo_data

        counts = write_demo_data(args.write_data, args.num_train, args.num_test, args.seed)
        for path, count in counts.items():
            print(f"{count:6} rows in {path}")
        return {"command": "demo", "files": counts}
    from hf_reward_ext.demo.tour import FULL, SMALL, run_tour

    results = run_tour(args.output, SMALL if args.small else FULL, args.seed)
    print(f"Written to {args.output}.")
    rows = [{"task": row.task, "method": row.method, "accuracy": row.accuracy.value} for row in results]
    return {"command": "demo", "output": args.output, "results": rows}

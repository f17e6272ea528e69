"""`hf-reward-ext evaluate`: pair accuracy on preference rows and benchmarks, and best-of-N curves."""

from argparse import ArgumentParser, Namespace

from hf_reward_ext.cli.options import add_data_options, add_model_options, positive
from hf_reward_ext.cli.parsing import add_command

FORMATS = ("preference", "rewardbench", "rm-bench", "judgebench", "llmbar", "best-of-n")


def add_parser(commands) -> None:
    """Adds the command to the console script."""
    add_command(
        commands,
        "evaluate",
        run,
        _add_options,
        check=_check,
        short="measure a reward model on preference rows, benchmarks or candidates",
        description="Measures how often a reward model or judge prefers the better response, with bootstrap\n"
        "intervals. Rows have the columns of the benchmark; best-of-n takes {prompt, completions, labels}.",
        examples=[
            "--scorer outputs/elhsr --data outputs/data/pairs",
            "--scorer outputs/judge --format rewardbench --data allenai/reward-bench --split filtered --output rb.json",
            "--scorer outputs/elhsr --format best-of-n --data outputs/candidates.jsonl --plot curves.png",
        ],
    )


def _add_options(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("evaluation")
    group.add_argument(
        "--scorer",
        metavar="NAME",
        help="reward model, judge, head, channel or causal LM by name or folder; or MODULE:FUNCTION of (prompts, "
        "completions)",
    )
    group.add_argument("--format", default="preference", choices=FORMATS, help="whose rows (default: %(default)s)")
    group.add_argument("--chat", action="store_true", help="a benchmark's prompt is a user's message")
    group.add_argument("--extract_answer", metavar="MODULE:FUNCTION", help="with best-of-n: adds the votes")
    group.add_argument(
        "--confidence", type=float, default=0.95, metavar="X", help="of intervals (default: %(default)s)"
    )
    group.add_argument("--seed", type=int, default=0, metavar="N", help="of the bootstrap (default: %(default)s)")
    group.add_argument("--batch_size", type=positive, default=16, metavar="N", help="default: %(default)s")
    add_data_options(parser, "rows")
    add_model_options(parser)
    output = parser.add_argument_group("output")
    output.add_argument("--output", metavar="FILE", help="the numbers as JSON")
    output.add_argument("--rows", metavar="FILE", help="what each row got, as JSON lines")
    output.add_argument("--markdown", metavar="FILE", help="the table")
    output.add_argument("--plot", metavar="FILE", help="a png; needs matplotlib")
    output.add_argument("--model_card", action="store_true", help="add the numbers to the card in the scorer's folder")
    output.add_argument("--dataset_title", metavar="TEXT", help="what the card calls the data (default: as --data)")


def run(args: Namespace) -> dict:
    """Measures, prints the table, and writes what was asked for."""
    from hf_reward_ext.cli.evaluation import evaluate

    return evaluate(args)


def _check(args: Namespace) -> None:
    if not args.scorer:
        args.usage_error("--scorer is missing: what is measured")
    if not args.data:
        args.usage_error("--data is missing: the rows to measure it on")
    if args.extract_answer and args.format != "best-of-n":
        args.usage_error("--extract_answer goes with --format best-of-n")
    if args.rows and args.format == "best-of-n":
        args.usage_error("--rows goes with pairs, not with --format best-of-n")

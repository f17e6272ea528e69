"""`hf-reward-ext judge`: which of two responses is better, or how good each one is."""

from argparse import ArgumentParser, Namespace

from hf_reward_ext.cli.options import add_data_options, add_model_options, add_output_options, positive
from hf_reward_ext.cli.parsing import add_command


def add_parser(commands) -> None:
    """Adds the command to the console script."""
    add_command(
        commands,
        "judge",
        run,
        _add_options,
        check=_check,
        short="judge pairs or single responses with a Fast-Slow judge",
        description="Judges pairs of responses, or with pointwise verdicts single ones: in one token where the judge\n"
        "is sure, in writing where it is not. Rows {prompt, chosen, rejected} also give its accuracy.",
        examples=[
            "--model outputs/judge --data outputs/data/judge --output outputs/judgments.jsonl",
            '--model outputs/judge --prompt "6 1 3 3=12|" --responses "6-1*3-3=12" "6+1*3-3=12"',
            "--model Qwen/Qwen3-4B --verdicts A B --data pairs.jsonl --calibration_data held_out.jsonl --budget 0.4",
        ],
    )


def _add_options(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("judge")
    group.add_argument("--model", metavar="NAME", help="a judge that `train fast-slow` wrote, or any causal LM")
    group.add_argument("--verdicts", nargs="+", metavar="TEXT", help="of a plain causal LM (default: A B)")
    group.add_argument("--mode", default="gated", choices=("gated", "fast", "slow"), help="default: %(default)s")
    group.add_argument("--votes", type=positive, metavar="N", help="written judgments of an unsure row")
    group.add_argument("--max_new_tokens", type=positive, metavar="N", help="longest written judgment")
    group.add_argument(
        "--calibration_data", metavar="NAME", help="other pairs {prompt, chosen, rejected}, to set the gate"
    )
    group.add_argument("--budget", type=float, metavar="X", help="calibrate: largest share of decisions to escalate")
    group.add_argument("--risk", type=float, metavar="X", help="calibrate: largest error rate of fast verdicts")
    pair = parser.add_argument_group("one decision, in place of --data")
    pair.add_argument("--prompt", metavar="TEXT", help="the prompt")
    pair.add_argument(
        "--responses", nargs="+", metavar="TEXT", help="two to compare; any number with pointwise verdicts"
    )
    add_data_options(parser, "rows {prompt, chosen, rejected}, {prompt, response_a, response_b} or {prompt, response}")
    add_model_options(parser)
    add_output_options(parser, "the rows with their judgments")


def run(args: Namespace) -> dict:
    """Judges, and writes or prints."""
    from hf_reward_ext.cli.judging import judge_all

    return judge_all(args)


def _check(args: Namespace) -> None:
    if not args.model:
        args.usage_error("--model is missing: a judge or causal LM, by name or folder")
    if bool(args.prompt) == bool(args.data) or bool(args.prompt) != bool(args.responses):
        args.usage_error("responses are needed once: give --data, or --prompt with --responses")
    goals = [args.budget is not None, args.risk is not None]
    if any(goals) != bool(args.calibration_data) or all(goals):
        args.usage_error("--calibration_data goes with one of --budget and --risk")

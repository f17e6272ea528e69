"""`hf-reward-ext bon`: best of N by any reward."""

from argparse import ArgumentParser, Namespace

from hf_reward_ext.cli.options import (
    add_data_options,
    add_model_options,
    add_output_options,
    add_prompt_options,
    add_sampling_options,
    check_prompts,
    positive,
)
from hf_reward_ext.cli.parsing import add_command

SHAPES = ("all", "preference", "sft")


def add_parser(commands) -> None:
    """Adds the command to the console script."""
    add_command(
        commands,
        "bon",
        run,
        _add_options,
        check=_check,
        short="best of N: sample candidates, score them, keep the best",
        description="Samples N candidates of each prompt and ranks them by a reward: an ELHSR head (scored while they\n"
        "are written), a reward model, or a function. Writes candidates, or rows for TRL's trainers.",
        examples=[
            '--reward_model outputs/elhsr --prompt "6 1 3 3=12|" --num_candidates 16',
            "--reward_model outputs/elhsr --data prompts.jsonl --output pairs.jsonl --as preference",
            '--model Qwen/Qwen3-0.6B --reward_model my_rewards:shortest --chat --prompt "Name a colour."',
        ],
    )


def _add_options(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("models")
    group.add_argument(
        "--reward_model",
        metavar="NAME",
        help="ELHSR head or any reward model, by name or folder; or MODULE:FUNCTION of (prompts, completions)",
    )
    group.add_argument("--second_reward_model", metavar="NAME", help="a text reward to combine with the first")
    group.add_argument("--combine", default="min_max", choices=("min_max", "max_rank"), help="default: %(default)s")
    group.add_argument("--model", metavar="NAME", help="policy; default: the base of the head or channel")
    add_prompt_options(parser)
    add_data_options(parser, "rows with prompts")
    group = parser.add_argument_group("candidates")
    group.add_argument("--num_candidates", type=positive, default=16, metavar="N", help="default: %(default)s")
    group.add_argument(
        "--candidates_per_batch", type=positive, metavar="N", help="sample fewer at once, to save memory"
    )
    group.add_argument("--vote", choices=("majority", "weighted"), help="the best with the winning answer comes first")
    group.add_argument("--answer_pattern", metavar="REGEX", help="the last match in a completion is its answer")
    group.add_argument("--extract_answer", metavar="MODULE:FUNCTION", help="from a completion to its answer, or None")
    group.add_argument("--label", metavar="MODULE:FUNCTION", help="from prompt and completion to right or wrong")
    group.add_argument(
        "--prune_at", nargs="+", type=positive, metavar="N", help="drop weak candidates at these lengths"
    )
    group.add_argument(
        "--prune_keep", type=float, default=0.5, metavar="X", help="share that stays (default: %(default)s)"
    )
    group.add_argument("--prune_max_gap", type=float, metavar="X", help="drop candidates this far behind the best")
    add_sampling_options(parser)
    add_model_options(parser)
    add_output_options(parser, "rows")
    group = parser.add_argument_group("shape of the rows")
    group.add_argument(
        "--as",
        dest="shape",
        choices=SHAPES,
        default="all",
        help="all {prompt, completions, rewards, num_tokens, ...}, preference {prompt, chosen, rejected, margin}, or "
        "sft {prompt, completion, score} (default: %(default)s)",
    )
    group.add_argument("--rejected", default="worst", choices=("worst", "random"), help="of preference rows")
    group.add_argument("--min_margin", type=float, default=0.0, metavar="X", help="of preference rows, more than this")
    group.add_argument("--keep", type=positive, default=1, metavar="N", help="sft rows of a prompt (default: 1)")
    group.add_argument("--min_score", type=float, metavar="X", help="of sft rows")


def run(args: Namespace) -> dict:
    """Samples, ranks, and writes or prints."""
    from hf_reward_ext.cli.best_of_n import best_of_n

    return best_of_n(args)


def _check(args: Namespace) -> None:
    check_prompts(args)
    if not args.reward_model:
        args.usage_error("--reward_model is missing: what ranks the candidates")
    if args.temperature == 0 and args.num_candidates > 1:
        args.usage_error("--temperature 0 makes all candidates the same; give a positive one")
    if args.answer_pattern and args.extract_answer:
        args.usage_error("--answer_pattern and --extract_answer exclude each other")
    if args.vote and not (args.answer_pattern or args.extract_answer):
        args.usage_error("--vote counts answers; give --answer_pattern or --extract_answer")
    if args.label and args.shape != "all":
        args.usage_error("--label writes labels of all candidates; it goes with --as all")
    if args.shape != "all" and not args.output:
        args.usage_error(f"--as {args.shape} shapes the file; give --output")

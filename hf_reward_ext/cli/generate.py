"""`hf-reward-ext generate`: a policy alone, guided by GenARM, or searching with SLA."""

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


def add_parser(commands) -> None:
    """Adds the command to the console script."""
    add_command(
        commands,
        "generate",
        run,
        _add_options,
        check=_check,
        short="generate text: guided by GenARM, searching with SLA, or plain",
        description="Continues prompts with a policy: alone, guided by autoregressive reward models (--guide), or\n"
        "with streaming look-ahead search on a reward channel (--channel).",
        examples=[
            '--model hf_reward_ext/demo-policy --prompt "6 1 3 3=12|" --temperature 0',
            "--guide outputs/genarm --alpha 1.0 --data outputs/data/prompts.jsonl --output outputs/guided.jsonl",
            "--channel outputs/sla --width 2 --step 4 --depth 2 --data prompts.jsonl --output searched.jsonl",
        ],
    )


def _add_options(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("models")
    group.add_argument("--model", metavar="NAME", help="policy; default: the base of the guide or channel")
    group.add_argument("--guide", nargs="+", metavar="NAME", help="causal LMs or adapters that `train genarm` wrote")
    group.add_argument("--alpha", nargs="+", type=float, metavar="X", help="weight of each guide (default: 1.0)")
    group.add_argument("--channel", metavar="NAME", help="reward channel that `train sla` wrote")
    search = parser.add_argument_group("search, with --channel")
    search.add_argument("--width", type=positive, default=2, metavar="N", help="branches (default: %(default)s)")
    search.add_argument("--step", type=positive, default=10, metavar="N", help="tokens a chunk (default: %(default)s)")
    search.add_argument("--depth", type=positive, default=2, metavar="N", help="chunks ahead (default: %(default)s)")
    add_prompt_options(parser)
    add_data_options(parser, "rows with prompts")
    sampling = add_sampling_options(parser)
    sampling.add_argument("--num_return_sequences", type=positive, default=1, metavar="N", help="completions a prompt")
    sampling.add_argument("--num_beams", type=positive, default=1, metavar="N", help="default: no beams")
    add_model_options(parser)
    add_output_options(parser, "rows {prompt, completion, num_tokens} or {prompt, completions, num_tokens}")


def run(args: Namespace) -> dict:
    """Generates, and writes or prints what came out."""
    from hf_reward_ext.cli.generation import generate_all

    return generate_all(args)


def _check(args: Namespace) -> None:
    check_prompts(args)
    if args.guide and args.channel:
        args.usage_error("--guide and --channel exclude each other")
    if args.alpha and not args.guide:
        args.usage_error("--alpha weighs guides; give --guide, or leave it out")
    if args.alpha and len(args.alpha) not in (1, len(args.guide)):
        args.usage_error(
            f"--alpha has {len(args.alpha)} values for {len(args.guide)} guides; give one, or one for each"
        )
    if not (args.model or args.guide or args.channel):
        args.usage_error("--model is missing: the policy by name or folder")
    if args.channel and (args.num_beams > 1 or args.num_return_sequences > 1 or args.temperature):
        args.usage_error("the search with --channel is deterministic; leave beams, sequences and temperature out")

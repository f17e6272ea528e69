"""Groups of options that several commands share, and what they mean together."""

from argparse import ArgumentParser, Namespace


def add_model_options(parser: ArgumentParser) -> None:
    """How a model is loaded."""
    group = parser.add_argument_group("loading")
    group.add_argument("--revision", metavar="NAME", help="branch, tag or commit of the model")
    group.add_argument(
        "--dtype", default="auto", choices=("auto", "float32", "bfloat16", "float16"), help="default: as saved"
    )
    group.add_argument("--device", metavar="NAME", help="cpu, cuda:0, ... or auto to spread it; default: the first GPU")
    group.add_argument("--trust_remote_code", action="store_true", help="run code that comes with the model")


def add_data_options(parser: ArgumentParser, what: str) -> None:
    """Where rows come from."""
    group = parser.add_argument_group("data")
    group.add_argument("--data", metavar="NAME", help=f"{what}: a json, jsonl, csv, parquet or arrow file, a folder, "
                       "or a name on the Hub")  # fmt: skip
    group.add_argument("--data_config", metavar="NAME", help="configuration of a dataset on the Hub")
    group.add_argument("--split", metavar="NAME", help="default: the only one, or test")
    group.add_argument("--max_rows", type=positive, metavar="N", help="take the first N rows")


def add_prompt_options(parser: ArgumentParser) -> None:
    """Prompts on the command line or in rows."""
    group = parser.add_argument_group("prompts")
    group.add_argument("--prompt", nargs="+", metavar="TEXT", help="prompts, in place of --data")
    group.add_argument(
        "--prompt_column", default="prompt", metavar="NAME", help="text or messages (default: %(default)s)"
    )
    group.add_argument("--chat", action="store_true", help="a text prompt is a user's message")


def add_sampling_options(parser: ArgumentParser):
    """How tokens are drawn; what is left out is as the model's generation config says. Returns the group."""
    group = parser.add_argument_group("sampling")
    group.add_argument("--max_new_tokens", type=positive, default=256, metavar="N", help="default: %(default)s")
    group.add_argument("--temperature", type=float, metavar="X", help="0 takes the most probable token")
    group.add_argument("--top_p", type=float, metavar="X", help="draw among the most probable that sum to it")
    group.add_argument("--top_k", type=int, metavar="N", help="draw among the N most probable; 0 for all")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    return group


def add_output_options(parser: ArgumentParser, what: str) -> None:
    """Where results go."""
    group = parser.add_argument_group("output")
    group.add_argument("--output", metavar="FILE", help=f"*.jsonl or *.arrow, {what}; a run that stopped goes on")
    group.add_argument("--overwrite", action="store_true", help="start afresh where the file is there")
    group.add_argument(
        "--batch_size", type=positive, default=8, metavar="N", help="rows at a time (default: %(default)s)"
    )


def positive(text: str) -> int:
    """A count of at least 1."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def check_prompts(args: Namespace) -> None:
    """Ends with a usage error unless prompts are given in one way."""
    if bool(args.prompt) == bool(args.data):
        args.usage_error("prompts are needed once: give either --prompt or --data")


def generation_settings(args: Namespace) -> dict:
    """Keyword arguments of `generate`."""
    settings: dict = {"max_new_tokens": args.max_new_tokens}
    if args.temperature is not None:
        settings["do_sample"] = args.temperature > 0
        if args.temperature > 0:
            settings["temperature"] = args.temperature
    for name in ("top_p", "top_k"):
        if getattr(args, name) is not None:
            settings[name] = getattr(args, name)
    return settings

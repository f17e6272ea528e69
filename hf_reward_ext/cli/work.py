"""The loop of every command that reads rows: batch by batch, resumable, with a progress bar."""

from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any

from datasets import Dataset
from tqdm.auto import tqdm
from transformers import set_seed

from hf_reward_ext.cli.row_file import RowFile
from hf_reward_ext.cli.rows import load_rows

# Options that do not change what a row of the output says.
_WITHOUT_EFFECT = {"run", "check", "usage_error", "json", "debug", "config", "output", "overwrite", "device"}


def read_data(args: Namespace, *needed: tuple[str, ...]) -> Dataset:
    """The rows of `--data`, with the columns of one of the tuples."""
    rows = load_rows(args.data, args.split, args.data_config, *needed)
    return rows.select(range(min(args.max_rows, len(rows)))) if args.max_rows else rows


def read_prompts(args: Namespace) -> list[dict]:
    """Rows with `prompt`, text or messages."""
    if args.prompt:
        prompts: Sequence = args.prompt
    else:
        prompts = read_data(args, (args.prompt_column,))[args.prompt_column]
    return [
        {"prompt": [{"role": "user", "content": one}] if args.chat and isinstance(one, str) else one} for one in prompts
    ]


def row_file(args: Namespace) -> RowFile | None:
    """The file of `--output`; refused before any work if it is there."""
    if not args.output:
        return None
    settings = {name: value for name, value in vars(args).items() if name not in _WITHOUT_EFFECT}
    return RowFile(args.output, settings, args.overwrite, args.batch_size)


def work_through(
    rows: Sequence[dict] | Dataset,
    do: Callable[[list[dict]], list[dict]],
    args: Namespace,
    output: RowFile | None,
    what: str,
) -> Iterable[dict]:
    """
    Does all rows, a batch at a time; each batch has a seed of its own, so that a run goes on as if it had not stopped.

    Args:
        rows (`list[dict]` or `Dataset`): The input.
        do (`callable`): From a batch to one result per row.
        args (`Namespace`): With `batch_size`, and `seed` where there is one.
        output ([`RowFile`], *optional*): Gets the results.
        what (`str`): For the progress bar.

    Returns:
        All results, from the output's file where there is one.
    """
    results: list[dict] = []
    with output or nullcontext():
        start = output.num_done if output else 0
        with tqdm(total=len(rows), initial=start, desc=what, disable=len(rows) == 1) as bar:
            for at in range(start, len(rows), args.batch_size):
                set_seed(getattr(args, "seed", 0) + at)
                batch: list[Any] = [rows[place] for place in range(at, min(at + args.batch_size, len(rows)))]
                for result in do(batch):
                    output.write(result) if output else results.append(result)
                bar.update(len(batch))
    return output.rows() if output else results

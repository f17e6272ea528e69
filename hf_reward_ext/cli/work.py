"""The loop of every command that reads rows: batch by batch, resumable, with a progress bar."""

import json
import shutil
from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from datasets import Dataset
from tqdm.auto import tqdm
from transformers import set_seed

from hf_reward_ext.best_of_n import ResumableWriter
from hf_reward_ext.cli.rows import load_rows

Batch = Callable[[list[dict]], list[dict]]
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


def open_output(args: Namespace) -> ResumableWriter | None:
    """
    The file of `--output`.

    Raises:
        ValueError: If it is there and of something else, or its name ends otherwise than `.jsonl` or `.arrow`.
    """
    if not args.output:
        return None
    path = Path(args.output)
    if args.overwrite:
        for name in (path.name, path.name + ".info.json"):
            path.with_name(name).unlink(missing_ok=True)
        shutil.rmtree(path.with_name(path.name + ".parts"), ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    return ResumableWriter(path, {name: value for name, value in vars(args).items() if name not in _WITHOUT_EFFECT})


def work_through(
    rows: Sequence[dict],
    prepare: Callable[[], Batch],
    args: Namespace,
    writer: ResumableWriter | None,
    what: str,
) -> Iterable[dict]:
    """
    Does all rows, a batch at a time; each batch has a seed of its own, so that a run goes on as if it had not stopped.

    Args:
        rows (`list[dict]`): The input.
        prepare (`callable`): Loads what is needed, if there is anything left to do, and returns what does a batch.
        args (`Namespace`): With `batch_size`, and `seed` where there is one.
        writer ([`ResumableWriter`], *optional*): Gets the results, a part for each batch.
        what (`str`): For the progress bar.

    Returns:
        The results, from the finished file where there is one.
    """
    results: list[dict] = []
    do: Batch | None = None
    bar = None
    for number, start in enumerate(range(0, len(rows), args.batch_size)):
        batch = list(rows[start : start + args.batch_size])
        if writer and writer.has(number, batch):
            continue
        do = do or prepare()
        bar = bar or tqdm(total=len(rows), initial=start, desc=what, disable=len(rows) == 1)
        set_seed(getattr(args, "seed", 0) + start)
        done = do(batch)
        results += done if not writer else []
        if writer:
            writer.write(number, batch, done)
        bar.update(len(batch))
    if bar is not None:
        bar.close()
    return read_back(writer.finish()) if writer else results


def read_back(path: Path) -> Iterable[dict]:
    """The rows of a finished file."""
    if path.suffix == ".arrow":
        yield from cast(Iterable[dict], Dataset.from_file(str(path)))
        return
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def report(command: str, args: Namespace, results: Iterable[dict], summary: dict[str, Any]) -> dict:
    """What `--json` prints: the numbers, and the rows unless they went to a file."""
    told = {"output": args.output} if args.output else {"rows": list(results)}
    return {"command": command, **summary, **told}

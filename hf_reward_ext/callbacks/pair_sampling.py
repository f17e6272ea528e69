"""Preference pairs of a policy by best-of-N, sampled by all processes into a resumable file."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from hf_reward_ext.best_of_n.pipeline import BestOfNPipeline
from hf_reward_ext.best_of_n.write import describe_pipe, describe_setting
from hf_reward_ext.best_of_n.writer import ResumableWriter
from hf_reward_ext.callbacks.processes import gather_shares, own_share


class PairFile(NamedTuple):
    """
    Pairs of a file, the same on all processes.

    Attributes:
        rows (`list[dict]`): Pairs with `prompt`, `chosen`, `rejected` and `margin`.
        sha256 (`str`): Hash of the file.
    """

    rows: list[dict]
    sha256: str


def sample_pairs(
    pipe: BestOfNPipeline,
    prompts: Sequence[str | list],
    path: Path,
    rows: Callable[[str | list, list[dict]], list[dict]],
    *,
    batch_size: int,
    seed: int,
    options: Mapping[str, Any],
) -> PairFile:
    """
    Sample candidates of all prompts, and write their pairs.

    A batch is seeded with `seed` and the index of its first prompt, as by the command `bon`, so that the pairs do not
    depend on the number of processes. The first process writes the file in parts; a killed call resumes. A finished
    file of the same policy, rewards and settings is kept, any other is replaced.

    Args:
        pipe ([`BestOfNPipeline`]): Pipeline of the policy and a reward, with its options and `return_all=True`.
        prompts (`list` of `str` or of messages): Prompts, the same on every process.
        path (`Path`): File to write, `*.jsonl`.
        rows (`callable`): Function `(prompt, records) -> rows`, such as [`preference_rows`].
        batch_size (`int`): Number of prompts per batch.
        seed (`int`): Random seed for sampling.
        options (`dict`): Options of the pipeline (`num_candidates`, ...), which a file is compared by.

    Returns:
        [`PairFile`], the same on every process.

    Raises:
        ValueError: If no prompt gives a pair.
    """
    settings = {
        "rows": describe_setting(rows),
        "pipe": describe_pipe(pipe),
        "options": describe_setting(dict(options)),
        "seed": seed,
        "batch_size": batch_size,
    }
    batches = [list(prompts[start : start + batch_size]) for start in range(0, len(prompts), batch_size)]

    def pairs(number: int) -> list[dict]:
        results = pipe(batches[number], seed=(seed + number * batch_size) % 2**32, batch_size=batch_size)
        found = zip(batches[number], results, strict=True)
        return [row for prompt, records in found for row in rows(prompt, records)]

    count = PartialState().num_processes
    is_main = PartialState().is_main_process
    with ResumableWriter(path, settings, overwrite=True) if is_main else nullcontext() as writer:
        missing = [number for number, batch in enumerate(batches) if writer is None or not writer.has(number, batch)]
        missing = _share(missing)
        for group in (missing[first : first + count] for first in range(0, len(missing), count)):
            made = gather_shares([pairs(number) for number in own_share(group)[1]], len(group))
            for number, found in zip(group, made, strict=True):
                if writer is not None:
                    writer.write(number, batches[number], found)
        if writer is not None:
            for number, batch in enumerate(batches):
                writer.has(number, batch)  # parts are joined in the order in which they are asked for
            writer.finish()
    return read_pairs(path)


def read_pairs(path: Path) -> PairFile:
    """Read the pairs of a file on the first process, for all of them; a missing file has none."""
    content = path.read_bytes() if PartialState().is_main_process and path.exists() else b""
    content = _share(content)
    return PairFile([json.loads(line) for line in content.splitlines()], hashlib.sha256(content).hexdigest())


def _share(value: Any) -> Any:
    """Return the value of the first process in all of them."""
    return broadcast_object_list([value])[0]

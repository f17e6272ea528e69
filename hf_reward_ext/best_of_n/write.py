"""Resumable writing of training rows by best-of-N."""

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import is_dataclass
from pathlib import Path

from transformers.utils.logging import tqdm

from hf_reward_ext.base.options import SEED, check_callable, check_count
from hf_reward_ext.base.saving.fingerprint import fingerprint_weights
from hf_reward_ext.best_of_n.engine import EngineBestOfN
from hf_reward_ext.best_of_n.pipeline import BestOfNPipeline
from hf_reward_ext.best_of_n.preference_rows import preference_rows
from hf_reward_ext.best_of_n.writer import ResumableWriter


def write_best_of_n(
    pipe,
    prompts: Iterable[str | list],
    path: str | Path,
    rows: Callable[[str | list, list[dict]], list[dict]] = preference_rows,
    *,
    prompts_per_part: int = 32,
    seed: int = 0,
    show_progress: bool | None = None,
    overwrite: bool = False,
    **call_kwargs,
) -> Path:
    """
    Sample N candidates of every prompt, score them, and write rows for a trainer.

    A killed run resumes after the last complete part when it is called again with the same arguments, and produces the
    same file as an uninterrupted run: part i is sampled with `seed + i`. A finished file is not changed. Models are
    compared by their weights, functions by their names.

    Args:
        pipe ([`BestOfNPipeline`] or [`EngineBestOfN`]): `pipeline("reward-bon", ...)`, best of N by another engine, or
            a callable with the same arguments and results.
        prompts (iterable of `str` or of messages): Prompts as a list, a column of a dataset, or a stream.
        path (`str` or `Path`): File to write, `*.jsonl` or `*.arrow`.
        rows (`callable`, *optional*): Function `(prompt, records) -> rows`: [`preference_rows`], [`sft_rows`], either
            with options by `functools.partial`, or a custom one.
        prompts_per_part (`int`, *optional*, defaults to 32): Number of prompts per part, the maximum that a killed
            run loses.
        seed (`int`, *optional*): Random seed for sampling.
        show_progress (`bool`, *optional*): Whether to show a progress bar. Default: for more than one part.
        overwrite (`bool`, *optional*, defaults to `False`): Whether to replace an existing file once the new one is
            complete.
        **call_kwargs: Arguments of the pipeline's call (`num_candidates`, `max_new_tokens`, ...).

    Returns:
        `Path`: Path of the file. `load_dataset("json", data_files=...)` or `Dataset.from_file(...)` reads it.

    Raises:
        ValueError: If the existing file is broken or has other prompts, settings or models, no prompt gives a row, or a
            prompt of a list is neither text nor messages (before sampling).
        RuntimeError: If another process writes the file.

    Example:
    ```python
    >>> write_best_of_n(pipe, prompts, "pairs.jsonl", num_candidates=8, max_new_tokens=32)
    >>> write_best_of_n(pipe, prompts, "best.arrow", functools.partial(sft_rows, keep=2), max_new_tokens=32)
    ```
    """
    settings = {
        "rows": describe_setting(rows),
        "call": describe_setting(call_kwargs),
        "pipe": describe_pipe(pipe),
        "seed": seed,
        "prompts_per_part": prompts_per_part,
    }
    check_count("prompts_per_part", prompts_per_part)
    SEED.check("seed", seed)
    check_callable("rows", rows, ["prompt", "records"])
    if isinstance(prompts, str) or (isinstance(prompts, Sequence) and len(prompts) and isinstance(prompts[0], Mapping)):
        raise TypeError("`prompts` must be a list of prompts, got a single prompt. Pass a list of it.")
    if isinstance(prompts, Sequence) and isinstance(pipe, BestOfNPipeline | EngineBestOfN):
        pipe.check_prompts(list(prompts))
    total = -(-len(prompts) // prompts_per_part) if isinstance(prompts, Sized) else None
    hidden = total == 1 if show_progress is None else not show_progress
    stream = iter(prompts)
    parts = iter(lambda: list(itertools.islice(stream, prompts_per_part)), [])
    with ResumableWriter(path, settings, overwrite=overwrite) as writer:
        for number, part in enumerate(tqdm(parts, desc="best of N", total=total, disable=hidden)):
            if not writer.has(number, part):
                results = pipe(part, return_all=True, seed=seed + number, show_progress=False, **call_kwargs)
                made = [row for prompt, records in zip(part, results, strict=True) for row in rows(prompt, records)]
                writer.write(number, part, made)
        return writer.finish()


def describe_setting(value):
    """Describe a setting so that another process recognizes it, without memory addresses."""
    if isinstance(value, functools.partial):
        return [describe_setting(value.func), describe_setting(value.args), describe_setting(value.keywords)]
    if isinstance(value, dict):
        return {str(key): describe_setting(one) for key, one in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return [type(value).__name__, describe_setting(vars(value))]
    if isinstance(value, list | tuple):
        return [describe_setting(one) for one in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return getattr(value, "__qualname__", None) or getattr(value, "__name__", type(value).__name__)


def describe_pipe(pipe):
    """Describe a pipeline by its models' weights, its rewards and its options."""
    if isinstance(pipe, EngineBestOfN):
        return describe_setting(pipe.describe())
    if not isinstance(pipe, BestOfNPipeline):
        return describe_setting(pipe)
    scorers = [scorer for scorer in (pipe.scorer, pipe.second_scorer) if scorer is not None]
    models = [pipe.model, pipe.head, *(model for scorer in scorers for model in scorer.models)]
    return {
        "models": [fingerprint_weights(model) for model in models if model is not None],
        "measure": None if pipe.head is not None else describe_setting(pipe.read_reward),
        "scorers": [scorer.__name__ for scorer in scorers],
        "options": describe_setting(vars(pipe.options)),
    }

"""From prompts to a file of training rows by best-of-N, resumable."""

import functools
import itertools
from collections.abc import Callable, Iterable, Sized
from pathlib import Path

from tqdm.auto import tqdm

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
    **call_kwargs,
) -> Path:
    """
    Samples N candidates of every prompt, scores them, and writes rows for a trainer.

    A run that was killed goes on after the last whole part when it is called again with the same arguments, and ends
    with the file that it would have written undisturbed: part i is sampled with `seed + i`. A finished file is left
    alone. Of the pipeline itself the name of the model and that of a text reward are compared, no weights.

    Args:
        pipe ([`BestOfNPipeline`]): `pipeline("reward-bon", ...)`, or a callable that takes and returns the same.
        prompts (iterable of `str` or of messages): A list, a column of a dataset, or a stream.
        path (`str` or `Path`): `*.jsonl` or `*.arrow`.
        rows (`callable`, *optional*): `(prompt, records) -> rows`: [`preference_rows`], [`sft_rows`], either with
            options by `functools.partial`, or your own.
        prompts_per_part (`int`, *optional*, defaults to 32): What is lost at most when the run is killed.
        seed (`int`, *optional*): Of the samples.
        show_progress (`bool`, *optional*): Default: a bar for more than one part.
        **call_kwargs: For the pipeline (`num_candidates`, `max_new_tokens`, ...).

    Returns:
        `Path`: Of the file. `load_dataset("json", data_files=...)` or `Dataset.from_file(...)` reads it.

    Raises:
        ValueError: If what is there was made of other prompts or with other settings, or no prompt gives a row.

    Example:
    ```python
    >>> write_best_of_n(pipe, prompts, "pairs.jsonl", num_candidates=8, max_new_tokens=32)
    >>> write_best_of_n(pipe, prompts, "best.arrow", functools.partial(sft_rows, keep=2), max_new_tokens=32)
    ```
    """
    settings = {
        "rows": _describe(rows),
        "call": _describe(call_kwargs),
        "pipe": _describe_pipe(pipe),
        "seed": seed,
        "prompts_per_part": prompts_per_part,
    }
    writer = ResumableWriter(path, settings)
    total = -(-len(prompts) // prompts_per_part) if isinstance(prompts, Sized) else None
    hidden = total == 1 if show_progress is None else not show_progress
    stream = iter(prompts)
    parts = iter(lambda: list(itertools.islice(stream, prompts_per_part)), [])
    for number, part in enumerate(tqdm(parts, desc="best of N", total=total, disable=hidden)):
        if not writer.has(number, part):
            results = pipe(part, return_all=True, seed=seed + number, show_progress=False, **call_kwargs)
            made = [row for prompt, records in zip(part, results, strict=True) for row in rows(prompt, records)]
            writer.write(number, part, made)
    return writer.finish()


def _describe(value):
    """What identifies a setting in another process: no addresses."""
    if isinstance(value, functools.partial):
        return [_describe(value.func), _describe(value.args), _describe(value.keywords)]
    if isinstance(value, dict):
        return {str(key): _describe(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_describe(one) for one in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return getattr(value, "__qualname__", None) or getattr(value, "__name__", type(value).__name__)


def _describe_pipe(pipe):
    if not isinstance(pipe, BestOfNPipeline):
        return _describe(pipe)
    scorer = type(pipe.head).__name__ if pipe.scorer is None else pipe.scorer.__name__
    return [getattr(pipe.model.config, "_name_or_path", ""), scorer, _describe(vars(pipe.options))]

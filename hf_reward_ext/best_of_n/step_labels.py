"""Labels of steps by rollouts: how often a response that begins like this ends right."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, NamedTuple

from transformers.utils.logging import tqdm

from hf_reward_ext.base.options import check_count, check_number
from hf_reward_ext.base.preference.validation import naming_row, read_completion, read_prompt
from hf_reward_ext.base.saving.fingerprint import fingerprint_weights
from hf_reward_ext.base.scoring.conversation import join_turns
from hf_reward_ext.base.scoring.scorer import Scorer, as_single_scorer
from hf_reward_ext.best_of_n.candidates import as_turn
from hf_reward_ext.best_of_n.writer import ResumableWriter, read_back
from hf_reward_ext.engines.generator import Generator, Prompt, Sampling
from hf_reward_ext.rewards.steps import Splitter, split_steps


def label_steps(
    generator: Generator,
    rows: Iterable[Mapping[str, Any]],
    scorer: Any,
    marks: str | Splitter = "\n\n",
    *,
    num_rollouts: int = 8,
    sampling: Sampling | None = None,
    threshold: float = 0.5,
    hard: bool = False,
    path: str | Path | None = None,
    rows_per_part: int = 8,
    show_progress: bool | None = None,
    overwrite: bool = False,
) -> list[dict]:
    r"""
    Label the steps of responses by rollouts of a policy.

    $$ y_k = \frac{1}{K} \sum_{j=1}^{K} [\text{continuation } j \text{ of } y_{\le k} \text{ ends right}] $$

    Source: [Math-Shepherd](https://huggingface.co/papers/2312.08935), whose hard label is 1 if any rollout is right.
    $K$ continuations are sampled after each step but the last: that prefix is the response, which is checked itself. A
    prefix is read once for its continuations. A rollout depends on policy, seed, prefix and its number only.

    Args:
        generator ([`Generator`]): Policy, such as a [`TransformersGenerator`] or [`ServerGenerator`].
        rows (iterable of `dict`): Rows `{prompt, completion}` of text or messages.
        scorer: Check of whole responses: anything that [`as_scorer`] takes, such as a function of prompts and
            completions that returns 0 or 1. A rollout without a reward (`None`) does not count.
        marks (`str` or `callable`, *optional*, defaults to two line breaks): What ends a step, see [`split_steps`]. A
            step of whitespace belongs to the step before it.
        num_rollouts (`int`, *optional*, defaults to 8): Number of continuations $K$ of each prefix.
        sampling ([`Sampling`], *optional*): Sampling of continuations, with the random seed.
        threshold (`float`, *optional*, defaults to 0.5): Least reward of a right response.
        hard (`bool`, *optional*, defaults to `False`): Whether labels are 1 for steps with a right rollout and else 0.
        path (`str` or `Path`, *optional*): File to write, `*.jsonl` or `*.arrow`. A killed run resumes after its last
            complete part when it is called again with the same arguments. A finished file is read. Models are compared
            by their weights, functions by their names.
        rows_per_part (`int`, *optional*, defaults to 8): Number of responses whose rollouts are sampled together, the
            maximum that a killed run loses.
        show_progress (`bool`, *optional*): Whether to show a progress bar. Default: for more than one part.
        overwrite (`bool`, *optional*, defaults to `False`): Whether to replace an existing file once the new one is
            complete.

    Returns:
        `list` of `dict`: `prompt`, `completions` (steps, which make up the response) and `labels`, the rows of
        `loss_type="step_bce"` in [`ELHSRConfig`] and [`SLAConfig`], with `step_separator=""`.

    Raises:
        TypeError: If the generator is none, or the scorer cannot score text.
        ValueError: Before sampling, if an option is invalid, a row is malformed (its number and column are named), or
            the file has other rows or settings; after it, if no rollout of a step has a reward.
        RuntimeError: If another process writes the file.

    Example:
    ```python
    >>> policy = TransformersGenerator(model, tokenizer)
    >>> label_steps(policy, [{"prompt": "6 1 3 3=12|", "completion": "6-1=5;5*3=15;15-3=12"}], is_right, ";")
    [{'prompt': '6 1 3 3=12|', 'completions': ['6-1=5;', '5*3=15;', '15-3=12'], 'labels': [0.75, 0.875, 1.0]}]
    ```
    """
    if not isinstance(generator, Generator):
        raise TypeError(
            f"`generator` must have the methods `generate` and `describe`, got a `{type(generator).__name__}`. Pass "
            "for example a `TransformersGenerator`."
        )
    sampling = sampling or Sampling()
    check_count("num_rollouts", num_rollouts)
    sampling.check_variety(num_rollouts)
    check_number("threshold", threshold)
    check_count("rows_per_part", rows_per_part)
    resolved = as_single_scorer(scorer)
    resolved.check_columns(())
    responses = read_responses(rows, marks)
    parts = [responses[start : start + rows_per_part] for start in range(0, len(responses), rows_per_part)]
    hidden = len(parts) == 1 if show_progress is None else not show_progress
    progress = tqdm(parts, desc="step labels", disable=hidden)

    def label(part: Sequence[Response]) -> list[dict]:
        texts = _roll_out(part, generator, num_rollouts, sampling)
        rights = _check(part, texts, resolved, threshold)
        return [
            {"prompt": one.prompt, "completions": one.steps, "labels": [_share(own, hard) for own in right]}
            for one, right in zip(part, rights, strict=True)
        ]

    if path is None:
        return [row for part in progress for row in label(part)]
    settings = {
        "generator": generator.describe(),
        "scorer": resolved.__name__,
        "models": [fingerprint_weights(model) for model in resolved.models],
        "num_rollouts": num_rollouts,
        "sampling": sampling.describe(),
        "threshold": threshold,
        "hard": hard,
        "rows_per_part": rows_per_part,
    }
    with ResumableWriter(path, settings, overwrite=overwrite) as writer:
        for number, part in enumerate(progress):
            if not writer.has(number, part):
                writer.write(number, part, label(part))
        return list(read_back(writer.finish()))


class Response(NamedTuple):
    """
    A response in steps.

    Args:
        prompt (`str` or messages): Prompt.
        steps (`list[str]`): Steps, which make up the response.
    """

    prompt: Prompt
    steps: list[str]


def read_responses(rows: Iterable[Mapping[str, Any]], marks: str | Splitter) -> list[Response]:
    """
    Read the responses in rows, and divide them into steps.

    Args:
        rows (iterable of `dict`): Rows `{prompt, completion}`; messages of a completion are one of the assistant.
        marks (`str` or `callable`): What ends a step, see [`split_steps`].

    Raises:
        ValueError: If there are no rows, or one is malformed; its number and column are named.
    """
    responses = []
    for number, row in enumerate(rows):
        with naming_row(number, "step"):
            responses.append(_read(row, marks))
    if not responses:
        raise ValueError("The step data has no rows. Pass at least one.")
    return responses


def _roll_out(
    responses: Sequence[Response], generator: Generator, num_rollouts: int, sampling: Sampling
) -> list[list[list[str]]]:
    """Return the completions of each step of each response: rollouts, and of the last step the response itself."""
    prefixes = [(one.prompt, prefix) for one in responses for prefix in accumulate(one.steps[:-1])]
    prompts = [_continued(prompt, prefix) for prompt, prefix in prefixes]
    groups = iter(generator.generate(prompts, num_rollouts, sampling) if prompts else [])
    return [
        [
            *([prefix + made.text for made in next(groups)] for prefix in accumulate(one.steps[:-1])),
            ["".join(one.steps)],
        ]
        for one in responses
    ]


def _check(
    responses: Sequence[Response], texts: Sequence[Sequence[Sequence[str]]], scorer: Scorer, threshold: float
) -> list[list[list[bool]]]:
    """Return which completions of each step are right, without those that have no reward."""
    pairs = [
        (one.prompt, as_turn(one.prompt, text))
        for one, steps in zip(responses, texts, strict=True)
        for own in steps
        for text in own
    ]
    prompts, completions = map(list, zip(*pairs, strict=True))
    rewards = iter(scorer.score(prompts, completions, nan_is_missing=True))
    rights = [
        [[reward >= threshold for reward in islice(rewards, len(own)) if reward is not None] for own in steps]
        for steps in texts
    ]
    for one, right in zip(responses, rights, strict=True):
        if [] in right:
            raise ValueError(
                f"`{scorer.__name__}` must answer at least one rollout of each step, got `None` for all of step "
                f"{right.index([])} of the prompt {str(one.prompt)[:80]!r}. Leave the row out."
            )
    return rights


def _share(right: Sequence[bool], hard: bool) -> float:
    return float(any(right)) if hard else sum(right) / len(right)


def _read(row: Mapping[str, Any], marks: str | Splitter) -> Response:
    for column in ("prompt", "completion"):
        if column not in row:
            raise ValueError(f"`{column}` is missing; the columns are {sorted(row)}. Rename one.")
    prompt = read_prompt(row["prompt"])
    completion = read_completion(row["completion"], prompt=prompt)
    if not isinstance(completion, str):
        if len(completion) > 1 or isinstance(prompt, str):
            raise ValueError(
                "`completion` must be one message of the assistant after messages, or text, got "
                f"{len(completion)} messages. Move earlier turns to `prompt`."
            )
        completion = completion[0]["content"]
    return Response(prompt, list(_with_text(split_steps(completion, marks))))


def _with_text(steps: Sequence[str]) -> Iterator[str]:
    """Yield the steps, with those of whitespace joined to the step before them, or to the first one."""
    held = ""
    for step in steps:
        if held.strip() and step.strip():
            yield held
            held = ""
        held += step
    yield held


def _continued(prompt: Prompt, prefix: str) -> Prompt:
    """Return the prompt with the beginning of its answer."""
    if isinstance(prompt, str):
        return prompt + prefix
    return join_turns(prompt, [{"role": "assistant", "content": prefix}])

"""Rows of the command `bon` with all candidates, and what it prints of them."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any


def record_candidates(prompt: Any, group: list[dict], label: Callable | None, has_pruning: bool) -> list[dict]:
    """Return the candidates of a prompt, best first."""
    record = {
        "prompt": prompt,
        "completions": [one["generated_text"] for one in group],
        "rewards": [one["score"] for one in group],
        "num_tokens": [one["num_tokens"] for one in group],
    }
    for name, column in (("answer", "answers"), ("probability", "probabilities")):
        if name in group[0]:
            record[column] = [one[name] for one in group]
    if "stop_reason" in group[0]:
        record["stop_reason"] = group[0]["stop_reason"]
    if has_pruning:
        record["pruned"] = [one["pruned"] for one in group]
    if label is not None:
        record["labels"] = [_label(label, prompt, text) for text in record["completions"]]
    return [record]


def _label(function: Callable, prompt: Any, completion: str) -> float:
    try:
        return float(function(prompt, completion))
    except Exception as error:
        kind = "text" if isinstance(prompt, str) else "messages"
        raise ValueError(
            f"`--label` must be a function of one prompt ({kind}) and one completion (text) that returns whether it is "
            f"right, but its call with {str(prompt)[:60]!r} and {completion[:40]!r} raised {type(error).__name__}: "
            f"{error}. Correct the function."
        ) from error


def check_label(function: Callable | None) -> None:
    """
    Reject a function of many prompts and completions before candidates are sampled.

    Raises:
        TypeError: If its arguments have the names of those of reward functions.
    """
    try:
        names = list(inspect.signature(function).parameters) if function is not None else []
    except ValueError:  # a builtin without a signature
        return
    if {"prompts", "completions"} & set(names):
        raise TypeError(
            f"`--label` must be a function of one prompt and one completion that returns whether it is right, got "
            f"arguments {names}. Name them prompt and completion, and label one at a time."
        )


def show_prompt(prompt: str | list[dict]) -> str:
    """
    Return a prompt in a line: text, or the last message of a chat, after `...` if there are other turns.

    Example:
    ```python
    >>> show_prompt([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a color."}])
    'Name a color.'
    ```
    """
    if isinstance(prompt, str):
        return prompt
    turns = [message for message in prompt if message["role"] != "system"]
    return ("... " if len(turns) > 1 else "") + str(prompt[-1].get("content") or "")


def describe(row: dict) -> str:
    """Describe the best candidate of a prompt, with its reward and the mean reward."""
    rewards = [reward for reward in row["rewards"] if reward is not None]
    prompt = row["prompt"] if isinstance(row["prompt"], str) else f"{show_prompt(row['prompt'])} -> "
    among = f"  [best of {len(row['rewards'])}; mean {sum(rewards) / len(rewards):.3f}]" if len(rewards) > 1 else ""
    return f"{row['rewards'][0]:8.3f}  {prompt}{row['completions'][0]}{among}"


def summarize(records: Sequence[dict]) -> dict[str, float]:
    """Return means over prompts of the reward and label of the best candidate and of all candidates."""
    best, mean, right, any_right, mean_right = [], [], [], [], []
    for record in records:
        rewards = [reward for reward in record["rewards"] if reward is not None]
        best.append(record["rewards"][0])
        mean.append(sum(rewards) / len(rewards))
        if "labels" in record:
            right.append(record["labels"][0])
            any_right.append(max(record["labels"]))
            mean_right.append(sum(record["labels"]) / len(record["labels"]))
    columns = {"best_reward": best, "mean_reward": mean}
    if any("stop_reason" in record for record in records):
        columns["mean_num_drawn"] = [len(record["rewards"]) for record in records]
    if right:
        columns |= {"best_label": right, "mean_label": mean_right, "any_label": any_right}
    return {name: sum(values) / len(values) for name, values in columns.items()}

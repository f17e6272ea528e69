"""
Pairs of two files of completions, for a win rate: the share of pairs in which a reward model prefers the first.

    python -m examples.recipes.duels outputs/guided.jsonl outputs/base.jsonl --output outputs/duels.jsonl
    hf-reward-ext evaluate --scorer Skywork/Skywork-Reward-V2-Llama-3.1-8B --data outputs/duels.jsonl

Equal completions are left out and counted: a tie is worth one half. A column `subset` of the prompts (--prompts) gives
a win rate of each subset.
"""

import argparse
import json
from pathlib import Path

from examples.tasks.preference import read_dialogue
from hf_reward_ext.base.saving.atomic import replace_text


def duels(first: list[dict], second: list[dict], subsets: list[str] | None = None) -> tuple[list[dict], int]:
    """
    Return `{prompt, chosen, rejected}` with the first completion as `chosen`, and the number of ties.

    Prompts in the format of HH-RLHF become messages, which reward models with a chat template need.

    Args:
        first, second (`list[dict]`): Rows `{prompt, completion}` of `hf-reward-ext generate`, for the same prompts.
        subsets (`list[str]`, *optional*): Subset of each row.

    Raises:
        ValueError: If the prompts or their numbers differ, or all completions are equal.
    """
    is_same = [row["prompt"] for row in first] == [row["prompt"] for row in second]
    if not is_same or len(subsets or first) != len(first):
        raise ValueError(
            f"`first`, `second` and `subsets` must be of the same prompts in the same order, got {len(first)} and "
            f"{len(second)} rows, and {len(subsets or first)} subsets. Generate both from the same data."
        )
    columns = [{}] * len(first) if subsets is None else [{"subset": subset} for subset in subsets]
    pairs = [
        {**_pair(own["prompt"], own["completion"], other["completion"]), **column}
        for own, other, column in zip(first, second, columns, strict=True)
        if own["completion"] != other["completion"]
    ]
    if not pairs:
        raise ValueError(f"`first` and `second` must differ, got {len(first)} equal completions. Compare other files.")
    return pairs, len(first) - len(pairs)


def _pair(prompt: str | list[dict], own: str, other: str) -> dict:
    if not isinstance(prompt, str):
        sides = ([{"role": "assistant", "content": text}] for text in (own, other))
    elif prompt.startswith("\n\nHuman:"):
        prompt = [message for message in read_dialogue(prompt) if message["content"]]
        sides = ([{"role": "assistant", "content": text.strip()}] for text in (own, other))
    else:
        sides = iter((own, other))
    return {"prompt": prompt, "chosen": next(sides), "rejected": next(sides)}


def _read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--prompts", type=Path, help="JSON lines of the prompts, with an optional column `subset`")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    first, second = _read(args.first), _read(args.second)
    prompts = _read(args.prompts)[: len(first)] if args.prompts else []
    subsets = [row["subset"] for row in prompts if "subset" in row]
    pairs, num_ties = duels(first, second, subsets or None)
    replace_text(args.output, "".join(json.dumps(pair) + "\n" for pair in pairs))
    print(f"{len(pairs)} pairs and {num_ties} ties in {args.output}")


if __name__ == "__main__":
    main()

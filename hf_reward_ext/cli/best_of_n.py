"""The work of `bon`."""

import re
from argparse import Namespace
from collections.abc import Callable
from typing import Any

from transformers import pipeline

from hf_reward_ext.cli.models import base_of, load_causal_lm, load_tokenizer, loading_settings, model_type, on_device
from hf_reward_ext.cli.options import generation_settings
from hf_reward_ext.cli.scorers import load_function, load_scorer
from hf_reward_ext.cli.work import read_prompts, row_file, work_through
from hf_reward_ext.elhsr import ELHSRModel, Pruning


def best_of_n(args: Namespace) -> dict:
    """Ranks candidates of every prompt."""
    output, prompts = row_file(args), read_prompts(args)
    label = load_function(args.label) if args.label else None
    rank, settings = _pipeline(args), _settings(args)

    def batch(rows: list[dict]) -> list[dict]:
        groups = rank([row["prompt"] for row in rows], batch_size=args.batch_size, **settings)
        return [_record(row["prompt"], group, label) for row, group in zip(rows, groups, strict=True)]

    results = work_through(prompts, batch, args, output, "best of N")
    if output:
        summary = _summarise(results)
        count = output.finish(_CONVERT[args.shape])
        print(f"{count} rows in {args.output}")
        return {"command": "bon", "output": args.output, "num_rows": count, **summary}
    rows = list(results)
    summary = _summarise(rows)
    for row in rows:
        prompt = row["prompt"] if isinstance(row["prompt"], str) else ""
        print(f"{row['rewards'][0]:8.3f}  {prompt}{row['completions'][0]}")
    return {"command": "bon", "rows": rows, **summary}


def _pipeline(args: Namespace) -> Callable:
    name = args.model or base_of(args.reward_model)
    tokenizer = load_tokenizer(name)
    policy = on_device(load_causal_lm(name, revision=args.revision, **loading_settings(args)), args)
    is_head = ":" not in args.reward_model and model_type(args.reward_model) == "elhsr"
    reward: Any = ELHSRModel.from_pretrained(args.reward_model) if is_head else load_scorer(args.reward_model, args)
    second = load_scorer(args.second_reward_model, args) if args.second_reward_model else None
    return pipeline(
        "reward-bon",
        model=policy,
        tokenizer=tokenizer,
        reward_model=reward,
        second_reward_model=second,
        num_candidates=args.num_candidates,
    )  # pyright: ignore[reportCallIssue, reportArgumentType]


def _settings(args: Namespace) -> dict[str, Any]:
    """Arguments of the pipeline's call."""
    settings: dict[str, Any] = dict(
        return_all=True, return_full_text=False, progress=False, **generation_settings(args)
    )
    if args.candidates_per_batch:
        settings["candidates_per_batch"] = args.candidates_per_batch
    if args.vote:
        extract = _by_pattern(args.answer_pattern) if args.answer_pattern else load_function(args.extract_answer)
        settings |= dict(vote=args.vote, extract_answer=extract)
    if args.second_reward_model:
        settings["combine"] = args.combine
    if args.prune_at:
        settings["prune"] = Pruning(tuple(args.prune_at), args.prune_keep, args.prune_max_gap)
    return settings


def _by_pattern(pattern: str) -> Callable[[str], str | None]:
    expression = re.compile(pattern)

    def extract(text: str) -> str | None:
        found = list(expression.finditer(text))
        return found[-1].group(min(1, expression.groups)) if found else None

    return extract


def _record(prompt, group: list[dict], label: Callable | None) -> dict:
    """Candidates of a prompt, best first."""
    record = {
        "prompt": prompt,
        "completions": [one["generated_text"] for one in group],
        "rewards": [one["score"] for one in group],
        "num_tokens": [one["num_tokens"] for one in group],
    }
    for name, column in (("answer", "answers"), ("probability", "probabilities")):
        if name in group[0]:
            record[column] = [one[name] for one in group]
    if any(one["pruned"] for one in group):
        record["pruned"] = [one["pruned"] for one in group]
    if label is not None:
        record["labels"] = [float(label(prompt, text)) for text in record["completions"]]
    return record


def _summarise(records) -> dict[str, float]:
    """Means over prompts: of the winner's reward and label, of any candidate's."""
    best, mean, right, any_right, mean_right = [], [], [], [], []
    for record in records:
        best.append(record["rewards"][0])
        mean.append(sum(record["rewards"]) / len(record["rewards"]))
        if "labels" in record:
            right.append(record["labels"][0])
            any_right.append(max(record["labels"]))
            mean_right.append(sum(record["labels"]) / len(record["labels"]))
    columns = {"best_reward": best, "mean_reward": mean}
    if right:
        columns |= {"best_label": right, "mean_label": mean_right, "any_label": any_right}
    return {name: sum(values) / len(values) for name, values in columns.items()}


def _best(record: dict) -> dict:
    return {"prompt": record["prompt"], "completion": record["completions"][0], "reward": record["rewards"][0]}


def _preference(record: dict) -> dict | None:
    """Best against worst; no row where they say the same."""
    stopped = record.get("pruned") or [False] * len(record["rewards"])
    kept = [place for place, was_stopped in enumerate(stopped) if not was_stopped]
    worst = min(kept, key=lambda place: record["rewards"][place])
    chosen, rejected = record["completions"][0], record["completions"][worst]
    if chosen == rejected:
        return None
    margin = record["rewards"][0] - record["rewards"][worst]
    return {"prompt": record["prompt"], "chosen": chosen, "rejected": rejected, "margin": margin}


def _sft(record: dict) -> dict:
    return {"prompt": record["prompt"], "completion": record["completions"][0]}


_CONVERT = {"all": None, "best": _best, "preference": _preference, "sft": _sft}

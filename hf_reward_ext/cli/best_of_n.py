"""The work of `bon`."""

import re
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from typing import Any

from transformers import pipeline

from hf_reward_ext.best_of_n import preference_rows, sft_rows
from hf_reward_ext.cli.models import base_of, load_causal_lm, load_tokenizer, loading_settings, model_type, on_device
from hf_reward_ext.cli.options import generation_settings
from hf_reward_ext.cli.scorers import load_function, load_scorer
from hf_reward_ext.cli.work import Batch, open_output, read_prompts, report, work_through
from hf_reward_ext.elhsr import ELHSRModel, Pruning


def best_of_n(args: Namespace) -> dict:
    """Ranks candidates of every prompt."""
    writer, prompts = open_output(args), read_prompts(args)
    results = list(work_through(prompts, lambda: _prepare(args), args, writer, "best of N"))
    summary = {"num_rows": len(results), **(_summarise(results) if args.shape == "all" else {})}
    if args.output:
        print(f"{len(results)} rows in {args.output}")
    else:
        for row in results:
            prompt = row["prompt"] if isinstance(row["prompt"], str) else ""
            print(f"{row['rewards'][0]:8.3f}  {prompt}{row['completions'][0]}")
    return report("bon", args, results, summary)


def _prepare(args: Namespace) -> Batch:
    shape, settings = _shape(args), _settings(args)
    rank = _pipeline(args)

    def batch(rows: list[dict]) -> list[dict]:
        groups = rank([row["prompt"] for row in rows], batch_size=args.batch_size, **settings)
        return [made for row, group in zip(rows, groups, strict=True) for made in shape(row["prompt"], group)]

    return batch


def _shape(args: Namespace) -> Callable[[Any, list[dict]], list[dict]]:
    """From what the pipeline returns for a prompt to rows of the file."""
    if args.shape == "preference":
        return partial(preference_rows, rejected=args.rejected, min_margin=args.min_margin, seed=args.seed)
    if args.shape == "sft":
        return partial(sft_rows, keep=args.keep, min_score=args.min_score)
    return partial(_record, label=load_function(args.label) if args.label else None)


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
        return_all=True, return_full_text=args.shape != "all", show_progress=False, **generation_settings(args)
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


def _record(prompt, group: list[dict], label: Callable | None) -> list[dict]:
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
    return [record]


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

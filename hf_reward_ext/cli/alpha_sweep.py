"""Completions of `generate --alpha_sweep`: one for each weight of the guides, with divergence and reward."""

from collections.abc import Sequence
from typing import Any

import torch

from hf_reward_ext.base.lm.row_ends import watch_row_ends
from hf_reward_ext.best_of_n.candidates import as_turn
from hf_reward_ext.cli.bon_rows import show_prompt
from hf_reward_ext.cli.encoding import encode
from hf_reward_ext.cli.traces import tilt_traces
from hf_reward_ext.genarm.trace import trace_guidance


@torch.no_grad()
def sweep_weights(
    guided: Any,
    tokenizer: Any,
    settings: dict[str, Any],
    alphas: Sequence[float],
    scorer: Any,
    is_traced: bool,
    rows: list[dict],
) -> list[dict]:
    """
    Continue prompts once with each weight, from the same random numbers.

    Args:
        guided ([`GuidedCausalLM`]): Policy and guides; a weight is that of every guide.
        tokenizer: Tokenizer of the policy.
        settings (`dict`): Arguments of `generate`.
        alphas (`list[float]`): Weights.
        scorer (`callable`, *optional*): Reward of the completions.
        is_traced (`bool`): Whether to add the effect of the guides on each token.
        rows (`list[dict]`): Prompts.

    Returns:
        Rows with `alphas`, and `completions`, `num_tokens`, `kl` (nats of the whole completion), `rewards` and
        `traces` for each of them.
    """
    inputs = encode([row["prompt"] for row in rows], tokenizer, return_tensors="pt").to(guided.device)
    start = inputs["input_ids"].shape[1]
    lists = ("completions", "num_tokens", "kl") + (("rewards",) if scorer is not None else ())
    made = [{"prompt": row["prompt"], "alphas": list(alphas), **{name: [] for name in lists}} for row in rows]
    for index, alpha in enumerate(alphas):
        guided.alpha = alpha
        with torch.random.fork_rng(), watch_row_ends(guided) as ends:
            out = guided.generate(**inputs, **settings)
        sequences = getattr(out, "sequences", out)
        mask = ends.completion_mask(sequences, start)
        trace = trace_guidance(guided, sequences, start, inputs["attention_mask"], completion_mask=mask)
        texts = tokenizer.batch_decode(sequences[:, start:], skip_special_tokens=True)
        columns = {"completions": texts, "num_tokens": mask.sum(-1).tolist(), "kl": trace.kl.sum(-1).tolist()}
        if scorer is not None:
            prompts = [row["prompt"] for row in rows]
            answers = [as_turn(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]
            columns["rewards"] = list(scorer(prompts, answers))
        traces = tilt_traces(trace, tokenizer, sequences[:, start:], mask) if is_traced else []
        for number, row in enumerate(made):
            for name, values in columns.items():
                row[name].append(values[number])
            if traces:
                row.setdefault("traces", []).append({"index": index, **traces[number]})
    return made


def summarize(results: Sequence[dict]) -> dict[str, float]:
    """Return the means over prompts for each weight: divergence, tokens, and reward where there is one."""
    summary: dict[str, float] = {"num_rows": len(results)}
    for index, alpha in enumerate(results[0]["alphas"]):
        for column, name in (("kl", "kl"), ("num_tokens", "tokens"), ("rewards", "reward")):
            values = [row[column][index] for row in results if column in row]
            values = [value for value in values if value is not None]
            if values:
                summary[f"{name}_alpha_{_shown(alpha)}"] = sum(values) / len(values)
    return summary


def describe(results: Sequence[dict], summary: dict[str, float]) -> list[str]:
    """Return the lines that the command prints: the completions of each prompt, and a table of the weights."""
    lines = []
    for row in results:
        lines.append(show_prompt(row["prompt"]))
        lines += [
            f"  alpha {_shown(alpha)}: {text}" for alpha, text in zip(row["alphas"], row["completions"], strict=True)
        ]
    names = [name for name in ("kl", "tokens", "reward") if any(key.startswith(f"{name}_") for key in summary)]
    lines.append(f"{'alpha':>8}" + "".join(f"{'kl, nats' if name == 'kl' else name:>10}" for name in names))
    for alpha in results[0]["alphas"]:
        values = [summary.get(f"{name}_alpha_{_shown(alpha)}", float("nan")) for name in names]
        lines.append(f"{_shown(alpha):>8}" + "".join(f"{value:10.3f}" for value in values))
    return lines


def _shown(alpha: float) -> str:
    """Return a weight as text, shortened only if no other weight has that text."""
    short = f"{alpha:g}"
    return short if float(short) == alpha else repr(alpha)

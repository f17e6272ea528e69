"""Traces of rows: rewards of tokens, the effect of guides on tokens, and trees of the search."""

from typing import Any

from torch import Tensor

from hf_reward_ext.base.scoring.model_scorer import ModelScorer
from hf_reward_ext.elhsr import ELHSRForSequenceClassification
from hf_reward_ext.genarm.trace import GuidanceTrace, trace_guidance
from hf_reward_ext.viz.trace import TRACED, split_tokens, trace_rewards


def trace_guides(
    guided: Any, tokenizer: Any, sequences: Tensor, attention_mask: Tensor, completion_mask: Tensor, each: int
) -> list[list[dict]]:
    """
    Return, for each prompt, the change by the guides in the log-probability of each token, in nats.

    Args:
        guided ([`GuidedCausalLM`]): Policy and guides.
        tokenizer: Tokenizer of the policy.
        sequences, attention_mask, completion_mask (`torch.Tensor`): Output of `generate`, mask of the prompts, and
            mask of the completions.
        each (`int`): Number of completions per prompt.
    """
    start = attention_mask.shape[1]
    trace = trace_guidance(guided, sequences, start, attention_mask, completion_mask=completion_mask)
    rows = tilt_traces(trace, tokenizer, sequences[:, start:], completion_mask)
    groups = [rows[at : at + each] for at in range(0, len(rows), each)]
    return [[{"index": index, **row} for index, row in enumerate(group)] for group in groups]


def tilt_traces(trace: GuidanceTrace, tokenizer: Any, completions: Tensor, completion_mask: Tensor) -> list[dict]:
    """Return tokens and the change of their log-probability by the guides, for each completion."""
    tilts = trace.guided_logps - trace.base_logps
    return [
        {
            "tokens": split_tokens(ids[mask].tolist(), tokenizer),
            "values": [round(value, 4) for value in tilt[mask].tolist()],
        }
        for ids, mask, tilt in zip(completions, completion_mask, tilts, strict=True)
    ]


def flatten_tree(node: dict, tokenizer: Any, depth: int = 0) -> list[dict]:
    """
    Return the nodes of a search, depth first.

    Args:
        node (`dict`): Tree of [`SLAOutput`], or a part of it.
        tokenizer: Tokenizer of the policy.
        depth (`int`, *optional*): Depth of the node.
    """
    own = {
        "depth": depth,
        "text": tokenizer.decode(node["tokens"], skip_special_tokens=True),
        "score": round(float(node["score"]), 4),
        "is_confirmed": bool(node["is_confirmed"]),
    }
    return [own, *(one for child in node["children"] for one in flatten_tree(child, tokenizer, depth + 1))]


def traced_model(pipe: Any) -> tuple[Any, Any] | None:
    """Return the model of a pipeline's reward with rewards of tokens, and its tokenizer; `None` for other rewards."""
    if getattr(pipe, "head", None) is not None:
        return ELHSRForSequenceClassification(pipe.model, pipe.head), pipe.tokenizer
    function = pipe.scorer.function.function if getattr(pipe, "scorer", None) is not None else None
    if isinstance(function, ModelScorer) and isinstance(function.model, TRACED):
        return function.model, function.tokenizer
    return None


def trace_ends(model: Any, tokenizer: Any, prompt: Any, completions: list[str]) -> list[dict]:
    """
    Return the traces of the best and of the worst candidate of a prompt.

    Args:
        model, tokenizer: Result of [`traced_model`].
        prompt (`str` or messages): The prompt.
        completions (`list[str]`): Candidates, best first.
    """
    from hf_reward_ext.best_of_n.candidates import as_turn

    shown = sorted({0, len(completions) - 1})
    answers = [as_turn(prompt, completions[index]) for index in shown]
    traces = trace_rewards(model, tokenizer, [prompt] * len(shown), answers)
    return [
        {"index": index, "tokens": trace.tokens, "values": [round(value, 4) for value in trace.values]}
        for index, trace in zip(shown, traces, strict=True)
    ]

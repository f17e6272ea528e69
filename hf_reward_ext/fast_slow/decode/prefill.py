"""Fast path: one forward over the judge prompts, whose cache the slow path continues."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from hf_reward_ext.base.lm.cache import can_select_rows, new_cache
from hf_reward_ext.base.lm.forward import forward_parameters, run_forward
from hf_reward_ext.base.lm.tokens import left_padded

# For shorter shared prefixes the extra forward costs more than it saves.
_MIN_SHARED = 16


@dataclass
class JudgePrefill:
    """
    Judge prompts after the prefill.

    Args:
        logits (`torch.Tensor` of shape `(rows, vocab)`): Scores of the first generated token, float32.
        cache (`Cache`, *optional*): Keys and values of the prompts; `None` if they are not kept.
        attention_mask (`torch.Tensor` of shape `(rows, seq)`): 1 on positions of the cache that are not padding.
        lengths (`torch.Tensor` of shape `(rows,)`): Number of tokens of each prompt, which is the position of the next
            token.
        prompts (`list` of `list[int]`): Token ids of the prompts.
        pad_token_id (`int`): Id that fills short rows.
    """

    logits: Float[Tensor, "rows vocab"]
    cache: Cache | None
    attention_mask: Int[Tensor, "rows seq"]
    lengths: Int[Tensor, " rows"]
    prompts: list[list[int]]
    pad_token_id: int


@torch.no_grad()
def read_prompts(
    model, prompts: Sequence[list[int]], pad_token_id: int, shared: Sequence[int] | None = None, keep_cache: bool = True
) -> JudgePrefill:
    """
    Read judge prompts, left-padded, in one forward.

    Nothing is sampled. Models without position ids count padding as text, so they read rows of one length at a time.

    Args:
        model: A causal LM or `PeftModel`.
        prompts (`list` of `list[int]`): Token ids of each prompt.
        pad_token_id (`int`): Id that fills short rows, which are masked.
        shared (`list[int]`, *optional*): Number of the question of each row. The common prefix of the rows of one
            question is read once and repeated in the cache. Used only if the cache keeps every position (no sliding
            window, no recurrent state).
        keep_cache (`bool`, *optional*, defaults to `True`): Whether to keep the cache, which written judgments need.

    Returns:
        [`JudgePrefill`].

    Example:
    ```python
    >>> read_prompts(model, [[5, 6, 7], [5, 6]], pad_token_id=0).logits.shape
    torch.Size([2, 32])
    ```
    """
    prompts = [list(prompt) for prompt in prompts]
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=model.device)
    before = torch.zeros(len(prompts), 0, dtype=torch.long, device=model.device)
    groups = paddable_groups(model, prompts)
    if len(groups) > 1:
        parts = [
            read_prompts(model, [prompts[row] for row in group], pad_token_id, keep_cache=False) for group in groups
        ]
        order = torch.tensor(sum(groups, [])).argsort()
        logits = torch.cat([part.logits for part in parts])[order]
        return JudgePrefill(logits, None, before, lengths, prompts, pad_token_id)
    cache = new_cache(model)
    prefixes, owners = _shared_prefixes(prompts, shared) if shared is not None else ([], [])
    if prefixes and _keeps_every_position(cache) and "position_ids" in forward_parameters(model):
        ids, mask = left_padded(prefixes, pad_token_id, model.device)
        forward(model, ids, mask, cache)
        rows = torch.tensor(owners, device=model.device)
        cache.batch_select_indices(rows)
        before = mask[rows]
        prompts_left = [prompt[len(prefixes[owner]) :] for prompt, owner in zip(prompts, owners, strict=True)]
    else:
        prompts_left = prompts
        cache = cache if keep_cache else None
    ids, mask = left_padded(prompts_left, pad_token_id, model.device)
    attention_mask = torch.cat([before, mask], -1)
    logits = forward(model, ids, attention_mask, cache)
    return JudgePrefill(logits, cache, attention_mask, lengths, prompts, pad_token_id)


def forward(
    model,
    input_ids: Int[Tensor, "rows new"],
    attention_mask: Int[Tensor, "rows seq"],
    cache: Cache | None,
    position_ids: Int[Tensor, "rows new"] | None = None,
) -> Float[Tensor, "rows vocab"]:
    """Return the logits after the last new token in float32; the cache is extended by the new tokens."""
    output = run_forward(model, input_ids, attention_mask, cache=cache, position_ids=position_ids, logits_to_keep=1)
    return output.logits[:, -1].float()


def paddable_groups(model, prompts: Sequence[list[int]]) -> list[list[int]]:
    """
    Return the indices of rows that a model can read in one batch.

    A forward without `position_ids` counts positions itself, usually from the first padding token. Models with
    recurrent states only need no positions, so their rows can be padded.
    """
    declared, cache = forward_parameters(model), new_cache(model)
    is_recurrent = cache is not None and all(cache.is_linear)
    if "position_ids" in declared or (is_recurrent and "attention_mask" in declared):
        return [list(range(len(prompts)))]
    groups: dict[int, list[int]] = {}
    for row, prompt in enumerate(prompts):
        groups.setdefault(len(prompt), []).append(row)
    return list(groups.values())


def _keeps_every_position(cache: Cache | None) -> bool:
    """Return whether the cache keeps every position; padding after a prefix would shorten a sliding window."""
    return cache is not None and can_select_rows(cache) and all(type(layer) is DynamicLayer for layer in cache.layers)


def _shared_prefixes(prompts: list[list[int]], shared: Sequence[int]) -> tuple[list[list[int]], list[int]]:
    """Return the prefix of each question and the question of each row, or `None` if it would save little."""
    numbers = {question: index for index, question in enumerate(dict.fromkeys(shared))}
    owners = [numbers[question] for question in shared]
    groups: list[list[list[int]]] = [[] for _ in numbers]
    for prompt, owner in zip(prompts, owners, strict=True):
        groups[owner].append(prompt)
    prefixes = [_common_prefix(group) for group in groups]
    saved = sum(len(prefix) * (len(group) - 1) for prefix, group in zip(prefixes, groups, strict=True))
    if min(map(len, prefixes)) < _MIN_SHARED or saved == 0:
        return [], []
    return prefixes, owners


def _common_prefix(group: list[list[int]]) -> list[int]:
    """Return the longest common prefix that leaves at least one token in every row."""
    first, last = min(group), max(group)  # the first and last rows in lexicographic order share the shortest prefix
    limit = min(map(len, group)) - 1
    same = 0
    while same < limit and first[same] == last[same]:
        same += 1
    return first[:same]

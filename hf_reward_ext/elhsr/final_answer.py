"""Answers of texts that were ended early."""

from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from hf_reward_ext.base.lm.tokens import pad_token_id


def write_answer(
    policy: Any,
    tokenizer: PreTrainedTokenizerBase,
    sequences: Int[Tensor, "rows seq"],
    attention_mask: Int[Tensor, "rows prompt"],
    completion_mask: Bool[Tensor, "rows new"],
    text: str,
    **generate_kwargs,
) -> Int[Tensor, "rows answer"]:
    r"""
    Continue texts after words that ask for the answer.

    Args:
        policy (`PreTrainedModel` or `PeftModel`): Model that generates.
        tokenizer (`PreTrainedTokenizerBase`): Tokenizer of the policy.
        sequences (`torch.Tensor` of shape `(rows, seq)`): Output of `generate`.
        attention_mask (`torch.Tensor` of shape `(rows, prompt)`): Mask of the prompts of these rows.
        completion_mask (`torch.Tensor` of shape `(rows, new)`): `True` on generated tokens, see
            [`HiddenStateReward`].
        text (`str`): Text to append to each row, such as `"\n</think>\n\nThe answer is"`.
        **generate_kwargs: Arguments of `generate` (`max_new_tokens`, ...).

    Returns:
        `torch.Tensor` of shape `(rows, answer)`: Tokens of the answers, padded on the right.

    Raises:
        ValueError: If the rows of sequences and masks differ, or `text` has no tokens.

    Example:
    ```python
    >>> answers = write_answer(policy, tokenizer, out, inputs["attention_mask"], meter.completion_mask, "\nAnswer:")
    >>> tokenizer.batch_decode(answers, skip_special_tokens=True)
    ```
    """
    if not len(sequences) == len(attention_mask) == len(completion_mask):
        raise ValueError(
            f"{len(sequences)} sequences, {len(attention_mask)} masks of prompts and {len(completion_mask)} masks of "
            "completions were given, but each row needs both. Repeat the masks of the prompts for their copies."
        )
    suffix = tokenizer(text, add_special_tokens=False)["input_ids"]
    if not suffix:
        raise ValueError(f"`text` must have tokens, got {text!r}. Pass words that ask for the answer.")
    written = torch.cat([attention_mask.bool(), completion_mask.bool().to(attention_mask.device)], dim=-1)
    rows = [
        torch.cat([ids[keep.to(ids.device)], ids.new_tensor(suffix)])
        for ids, keep in zip(sequences, written, strict=True)
    ]
    width = max(map(len, rows))
    pad = pad_token_id(policy.generation_config)
    ids = sequences.new_full((len(rows), width), 0 if pad is None else pad)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, width - len(row) :] = row
        mask[number, width - len(row) :] = 1
    return policy.generate(input_ids=ids, attention_mask=mask, **generate_kwargs)[:, width:]

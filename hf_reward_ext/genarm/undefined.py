"""Errors about undefined guided distributions."""

from collections.abc import Sequence

import torch
from torch import Tensor


def explain_undefined(base: Tensor, guides: Sequence[Tensor], step: int) -> ValueError:
    """
    Return the error for next-token scores that do not define a distribution.

    Args:
        base (`torch.Tensor` of shape `(rows, vocab)`): Scores of the policy, after other logits processors.
        guides (`list` of `torch.Tensor` of shape `(rows, vocab)`): Scores of each guide.
        step (`int`): Number of generated tokens.

    Returns:
        `ValueError` that names the first cause.
    """
    for number, scores in enumerate((base, *guides)):
        who = f"guide {number - 1}" if number else "the policy"
        if scores.isnan().any() or (scores == torch.inf).any():
            what = "NaN" if scores.isnan().any() else "infinity"
            return ValueError(
                f"{who.capitalize()} gave {what} at step {step}, so the guided distribution is undefined. Load the "
                "model in bfloat16 or float32 instead of float16, or check for a prompt of padding only."
            )
        if (scores == -torch.inf).all(-1).any():
            row = int((scores == -torch.inf).all(-1).nonzero()[0])
            cause = (
                "another logits processor forbids all of them" if not number else "it gives all of them probability 0"
            )
            return ValueError(
                f"Some token must be possible for {who} at step {step}, got none in row {row}: {cause}. Loosen that "
                "constraint."
            )
    return ValueError(
        f"Some token must be possible for policy and guides together, got none at step {step}: a guide gives "
        "probability 0 wherever the policy and other logits processors allow a token. Lower `alpha`, or put the other "
        "processors after this one."
    )

"""Checks that the score of a text does not depend on its batch or on the side of the padding."""

from hf_reward_ext.checks.finding import Finding
from hf_reward_ext.checks.probe import Probe, largest_difference


def check_batch_size(probe: Probe) -> Finding | None:
    """Compare scores of single texts with scores in a batch, padded on the right as in TRL."""
    if probe.tokenizer.pad_token_id is None:
        return Finding(
            "batch_size",
            "The tokenizer has no padding token, so texts cannot be scored in batches.",
            "Add one that differs from the EOS token: `tokenizer.add_special_tokens({'pad_token': '<pad>'})`, "
            "`model.resize_token_embeddings(len(tokenizer))`, `model.config.pad_token_id = tokenizer.pad_token_id`.",
        )
    try:
        together = probe.rewards(probe.ragged)
    except ValueError as error:  # raised by models of transformers without a padding token
        return Finding("batch_size", f"A batch of {probe.batch_size} texts raises: {error}", _same_pad_token(probe))
    difference = largest_difference(together, probe.ragged_alone)
    if difference <= probe.tolerance:
        return None
    found = (
        f"The score of a text changes by up to {difference:.3g} between a batch of one and a batch of "
        f"{probe.batch_size} (rounding explains {probe.tolerance:.1g})"
    )
    shortest = min(map(len, probe.rows))
    cut = [row[:shortest] for row in probe.rows]
    unpadded = largest_difference(probe.rewards(cut), probe.rewards(cut, batch_size=1))
    if unpadded > probe.tolerance:
        return Finding(
            "batch_size",
            f"{found}, without any padding by up to {unpadded:.3g}: the texts of a batch affect each other.",
            "Look for statistics over the batch (batch norm, a mean that is subtracted, expert capacity) and compute "
            "them per text, or score with a batch size of 1.",
        )
    return Finding(
        "batch_size", f"{found}: it is the padding, for batches of one length agree.", _same_pad_token(probe)
    )


def _same_pad_token(probe: Probe) -> str:
    own, tokenizer = getattr(probe.model.config, "pad_token_id", None), probe.tokenizer.pad_token_id
    if own != tokenizer:
        return (
            f"Set `model.config.pad_token_id = {tokenizer}`, the tokenizer's (it is {own}), and save the model again."
        )
    return "Pool at the last token that `attention_mask` marks, and give the mask to the model in every call."


def check_padding_side(probe: Probe) -> Finding | None:
    """Compare scores with padding on the left with scores with padding on the right."""
    try:
        right, left = (probe.rewards(probe.ragged, side=side) for side in ("right", "left"))
    except ValueError:
        return None  # the batch raises an error, which `check_batch_size` reports
    difference = largest_difference(left, right)
    if difference <= probe.tolerance:
        return None
    off = {
        side: largest_difference(rewards, probe.ragged_alone) for side, rewards in (("right", right), ("left", left))
    }
    best = min(off, key=lambda side: off[side])
    remedy = "Pool by `attention_mask` and count `position_ids` from it: `(attention_mask.cumsum(-1) - 1).clamp(min=0)`"
    if off[best] <= probe.tolerance:
        remedy += f"; until then set `tokenizer.padding_side = {best!r}`, where scores are those of a text alone"
    return Finding(
        "padding_side",
        f"The score of a text changes by up to {difference:.3g} between padding on the left and on the right (rounding "
        f"explains {probe.tolerance:.1g}).",
        f"{remedy}.",
    )

"""Check that the padding token is not an end-of-sequence token."""

from hf_reward_ext.checks.finding import Finding
from hf_reward_ext.checks.probe import Probe, largest_difference


def check_pad_is_eos(probe: Probe) -> Finding | None:
    """Check whether `pad_token_id` is an end-of-sequence token, and whether real ones are lost."""
    pad = probe.tokenizer.pad_token_id
    ends = _end_tokens(probe)
    if pad is None or pad not in ends:
        return None
    ended = [[*row, pad] for row in probe.rows]
    difference = largest_difference(probe.rewards(ended, batch_size=1), probe.alone)
    effect = (
        "the model takes the end of a text for padding and scores the token before it"
        if difference <= probe.tolerance
        else "this model still reads the end of a text, but collators, losses and poolings that go by id do not"
    )
    return Finding(
        "pad_is_eos",
        f"`tokenizer.pad_token_id` is {pad}, an end-of-sequence token: {effect}.",
        "Add a token of its own: `tokenizer.add_special_tokens({'pad_token': '<pad>'})`, "
        "`model.resize_token_embeddings(len(tokenizer))`, `model.config.pad_token_id = tokenizer.pad_token_id`; then "
        "train with it.",
    )


def _end_tokens(probe: Probe) -> set[int]:
    config = probe.model.config.get_text_config()
    found = [probe.tokenizer.eos_token_id, getattr(config, "eos_token_id", None)]
    return {token for entry in found if entry is not None for token in (entry if isinstance(entry, list) else [entry])}

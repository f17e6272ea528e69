"""Check that merging an adapter into its base does not change the rewards."""

import copy

from hf_reward_ext.checks.finding import Finding
from hf_reward_ext.checks.probe import Probe, largest_difference


def check_lora_merge(probe: Probe) -> Finding | None:
    """Compare scores with the adapter with scores of a copy with the merged adapter."""
    merged = copy.deepcopy(probe.model).merge_and_unload()
    difference = largest_difference(probe.rewards(probe.rows, batch_size=1, model=merged), probe.alone)
    if difference <= probe.tolerance:
        return None
    with probe.model.disable_adapter():
        effect = largest_difference(probe.rewards(probe.rows, batch_size=1), probe.alone)
    dtype = next(merged.parameters()).dtype
    return Finding(
        "lora_merge",
        f"Merging the adapter changes the score of a text by up to {difference:.3g}; the adapter itself moves it by up "
        f"to {effect:.3g}. The merged weights are {str(dtype).removeprefix('torch.')}.",
        "Load the base in float32 (`dtype='float32'`), merge it and save the result; or serve the adapter unmerged.",
    )


def has_adapter(probe: Probe) -> str | None:
    """Return why there is nothing to merge, or `None`."""
    if not hasattr(probe.model, "peft_config"):
        return "no adapter"
    if not hasattr(probe.model, "merge_and_unload"):
        return f"an adapter of the kind {probe.model.peft_config[probe.model.active_adapter].peft_type} is not merged"
    return None

"""Check that a saved model scores like the trained one."""

from pathlib import Path

from transformers import AutoModelForSequenceClassification

from hf_reward_ext.checks.finding import Finding
from hf_reward_ext.checks.probe import Probe, largest_difference


def load_reward_model(path_or_repo: str | Path):
    """Load a reward model, or an adapter on one, by name or folder."""
    if (Path(path_or_repo) / "adapter_config.json").is_file():
        from peft import AutoPeftModelForSequenceClassification

        return AutoPeftModelForSequenceClassification.from_pretrained(path_or_repo, num_labels=1).eval()
    return AutoModelForSequenceClassification.from_pretrained(path_or_repo, num_labels=1).eval()


def check_reloaded(probe: Probe, saved_to: str | Path) -> Finding | None:
    """Compare scores of the model in memory with those of the saved one."""
    reloaded = load_reward_model(saved_to).to(next(probe.model.parameters()).device)
    difference = largest_difference(probe.rewards(probe.rows, batch_size=1, model=reloaded), probe.alone)
    if difference <= probe.tolerance:
        return None
    return Finding(
        "unsaved_head",
        f"The model loaded from {str(saved_to)!r} scores a text differently by up to {difference:.3g}: not all that "
        "was trained is saved there, or something else is.",
        "Save with `model.save_pretrained(folder)`; with LoRA put the head into `modules_to_save` and train again.",
    )

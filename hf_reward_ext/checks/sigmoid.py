"""Check that rewards are not passed through a sigmoid."""

from hf_reward_ext.checks.finding import Finding
from hf_reward_ext.checks.probe import Probe


def check_sigmoid(probe: Probe) -> Finding | None:
    """Check whether `pipeline("text-classification")` would apply a sigmoid, as it does without `problem_type`."""
    problem_type = probe.model.config.problem_type
    if problem_type == "regression":
        return None
    low, high = float(probe.alone.min()), float(probe.alone.max())
    squashed = probe.alone.sigmoid()
    return Finding(
        "sigmoid",
        f"`config.problem_type` is {problem_type!r}, so `pipeline('text-classification')` applies a sigmoid: rewards "
        f"of {low:.4g} to {high:.4g} become {float(squashed.min()):.4g} to {float(squashed.max()):.4g}.",
        "Set `model.config.problem_type = 'regression'` and save the model again.",
    )

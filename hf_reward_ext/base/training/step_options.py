"""Option of trainers with labels of steps."""

from hf_reward_ext.base.preference.step_rows import STEP_LOSS


def check_step_separator(loss_type: str, separator: str | None) -> None:
    """
    Raise `ValueError` unless the text between steps is given for rows of steps, and for no others.

    Args:
        loss_type (`str`): Loss.
        separator (`str`, *optional*): Text between steps.
    """
    if loss_type == STEP_LOSS and not isinstance(separator, str):
        raise ValueError(
            f"`step_separator` must be the text between steps with `loss_type={STEP_LOSS!r}`, got {separator!r}. Pass "
            "'\\n' for most of TRL's data, or '' for steps that make up the response, as those of `label_steps`."
        )
    if loss_type != STEP_LOSS and separator is not None:
        raise ValueError(
            f"`step_separator` must be None with `loss_type={loss_type!r}`, whose rows have no steps, got "
            f"{separator!r}. Leave it out, or use `loss_type={STEP_LOSS!r}`."
        )

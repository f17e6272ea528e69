"""Which hidden states of a causal LM are read."""

from collections.abc import Sequence

from torch import Tensor


def ascending_layers(layers: list[int] | None, num_layers: int, what: str) -> list[int]:
    """
    Layers in ascending order, counted from the embedding; all by default.

    Args:
        layers (`list[int]`, *optional*): Among 0 (embedding) to `num_layers` (after the final norm); negative numbers
            count from the end.
        num_layers (`int`): Decoder layers.
        what (`str`): What the model is called in an error, `"policy"` or `"base"`.

    Raises:
        ValueError: If a layer does not exist or is named twice.
    """
    count = num_layers + 1
    if layers is None:
        return list(range(count))
    if not layers or any(not -count <= layer < count for layer in layers):
        raise ValueError(
            f"`layers={layers}` was given, but a {what} with {num_layers} decoder layers has the hidden states 0 "
            f"(embedding) to {num_layers} (after the final norm). Choose among them, or count from the end with "
            "negative numbers."
        )
    ascending = sorted({layer % count for layer in layers})
    if len(ascending) < len(layers):
        raise ValueError(f"`layers={layers}` names a layer twice, but each is read once. Remove the repetition.")
    return ascending


def check_streams(hidden_states: Sequence[Tensor | None], layers: Sequence[int], hidden_size: int, what: str) -> None:
    """
    Refuses states of another width, and those of several residual streams (Gemma 3n, DeepSeek-V4).

    Args:
        hidden_states (`tuple` of `torch.Tensor`): Those of the model.
        layers (`list[int]`): Which of them are read, in ascending order.
        hidden_size (`int`): Width of one stream.
        what (`str`): What reads them, `"head"` or `"channel"`.

    Raises:
        ValueError: If one that is read has another shape than `(batch, seq, hidden_size)`.
    """
    for layer in reversed(layers):
        shape = tuple(hidden_states[layer].shape)  # pyright: ignore[reportOptionalMemberAccess]
        if len(shape) == 3 and shape[-1] == hidden_size:
            continue
        if len(shape) == 3 and shape[-1] % hidden_size:
            raise ValueError(
                f"Hidden states of width {shape[-1]} were given, but this {what} reads {hidden_size}. Load the model "
                "it was trained on."
            )
        remedy = f"Make the {what} with `layers=[-1]`, the state after the final norm."
        if layer == len(hidden_states) - 1:  # that one too
            remedy = "Use `features='logits'`." if what == "head" else "Use another base."
        raise ValueError(
            f"Hidden state {layer} must have the shape (batch, seq, {hidden_size}), got {shape}: this model keeps "
            f"something else between its layers, several residual streams for example. {remedy}"
        )

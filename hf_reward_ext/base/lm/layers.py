"""Selection of hidden states of a causal LM."""

from collections.abc import Sequence

from torch import Tensor


def ascending_layers(layers: list[int] | None, num_layers: int, what: str) -> list[int]:
    """
    Return layer indices in ascending order, counted from the embedding; all by default.

    Args:
        layers (`list[int]`, *optional*): Indices from 0 (embedding) to `num_layers` (after the final norm); negative
            ones count from the end.
        num_layers (`int`): Number of decoder layers.
        what (`str`): Name of the model in error messages, `"policy"` or `"base"`.

    Raises:
        ValueError: If a layer does not exist or is named twice.
    """
    count = num_layers + 1
    if layers is None:
        return list(range(count))
    if not layers or any(not -count <= layer < count for layer in layers):
        raise ValueError(
            f"`layers` must be hidden states of the {what}, from 0 (embedding) to {num_layers} (after the final norm), "
            f"got {layers}. Choose among them, or count from the end with negative numbers."
        )
    ascending = sorted({layer % count for layer in layers})
    if len(ascending) < len(layers):
        raise ValueError(f"`layers` must not repeat a layer, got {layers}. Remove the repetition.")
    return ascending


def check_streams(hidden_states: Sequence[Tensor | None], layers: Sequence[int], hidden_size: int, what: str) -> None:
    """
    Reject hidden states of another width or with several residual streams (Gemma 3n, DeepSeek-V4).

    Args:
        hidden_states (`tuple` of `torch.Tensor`): Hidden states of the model.
        layers (`list[int]`): Indices of the hidden states that are read, in ascending order.
        hidden_size (`int`): Width of the residual stream.
        what (`str`): Name of the reader in error messages, `"head"` or `"channel"`.

    Raises:
        ValueError: If a hidden state that is read has another shape than `(batch, seq, hidden_size)`.
    """
    for layer in reversed(layers):
        shape = tuple(hidden_states[layer].shape)  # pyright: ignore[reportOptionalMemberAccess]
        if len(shape) == 3 and shape[-1] == hidden_size:
            continue
        if len(shape) == 3 and shape[-1] % hidden_size:
            raise ValueError(
                f"The hidden states must have the width {hidden_size} of this {what}, got {shape[-1]}. Load the model "
                "it was trained on."
            )
        remedy = f"Make the {what} with `layers=[-1]`, the state after the final norm."
        if layer == len(hidden_states) - 1:
            remedy = "Use `features='logits'`." if what == "head" else "Use another base."
        raise ValueError(
            f"Hidden state {layer} must have the shape (batch, seq, {hidden_size}), got {shape}: this model keeps "
            f"something else between its layers, several residual streams for example. {remedy}"
        )

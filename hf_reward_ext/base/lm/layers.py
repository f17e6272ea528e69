"""Which hidden states of a causal LM are read."""


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

"""Quantization of a causal LM inside a reward model, shared by both for saving and loading."""

# Attributes that `from_pretrained` of transformers sets on a quantized model.
_ATTRIBUTES = ("hf_quantizer", "is_quantized", "quantization_method", "is_loaded_in_8bit", "is_loaded_in_4bit")


def share_quantization(source, target) -> None:
    """Copy the quantization attributes to a model with the same weights."""
    for name in _ATTRIBUTES:
        if hasattr(source, name):
            setattr(target, name, getattr(source, name))
    if getattr(source.config, "quantization_config", None) is not None:
        target.config.quantization_config = source.config.quantization_config


def check_is_serializable(model) -> None:
    """
    Reject a model whose quantization cannot be saved.

    Raises:
        ValueError: If the quantization cannot be saved.
    """
    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is None or quantizer.is_serializable():
        return
    method = quantizer.quantization_config.quant_method
    raise ValueError(
        f"The causal LM must have a quantization that can be saved, got {getattr(method, 'value', method)!r}. Save the "
        "reward model around the causal LM before quantization, and pass `quantization_config` when you load it."
    )

"""A quantized causal LM inside a reward model: both carry what saving and loading it needs."""

# What `from_pretrained` of transformers leaves on a model that it quantized.
_ATTRIBUTES = ("hf_quantizer", "is_quantized", "quantization_method", "is_loaded_in_8bit", "is_loaded_in_4bit")


def share_quantization(source, target) -> None:
    """Gives a model the quantization of another that has the same weights."""
    for name in _ATTRIBUTES:
        if hasattr(source, name):
            setattr(target, name, getattr(source, name))
    if getattr(source.config, "quantization_config", None) is not None:
        target.config.quantization_config = source.config.quantization_config


def check_is_serializable(model) -> None:
    """
    Refuses to save a model whose quantization cannot be written to a file.

    Raises:
        ValueError: If its quantizer cannot be saved.
    """
    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is None or quantizer.is_serializable():
        return
    method = quantizer.quantization_config.quant_method
    raise ValueError(
        f"The causal LM must have a quantization that can be saved, got {getattr(method, 'value', method)!r}. Save the "
        "reward model around the causal LM before quantization, and pass `quantization_config` when you load it."
    )

"""Options of a PEFT adapter that change a model by more than products of LoRA matrices."""

import dataclasses

from peft import LoraConfig, PeftConfig

# Fields for the location, initial values or scale of A and B. Any other field that is set may change the model by more
# than a product B A, so fields of later PEFT versions are rejected until they are reviewed.
LORA_PRODUCT_FIELDS = {
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "eva_config", "exclude_modules", "fan_in_fan_out",
    "inference_mode", "init_lora_weights", "layers_pattern", "layers_to_transform", "lora_alpha", "lora_bias",
    "lora_dropout", "megatron_core", "peft_type", "peft_version", "r", "rank_pattern", "revision", "runtime_config",
    "target_modules", "task_type", "use_rslora",
}  # fmt: skip

# The other initializations (PiSSA, OLoRA, CorDA, LoftQ, LoRA-GA ...) also change the base's weights.
_PLAIN_INITIAL_VALUES = (True, False, "gaussian", "eva", "orthogonal")


def changes_beyond_products(config: PeftConfig) -> dict[str, object]:
    r"""
    Return the options of a LoRA adapter that change a model by more than $s B A$ and a bias in the adapted layers.

    Args:
        config (`LoraConfig`): Configuration of the adapter.

    Returns:
        `dict` of names and values, empty for plain LoRA.

    Example:
    ```python
    >>> changes_beyond_products(LoraConfig(use_dora=True, use_rslora=True))
    {'use_dora': True}
    ```
    """
    plain = LoraConfig()
    changes = {
        field.name: value
        for field in dataclasses.fields(config)
        if field.name not in LORA_PRODUCT_FIELDS
        and (value := getattr(config, field.name)) != (default := getattr(plain, field.name, None))
        and (value or default)
    }
    initial = getattr(config, "init_lora_weights", True)
    return changes if initial in _PLAIN_INITIAL_VALUES else {**changes, "init_lora_weights": initial}

"""Pointer from a small trained part to its base model, which is checked before the two are combined."""

import hashlib
from pathlib import Path

from transformers import PreTrainedConfig


def base_pointer(policy, processing_class=None) -> dict[str, str | None]:
    """
    Return the fields that identify a base model: name, revision, active adapter and chat template.

    Args:
        policy (`PreTrainedModel` or `PeftModel`): Base model.
        processing_class (*optional*): Tokenizer of the base model, for the hash of its chat template.

    Returns:
        `dict` of the fields that the config of a trained part stores.

    Raises:
        ValueError: If the base is an encoder-decoder.
    """
    if getattr(policy.config, "is_encoder_decoder", False):
        raise ValueError(
            f"`{type(policy).__name__}` is an encoder-decoder, but rewards are computed along one sequence of tokens. "
            "Use a decoder-only model."
        )
    return {
        "base_model_name_or_path": getattr(policy.config, "_name_or_path", None) or None,
        "base_model_revision": getattr(policy.config, "_commit_hash", None),
        "adapter": getattr(policy, "active_adapter", None) if hasattr(policy, "peft_config") else None,
        "template_hash": template_hash(processing_class),
    }


def template_hash(processing_class) -> str | None:
    """Return the first 16 hexadecimal digits of the chat template's SHA-256; `None` without a template."""
    template = getattr(processing_class, "chat_template", None)
    if template is None:
        return None
    return hashlib.sha256(str(template).encode()).hexdigest()[:16]


def check_base(config: PreTrainedConfig, policy, processing_class=None, what: str = "model") -> None:
    """
    Reject a base other than the one a part was trained on. Fields that are empty on either side are not compared.

    Args:
        config: The part's config, with the fields of [`base_pointer`], `hidden_size` and `num_layers`.
        policy, processing_class: Base model and its tokenizer.
        what (`str`): Name of the part, for messages.

    Raises:
        ValueError: If a field differs.
    """
    text_config = policy.config.get_text_config()
    given = {
        "hidden_size": getattr(text_config, "hidden_size", None),
        "num_layers": getattr(text_config, "num_hidden_layers", None),
        **base_pointer(policy, processing_class),
    }
    _check_adapter(config, policy, given, what)
    for field, value in given.items():
        needed = getattr(config, field, None)
        if needed is None or value is None or needed == value or _is_one_folder(needed, value):
            continue
        name = config.base_model_name_or_path or "the base model it was trained on"
        raise ValueError(
            f"The base model has `{field}={value!r}`, but this {what} was trained with `{field}={needed!r}`, so its "
            f"rewards would be meaningless. Load {name!r}"
            + (f" at revision {config.base_model_revision!r}." if config.base_model_revision else ".")
        )


def _is_one_folder(name: object, other: object) -> bool:
    """Whether two names are a relative and an absolute path of one folder."""
    if not (isinstance(name, str) and isinstance(other, str)):
        return False
    return Path(name).is_dir() and Path(other).is_dir() and Path(name).samefile(other)


def _check_adapter(config: PreTrainedConfig, policy, given: dict, what: str) -> None:
    needed = getattr(config, "adapter", None)
    if needed is None or given["adapter"] == needed:
        return
    loaded = sorted(getattr(policy, "peft_config", {}))
    raise ValueError(
        f"The base model has the adapters {loaded} with {given['adapter']!r} active, but this {what} was trained "
        f"with the adapter {needed!r}. Load it with `PeftModel.from_pretrained(base, path, "
        f"adapter_name={needed!r})` or activate it with `set_adapter({needed!r})`."
    )

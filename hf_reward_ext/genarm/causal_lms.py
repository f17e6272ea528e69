"""Checks of a policy and its guides."""


def check_causal_lm(model, role: str) -> None:
    """
    Reject a model without next-token probabilities.

    Args:
        model: Policy or guide.
        role (`str`): Role in messages, such as "A guide".

    Raises:
        TypeError: If the model is not a causal LM.
        ValueError: If the model is an encoder-decoder.
    """
    config = getattr(model, "config", None)
    # Only models that can generate have generation settings, unlike classifiers, encoders and vision models.
    if config is None or getattr(model, "generation_config", None) is None:
        what = repr(model) if model is None or isinstance(model, str) else f"a `{type(model).__name__}`"
        raise TypeError(f"{role} must be a causal LM, got {what}. Load it with `AutoModelForCausalLM.from_pretrained`.")
    if getattr(config, "is_encoder_decoder", False):
        raise ValueError(
            f"{role} must be a causal LM, got the encoder-decoder `{type(model).__name__}`: policy and guides read "
            "prompt and continuation as one text. Load it with `AutoModelForCausalLM.from_pretrained`."
        )


def as_guides(guides) -> list:
    """
    Return one or several guides as a list of checked causal LMs.

    Raises:
        TypeError: If a guide is not a causal LM.
        ValueError: If there is no guide, or a guide is an encoder-decoder.
    """
    guides = list(guides) if isinstance(guides, (list, tuple)) else [guides]
    if not guides:
        raise ValueError("`guides` must be at least one causal LM, got an empty list. Use the policy alone instead.")
    for guide in guides:
        check_causal_lm(guide, "A guide")
    return guides

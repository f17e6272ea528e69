"""Checks of causal language models that serve as a policy, a guide or a judge."""

from transformers import PreTrainedModel

from hf_reward_ext.base.lm.forward import unwrap_peft


def require_causal_lm(model, name: str):
    """
    Return the causal LM without its adapters.

    Args:
        model (`PreTrainedModel` or `PeftModel`): A model that generates text.
        name (`str`): Name of the argument, for error messages.

    Raises:
        TypeError: If `model` is something else: a name, a classifier, an image model.
        ValueError: If `model` is an encoder-decoder.

    Example:
    ```python
    >>> require_causal_lm(policy, "policy").generation_config
    ```
    """
    causal_lm = unwrap_peft(model)
    if not isinstance(causal_lm, PreTrainedModel):
        raise TypeError(
            f"`{name}` must be a causal LM, got {causal_lm!r}. Load it with `AutoModelForCausalLM.from_pretrained`."
            if causal_lm is None or isinstance(causal_lm, str)
            else f"`{name}` must be a causal LM, got a `{type(causal_lm).__name__}`. Load it with "
            "`AutoModelForCausalLM.from_pretrained`."
        )
    if getattr(causal_lm.config, "is_encoder_decoder", False):
        raise ValueError(
            f"`{name}` must be decoder-only, got the encoder-decoder `{type(causal_lm).__name__}`. Load a causal LM."
        )
    if not causal_lm.can_generate():
        raise TypeError(
            f"`{name}` must be a causal LM, got a `{type(causal_lm).__name__}`, which generates no text. Load it with "
            "`AutoModelForCausalLM.from_pretrained`."
        )
    return causal_lm


def num_embeddings(model) -> int:
    """Return the number of token ids that a model (`PreTrainedModel` or `PeftModel`) has an embedding for."""
    return model.get_input_embeddings().weight.shape[0]


def require_vocabulary(model, tokenizer, name: str) -> None:
    """
    Reject a model that lacks embeddings for some tokens of its tokenizer, before a forward fails.

    Special tokens other than BOS, EOS and padding may lack one: tokenizer classes add some that no text has, such as
    `<|endoftext|>` as the unknown token of a vocabulary of bytes.

    Args:
        model (`PreTrainedModel` or `PeftModel`): A causal LM.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        name (`str`): Name of the model's argument, for error messages.

    Raises:
        ValueError: If an id of the tokenizer is beyond the embeddings.
    """
    rows = num_embeddings(model)
    used = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    spare = set(tokenizer.all_special_ids) - used
    needed = max(set(tokenizer.get_vocab().values()) - spare) + 1
    if needed > rows:
        raise ValueError(
            f"`{name}` must have an embedding for each of the tokenizer's {needed} ids, got {rows}. Pass the model's "
            f"own tokenizer, or call `resize_token_embeddings({needed})`."
        )

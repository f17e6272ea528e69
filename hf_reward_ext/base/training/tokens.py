"""Special tokens and chat template of tokenizer and model, set before data is prepared."""

from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from hf_reward_ext.base.training.trainer_config import BaseRewardConfig


def set_special_tokens(
    causal_lm, processing_class: PreTrainedTokenizerBase, args: BaseRewardConfig, *, may_grow: bool
) -> None:
    """
    Apply `eos_token`, `chat_template_path` and `pad_token` of the training arguments to tokenizer and model.

    Args:
        causal_lm (`PreTrainedModel`): Model to change in place.
        processing_class (`PreTrainedTokenizerBase`): Tokenizer to change in place.
        args ([`BaseRewardConfig`]): Training arguments.
        may_grow (`bool`): Whether all weights are trained and saved, so that tokens may be added to the model.

    Raises:
        TypeError: If `processing_class` is not a tokenizer.
        ValueError: If a token is not in the vocabulary, or a chat template needs tokens that would not be learned.
    """
    if not isinstance(processing_class, PreTrainedTokenizerBase):
        raise TypeError(
            f"`processing_class` must be a tokenizer, got a `{type(processing_class).__name__}`. For a multimodal "
            "processor pass its `tokenizer`."
        )
    if args.chat_template_path is not None:
        _set_chat_template(causal_lm, processing_class, args, may_grow)
    if args.eos_token is not None:
        _set_eos(causal_lm, processing_class, _known(args.eos_token, "eos_token", processing_class))
    pad_token = args.pad_token or processing_class.pad_token or processing_class.eos_token
    processing_class.pad_token = _known(pad_token, "pad_token", processing_class)  # pyright: ignore[reportArgumentType]


def _set_chat_template(causal_lm, processing_class, args: BaseRewardConfig, may_grow: bool) -> None:
    path = str(args.chat_template_path)
    if Path(path).is_file() and Path(path).suffix in (".jinja", ".j2"):
        processing_class.chat_template = Path(path).read_text(encoding="utf-8")
        return
    source = AutoTokenizer.from_pretrained(path, trust_remote_code=args.trust_remote_code)
    processing_class.chat_template = source.get_chat_template()
    known = processing_class.get_vocab()
    tokens = [token for token in source.added_tokens_decoder.values() if token.content not in known]
    processing_class.add_tokens(tokens)
    # TRL's `clone_chat_template` also rounds the vocabulary to a multiple of 64, up or down: a guide would no longer
    # share the policy's. Embedding rows beyond the tokenizer are used for new tokens first.
    if len(processing_class) > causal_lm.get_input_embeddings().num_embeddings:
        if not may_grow:
            raise ValueError(
                f"The chat template of {path!r} needs the tokens {[token.content for token in tokens]}, but the model "
                f"has no embeddings for them, and none would be trained and saved. Pass a template file (.jinja) that "
                "does without, or train the whole model."
            )
        causal_lm.resize_token_embeddings(len(processing_class))
    if source.eos_token is not None:
        _set_eos(causal_lm, processing_class, source.eos_token)


def _set_eos(causal_lm, processing_class, token: str) -> None:
    processing_class.eos_token = token
    causal_lm.config.get_text_config().eos_token_id = processing_class.eos_token_id
    causal_lm.generation_config.eos_token_id = processing_class.eos_token_id


def _known(token: str | None, name: str, processing_class) -> str:
    if token is None or token not in processing_class.get_vocab():
        raise ValueError(
            f"`{name}` must be a token of the tokenizer, got {token!r}. Add it with `tokenizer.add_tokens` and resize "
            "the model's embeddings, or choose another."
        )
    return token

"""Special tokens and chat template, which tokenizer and model must agree on before data is prepared."""

from pathlib import Path

from transformers import PreTrainedTokenizerBase
from trl import clone_chat_template

from hf_reward_ext.base.training.trainer_config import BaseRewardConfig


def set_special_tokens(causal_lm, processing_class: PreTrainedTokenizerBase, args: BaseRewardConfig) -> list[int]:
    """
    Applies `eos_token`, `chat_template_path` and `pad_token` of the training arguments to tokenizer and model.

    Args:
        causal_lm (`PreTrainedModel`): The model that reads the tokens.
        processing_class (`PreTrainedTokenizerBase`): Its tokenizer, changed in place.
        args ([`BaseRewardConfig`]): Training arguments.

    Returns:
        `list[int]`: Ids of tokens that a cloned chat template added; the model has fresh embeddings for them.

    Raises:
        TypeError: If `processing_class` is not a tokenizer.
        ValueError: If a token is not in the vocabulary.
    """
    if not isinstance(processing_class, PreTrainedTokenizerBase):
        raise TypeError(
            f"`processing_class` must be a tokenizer, got a `{type(processing_class).__name__}`. For a multimodal "
            "processor pass its `tokenizer`."
        )
    if args.eos_token is not None:
        processing_class.eos_token = _known(args.eos_token, "eos_token", processing_class)
        causal_lm.config.get_text_config().eos_token_id = processing_class.eos_token_id
        causal_lm.generation_config.eos_token_id = processing_class.eos_token_id
    added = _set_chat_template(causal_lm, processing_class, args.chat_template_path)
    pad_token = args.pad_token or processing_class.pad_token or processing_class.eos_token
    processing_class.pad_token = _known(pad_token, "pad_token", processing_class)
    return added


def _set_chat_template(causal_lm, processing_class, path: str | None) -> list[int]:
    if path is None:
        return []
    if Path(path).is_file() and Path(path).suffix in (".jinja", ".j2"):
        processing_class.chat_template = Path(path).read_text(encoding="utf-8")
        return []
    return list(clone_chat_template(causal_lm, processing_class, path)[2])


def _known(token: str | None, name: str, processing_class) -> str:
    if token is None or token not in processing_class.get_vocab():
        raise ValueError(
            f"`{name}` must be a token of the tokenizer, got {token!r}. Add it with `tokenizer.add_tokens` and resize "
            "the model's embeddings, or choose another."
        )
    return token

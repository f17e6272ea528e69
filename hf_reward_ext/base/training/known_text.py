"""Check that a tokenizer has tokens for the text of the data."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from transformers import PreTrainedTokenizerBase

_COLUMNS = ("prompt", "chosen", "rejected", "completion", "completions")
_NUM_ROWS = 100


def require_known_text(
    rows: Iterable[Mapping], processing_class: PreTrainedTokenizerBase, name: str, num_embeddings: int
) -> None:
    """
    Reject a tokenizer of another vocabulary: one that reads most of the text as its unknown token, or as unknown ids.

    A model can be trained on unknown tokens without an error, and learns nothing.

    Args:
        rows (`Dataset` or `list[dict]`): Rows of text or messages, of which the first 100 are read.
        processing_class (`PreTrainedTokenizerBase`): Tokenizer.
        name (`str`): Name of the data.
        num_embeddings (`int`): Number of token embeddings of the model.

    Raises:
        ValueError: If more than half of the tokens are the unknown token, or one has no embedding.
    """
    unknown = processing_class.unk_token_id
    texts = [text for row in islice(rows, _NUM_ROWS) for column in _COLUMNS for text in _texts(row.get(column))]
    if not texts:
        return
    ids = [token for row in processing_class(texts, add_special_tokens=False)["input_ids"] for token in row]  # pyright: ignore[reportGeneralTypeIssues]
    if max(ids, default=0) >= num_embeddings:
        raise ValueError(
            f"`model` must have an embedding for each token of the {name} data, got {num_embeddings} and the id "
            f"{max(ids)}. Pass the model's own tokenizer, or call `resize_token_embeddings({max(ids) + 1})`."
        )
    count = 0 if unknown is None else ids.count(unknown)
    if count > len(ids) / 2:
        raise ValueError(
            f"`processing_class` must be a tokenizer of the data's text, but {count} of the first {len(ids)} tokens of "
            f"the {name} data are its unknown token {processing_class.unk_token!r}. Pass the model's own tokenizer."
        )


def _texts(value) -> Iterator[str]:
    """Yield the texts of a column: a text, messages with text or parts, or a list of either."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts(value.get("content", value.get("text")))
    elif isinstance(value, Iterable):
        for part in value:
            yield from _texts(part)

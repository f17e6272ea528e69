"""Check that a tokenizer has tokens for the text of the data."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from transformers import PreTrainedTokenizerBase

_COLUMNS = ("prompt", "chosen", "rejected", "completion", "completions")
_NUM_ROWS = 100


def require_known_text(rows: Iterable[Mapping], processing_class: PreTrainedTokenizerBase, name: str) -> None:
    """
    Reject a tokenizer of another vocabulary, which reads most of the text as its unknown token.

    A model can be trained on such data without an error, and learns nothing.

    Args:
        rows (`Dataset` or `list[dict]`): Rows of text or messages, of which the first 100 are read.
        processing_class (`PreTrainedTokenizerBase`): Tokenizer.
        name (`str`): Name of the data.

    Raises:
        ValueError: If more than half of the tokens are the unknown token.
    """
    unknown = processing_class.unk_token_id
    texts = [text for row in islice(rows, _NUM_ROWS) for column in _COLUMNS for text in _texts(row.get(column))]
    if unknown is None or not texts:
        return
    ids = [token for row in processing_class(texts, add_special_tokens=False)["input_ids"] for token in row]  # pyright: ignore[reportGeneralTypeIssues]
    count = ids.count(unknown)
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

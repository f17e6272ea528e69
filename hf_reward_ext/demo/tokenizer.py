"""Word-level tokenizer in which every number 0..99 is one token."""

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = ["<pad>", "<bos>", "<eos>", "<unk>"]
SYMBOLS = list(" +-*=;/|.:?,#>") + ["x", "w", "A", "B", "Yes", "No", "ok", "bad", "judge", "final"]
_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ eos_token }}{% endgeneration %}{% endif %}{% endfor %}"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """
    Build the tokenizer: 128 tokens, padding on the left, a chat template that joins the contents.

    Example:
    ```python
    >>> tokenizer = build_tokenizer()
    >>> tokenizer.decode(tokenizer("6 1 3 3=12|")["input_ids"])
    '6 1 3 3=12|'
    ```
    """
    words = SPECIAL_TOKENS + [str(number) for number in range(100)] + SYMBOLS
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"\d+|[A-Za-z]+|."), behavior="isolated")
    backend.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )
    tokenizer.chat_template = _CHAT_TEMPLATE
    return tokenizer

"""Context length of a model."""

from torch import nn


def longest_input(model: nn.Module) -> int | None:
    """
    Return the maximum number of input tokens of a model; `None` without a limit.

    The limit is `max_position_embeddings` of its config, less the position embeddings that are reserved for padding
    (RoBERTa and similar models count from `padding_idx + 1`).

    Example:
    ```python
    >>> longest_input(AutoModel.from_pretrained("FacebookAI/roberta-base"))
    512
    ```
    """
    config = getattr(model, "config", None)
    if config is None:
        return None
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    if not isinstance(limit, int) or limit < 1:
        return None
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return limit - module.padding_idx - 1  # pyright: ignore[reportOperatorIssue, reportReturnType]
    return limit

"""Checks that the models of a guided generation have the same tokens."""

from collections.abc import Sequence


def check_vocabularies(tokenizer, guide_tokenizers: Sequence, num_guides: int) -> int:
    """
    Return the number of leading ids that are the same tokens in all tokenizers.

    Raises:
        ValueError: If tokens differ; the message names them.
    """
    if tokenizer is None or len(guide_tokenizers) != num_guides:
        raise ValueError(
            f"`guide_tokenizers` must be one tokenizer for each of the {num_guides} guide(s), got "
            f"{len(guide_tokenizers)}. Pass `tokenizer=` and one of `guide_tokenizers=` per guide."
        )
    own = _tokens(tokenizer)
    for number, other in enumerate(guide_tokenizers):
        theirs = _tokens(other)
        differ = [index for index in own.keys() & theirs.keys() if own[index] != theirs[index]]
        lacking = own.keys() ^ theirs.keys()
        if differ or lacking:
            index = min([*differ, *lacking])
            raise ValueError(
                f"The tokenizer of guide {number} must be that of the policy, got {len(differ) + len(lacking)} "
                f"different tokens: id {index} is {own.get(index)!r} for the policy and {theirs.get(index)!r} for "
                "the guide. Load a guide trained with the policy's tokenizer."
            )
    return max(own) + 1


def common_size(policy_size: int, guide_sizes: Sequence[int], checked_size: int | None) -> int:
    """
    Return the number of leading ids to combine; later ids are padding of an embedding matrix.

    Args:
        policy_size (`int`), guide_sizes (`list[int]`): Widths of the logits.
        checked_size (`int`, *optional*): Number of tokens of the tokenizers, if they were compared.

    Raises:
        ValueError: If the widths differ and the tokenizers were not compared, or a model has too few logits.
    """
    sizes = [policy_size, *guide_sizes]
    if checked_size is None:
        if min(sizes) != max(sizes):
            raise ValueError(
                f"The policy scores {policy_size} tokens and the guides {list(guide_sizes)}, but log-probabilities are "
                "added token by token. Pass `tokenizer=` and `guide_tokenizers=`, so that the common ids can be "
                "checked, or load a guide trained with the policy's tokenizer."
            )
        return policy_size
    if min(sizes) < checked_size:
        raise ValueError(
            f"The tokenizers have {checked_size} tokens, but a model scores only {min(sizes)}. Resize its embeddings "
            "to the tokenizer."
        )
    return checked_size


def _tokens(tokenizer) -> dict[int, str]:
    return {index: token for token, index in tokenizer.get_vocab().items()}

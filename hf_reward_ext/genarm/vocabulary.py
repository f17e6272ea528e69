"""Whether the models of a guided generation speak of the same tokens."""

from collections.abc import Sequence


def check_vocabularies(tokenizer, guide_tokenizers: Sequence, num_guides: int) -> int:
    """
    Number of leading ids that stand for the same tokens in all tokenizers.

    Raises:
        ValueError: Naming the tokens that differ.
    """
    if tokenizer is None or len(guide_tokenizers) != num_guides:
        raise ValueError(
            f"{len(guide_tokenizers)} guide tokenizer(s) were given for {num_guides} guide(s), but the policy's "
            "tokenizer is compared with that of each guide. Pass `tokenizer=` and one of `guide_tokenizers=` per guide."
        )
    own = _tokens(tokenizer)
    for number, other in enumerate(guide_tokenizers):
        theirs = _tokens(other)
        differ = [index for index in own.keys() & theirs.keys() if own[index] != theirs[index]]
        lacking = own.keys() ^ theirs.keys()
        if differ or lacking:
            index = min([*differ, *lacking])
            raise ValueError(
                f"Guide {number} was given with a tokenizer that differs in {len(differ) + len(lacking)} tokens: id "
                f"{index} is {own.get(index)!r} for the policy and {theirs.get(index)!r} for the guide, but their "
                "log-probabilities are added token by token. Load a guide trained with the policy's tokenizer."
            )
    return max(own) + 1


def common_size(policy_size: int, guide_sizes: Sequence[int], checked_size: int | None) -> int:
    """
    How many leading ids to combine; ids behind them are padding of an embedding matrix.

    Args:
        policy_size (`int`), guide_sizes (`list[int]`): Widths of the logits.
        checked_size (`int`, *optional*): Tokens of the tokenizers, if they were compared.

    Raises:
        ValueError: If the widths differ and nobody compared the tokenizers, or a model has too few logits.
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

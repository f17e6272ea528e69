"""Distributions over all texts of a tiny vocabulary, and the test that samples have them."""

from collections.abc import Callable

import torch
from scipy.stats import chisquare
from tiny import tiny_causal_lm

END = 2


def tiny_vocabulary(seed: int, size: int = 5):
    return tiny_causal_lm("llama", seed=seed, vocab_size=size)


def enumerated(model, prompt, length: int, warp: Callable = lambda scores: scores) -> dict[tuple[int, ...], float]:
    """Probability of every sequence of a row, by one forward for each prefix."""
    found = {}

    def visit(text, probability):
        if len(text) == length or (text and text[-1] == END):
            found[text] = probability
            return
        scores = model(torch.tensor([[*prompt, *text]])).logits[0, -1]
        for token, own in enumerate(warp(scores).softmax(-1).tolist()):
            if own > 0:
                visit((*text, token), probability * own)

    with torch.no_grad():
        visit((), 1.0)
    return found


def warm(scores, temperature=0.7, top=3):
    scores = scores / temperature
    return scores.masked_fill(scores < scores.topk(top).values[-1], -torch.inf)


def check_samples(rows: torch.Tensor, expected: dict[tuple[int, ...], float]) -> None:
    """Check that sampled rows, padded after their end, have an enumerated distribution."""
    texts = [tuple(text) for text in rows.tolist()]
    texts = [text[: text.index(END) + 1] if END in text else text for text in texts]
    assert set(texts) <= set(expected)
    often = [text for text, probability in expected.items() if probability * len(texts) >= 5]
    assert len(often) > 2
    counts = [texts.count(text) for text in often]
    means = [expected[text] * len(texts) for text in often]
    rest = len(texts) - sum(means)
    if rest > 1e-3:
        counts, means = [*counts, len(texts) - sum(counts)], [*means, rest]
    assert chisquare(counts, means, sum_check=False).pvalue > 1e-3

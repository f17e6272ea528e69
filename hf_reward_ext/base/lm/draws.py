"""Sampling with separate random numbers for each candidate, independent of its batch."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from hf_reward_ext.base.lm.forward import unwrap_peft
from hf_reward_ext.base.lm.wrapped_method import unwrap_method, wrap_method

_drawing: ContextVar[tuple[tuple[object, "Draws"], ...]] = ContextVar("hf_reward_ext_draws", default=())


def candidate_generator(seed: int, prompt: Sequence[int], number: int) -> np.random.Generator:
    """
    Return the random generator of one candidate, which depends on seed, prompt and number only.

    Args:
        seed (`int`): Random seed.
        prompt (`list[int]`): Token ids of the prompt, without padding.
        number (`int`): Number of the candidate, from 0.
    """
    text = f"{seed}:{number}:{','.join(map(str, prompt))}"
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()))


def candidate_draws(seed: int, prompts: Sequence[Sequence[int]], numbers: Sequence[int]) -> "Draws":
    """
    Return the random numbers of some candidates of each prompt, with those of one prompt adjacent.

    Args:
        seed (`int`): Random seed.
        prompts (`list[list[int]]`): Token ids of each prompt, without padding.
        numbers (`list[int]`): Numbers of the candidates.
    """
    return Draws([candidate_generator(seed, ids, number) for ids in prompts for number in numbers])


class Draws(LogitsProcessor):
    r"""
    Logits processor that samples the token of every row with the random numbers of that row.

    $$ y = \min \{ j : \textstyle\sum_{i \le j} p_i > u \sum_i p_i \} $$

    Args:
        generators (`list` of `np.random.Generator`): Generator of each row, for one uniform number per token.
    """

    def __init__(self, generators: Sequence[np.random.Generator]):
        self.generators = list(generators)

    def __call__(
        self, input_ids: Int[Tensor, "rows seq"], scores: Float[Tensor, "rows vocab"]
    ) -> Float[Tensor, "rows vocab"]:
        """Return scores that allow only the sampled token of each row."""
        if len(scores) != len(self.generators):
            raise ValueError(
                f"`generate` must write {len(self.generators)} rows, one for each candidate, got {len(scores)}. Leave "
                "beams and `num_return_sequences` out."
            )
        numbers = torch.tensor([one.random() for one in self.generators], dtype=torch.float64, device=scores.device)
        sums = scores.double().softmax(-1).cumsum(-1)
        total = sums[:, -1:]
        # Below the total also after rounding, so that no token without probability is drawn.
        places = torch.minimum(numbers[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
        tokens = torch.searchsorted(sums, places, right=True)
        return torch.full_like(scores, -torch.inf).scatter(-1, tokens, 0.0)

    def keep(self, rows: Sequence[int]) -> None:
        """Keep the generators of these rows, in their order."""
        self.generators = [self.generators[row] for row in rows]


@contextmanager
def drawing(model, draws: Draws) -> Iterator[None]:
    """
    Make sampling calls of `generate` in this thread use separate random numbers for each row.

    The numbers are applied after every other processor, temperature and top-p included.

    Args:
        model (`PreTrainedModel` or `PeftModel`): Model that generates, with `do_sample=True`.
        draws ([`Draws`]): Random numbers of the rows.

    Example:
    ```python
    >>> with drawing(policy, Draws([candidate_generator(0, prompt, number) for number in range(8)])):
    ...     policy.generate(input_ids.expand(8, -1), do_sample=True)
    ```
    """
    model = unwrap_peft(model)
    wrap_method(model, "_get_logits_processor", _add_draws)
    _drawing.set((*_drawing.get(), (model, draws)))
    try:
        yield
    finally:
        _drawing.set(tuple(one for one in _drawing.get() if one[1] is not draws))
        unwrap_method(model, "_get_logits_processor", _add_draws)


def _add_draws(model, plain, generation_config, *args, **kwargs) -> LogitsProcessorList:
    processors = plain(generation_config, *args, **kwargs)
    if not generation_config.do_sample:
        return processors
    processors.extend(draws for drawn, draws in _drawing.get() if drawn is model)
    return processors

"""Generator on a model in this process, by `generate` with a shared prefill."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from hf_reward_ext.base.lm.draws import candidate_draws, drawing
from hf_reward_ext.base.lm.prefill import SharedPrefill
from hf_reward_ext.base.lm.row_ends import watch_row_ends
from hf_reward_ext.base.options import check_count
from hf_reward_ext.base.saving.fingerprint import fingerprint_weights
from hf_reward_ext.base.training.token_rewards import gather_step_logps
from hf_reward_ext.engines.generator import Generated, Prompt, Sampling
from hf_reward_ext.engines.prompt_ids import check_prompts, encode_prompt


class TransformersGenerator:
    """
    Generator of candidates by `generate` of a model in this process.

    A prompt is read once for all its candidates. A candidate depends on the model, seed, prompt and its number only, up
    to the rounding of a batched forward.

    Args:
        model (`PreTrainedModel` or `PeftModel`): Causal LM.
        tokenizer: Its tokenizer.
        batch_size (`int`, *optional*, defaults to 8): Number of prompts at a time.
        log_probabilities (`bool`, *optional*, defaults to `False`): Whether to return log-probabilities; the logits
            of all steps are then in memory at the same time.

    Example:
    ```python
    >>> generator = TransformersGenerator(policy, tokenizer)
    >>> [candidates] = generator.generate(["2+2="], 16, Sampling(max_new_tokens=8))
    ```
    """

    def __init__(self, model: Any, tokenizer: Any, *, batch_size: int = 8, log_probabilities: bool = False):
        check_count("batch_size", batch_size)
        self.model = model
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.log_probabilities = log_probabilities

    def describe(self) -> dict[str, Any]:
        """Return a hash of the weights."""
        return {"engine": "transformers", "model": fingerprint_weights(self.model)}

    def generate(
        self, prompts: Sequence[Prompt], num_candidates: int, sampling: Sampling, first: int = 0
    ) -> list[list[Generated]]:
        """Write candidates of every prompt, see [`Generator`]."""
        sampling.check_variety(num_candidates)
        check_prompts(prompts)
        groups: list[list[Generated]] = []
        for start in range(0, len(prompts), self.batch_size):
            groups += self._generate(prompts[start : start + self.batch_size], num_candidates, sampling, first)
        return groups

    @torch.no_grad()
    def _generate(self, prompts: Sequence[Prompt], count: int, sampling: Sampling, first: int) -> list[list[Generated]]:
        encoded = [encode_prompt(prompt, self.tokenizer) for prompt in prompts]
        input_ids, attention_mask = _pad_left(encoded, self.tokenizer.pad_token_id, self.model.device)
        draws = candidate_draws(sampling.seed, encoded, range(first, first + count))
        prefill = SharedPrefill(self.model, input_ids, attention_mask)
        with watch_row_ends(self.model) as ends, drawing(self.model, draws):
            out: Any = prefill.generate(
                count,
                return_dict_in_generate=True,
                output_logits=self.log_probabilities,
                **generation_settings(sampling),
            )
        width = input_ids.shape[1]
        lengths = ends.completion_mask(out.sequences, width).sum(-1).tolist()
        completions = [ids[:length].tolist() for ids, length in zip(out.sequences[:, width:], lengths, strict=True)]
        scored: Sequence[list[float] | None] = [None] * len(completions)
        if self.log_probabilities:
            rows = gather_step_logps(out.logits, out.sequences[:, width:])
            scored = [row[:length].tolist() for row, length in zip(rows, lengths, strict=True)]
        texts = self.tokenizer.batch_decode(completions, skip_special_tokens=True)
        made = [Generated(text, len(ids), ids, row) for text, ids, row in zip(texts, completions, scored, strict=True)]
        return [made[start : start + count] for start in range(0, len(made), count)]


def generation_settings(sampling: Sampling) -> dict[str, Any]:
    """Return the arguments of `generate`; what is not given is off, also if the model's config sets it."""
    settings: dict[str, Any] = {"max_new_tokens": sampling.max_new_tokens, "do_sample": sampling.temperature > 0}
    if sampling.temperature > 0:
        settings |= {
            "temperature": sampling.temperature,
            "top_p": 1.0 if sampling.top_p is None else sampling.top_p,
            "top_k": 0 if sampling.top_k is None else sampling.top_k,
        }
    return settings


def _pad_left(
    encoded: Sequence[list[int]], pad_token_id: int | None, device: Any
) -> tuple[Int[Tensor, "batch seq"], Int[Tensor, "batch seq"]]:
    width = max(map(len, encoded))
    fill = pad_token_id or 0  # masked
    ids = [[fill] * (width - len(one)) + one for one in encoded]
    mask = [[0] * (width - len(one)) + [1] * len(one) for one in encoded]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)

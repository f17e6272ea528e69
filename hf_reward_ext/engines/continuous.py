"""Generator by continuous batching of transformers: rows end and start at any step."""

import copy
from collections.abc import Sequence
from typing import Any

from transformers import ContinuousBatchingConfig, GenerationConfig

from hf_reward_ext.base.lm.tokens import eos_token_ids, pad_token_id
from hf_reward_ext.base.options import check_count
from hf_reward_ext.base.saving.fingerprint import fingerprint_weights
from hf_reward_ext.engines.generator import Generated, Prompt, Sampling, derive_seed
from hf_reward_ext.engines.local import generation_settings
from hf_reward_ext.engines.prompt_ids import check_prompts, encode_prompt

_PAGE = 32
# Settings of a generation config that are replaced here, or change no token.
_KNOWN = frozenset({
    "bos_token_id", "cache_config", "cache_implementation", "decoder_start_token_id", "do_sample", "eos_token_id",
    "max_length", "max_new_tokens", "num_return_sequences", "output_attentions", "output_hidden_states",
    "output_logits", "output_scores", "pad_token_id", "return_dict_in_generate", "temperature", "top_k", "top_p",
    "transformers_version", "use_cache",
})  # fmt: skip
# Tokens of prompts that one step may read in addition to one token of each row.
_PROMPT_TOKENS = 512


class ContinuousBatchingGenerator:
    """
    Generator of candidates by `generate_batch` of a model in this process.

    All rows share one paged cache, and a finished row makes room for the next one. Candidates depend on the seed and on
    the prompts of the call. `generate_batch` calls no logits processor that needs the ids of a row, so guides and
    searches cannot be used here.

    Args:
        model (`PreTrainedModel`): Causal LM whose attention has a paged version.
        tokenizer: Its tokenizer.
        rows (`int`, *optional*, defaults to 64): Maximum number of rows at a time; the cache is made for that many.
        log_probabilities (`bool`, *optional*, defaults to `False`): Whether to return log-probabilities.

    Raises:
        TypeError: If the model has no `generate_batch`.
        ValueError: If the generation config of the model has a setting, such as a repetition penalty, that
            `generate_batch` would not apply.

    Example:
    ```python
    >>> generator = ContinuousBatchingGenerator(policy, tokenizer)
    >>> [candidates] = generator.generate(["2+2="], 16, Sampling(max_new_tokens=8))
    ```
    """

    def __init__(self, model: Any, tokenizer: Any, *, rows: int = 64, log_probabilities: bool = False):
        check_count("rows", rows)
        if not hasattr(model, "generate_batch"):
            raise TypeError(
                f"`model` must have `generate_batch`, got a `{type(model).__name__}`. Pass a causal LM of transformers."
            )
        settings = model.generation_config.to_diff_dict()
        others = sorted(name for name in settings.keys() - _KNOWN if not name.startswith("_"))
        if others:
            raise ValueError(
                f"The generation config of `model` must have no setting that `generate_batch` would not apply, got "
                f"{ {name: settings[name] for name in others} }. Reset them, or use the engine 'transformers'."
            )
        self.model = model
        self.tokenizer = tokenizer
        self.rows = rows
        self.log_probabilities = log_probabilities

    def describe(self) -> dict[str, Any]:
        """Return a hash of the weights, and the settings that candidates depend on."""
        return {"engine": "continuous_batching", "model": fingerprint_weights(self.model), "rows": self.rows}

    def generate(
        self, prompts: Sequence[Prompt], num_candidates: int, sampling: Sampling, first: int = 0
    ) -> list[list[Generated]]:
        """
        Write candidates of every prompt, see [`Generator`].

        Raises:
            ValueError: If log-probabilities are wanted with a temperature other than 1, top-p or top-k:
                `generate_batch` returns those of the distribution that it samples from.
            RuntimeError: If `generate_batch` fails for a row.
        """
        sampling.check_variety(num_candidates)
        check_prompts(prompts)
        if self.log_probabilities and (sampling.temperature, sampling.top_p, sampling.top_k) != (1.0, None, None):
            raise ValueError(
                "`log_probabilities` must come with temperature 1 and without top-p and top-k, because "
                f"`generate_batch` returns those of its samples' distribution, got {sampling}. Use the engine "
                "'transformers'."
            )
        encoded = [encode_prompt(prompt, self.tokenizer) for prompt in prompts]
        if not encoded:
            return []
        results = self.model.generate_batch(
            encoded,
            generation_config=self._generation_config(num_candidates, sampling),
            continuous_batching_config=self._batching(encoded, num_candidates, sampling, first),
        )
        made = [self._read(result) for result in results.values()]
        if len(made) != len(encoded) * num_candidates:
            raise RuntimeError(
                f"`generate_batch` must return {len(encoded) * num_candidates} rows, got {len(made)}; its log has the "
                "cause. Lower `rows`, or use the engine 'transformers'."
            )
        return [made[start : start + num_candidates] for start in range(0, len(made), num_candidates)]

    def _generation_config(self, num_candidates: int, sampling: Sampling) -> GenerationConfig:
        config = copy.deepcopy(self.model.generation_config)
        ends = {
            "eos_token_id": eos_token_ids(config, self.tokenizer) or None,
            "pad_token_id": pad_token_id(config, self.tokenizer),
        }
        config.update(num_return_sequences=num_candidates, **ends, **generation_settings(sampling))
        return config

    def _batching(
        self, encoded: Sequence[list[int]], num_candidates: int, sampling: Sampling, first: int
    ) -> ContinuousBatchingConfig:
        """Return a configuration whose cache has room for the rows, and no more: by default it takes most memory."""
        rows = min(self.rows, len(encoded) * num_candidates)
        longest = max(map(len, encoded)) + sampling.max_new_tokens
        return ContinuousBatchingConfig(
            page_size=_PAGE,
            num_blocks=(rows + 1) * (-(-longest // _PAGE) + 1),
            max_batch_tokens=rows + _PROMPT_TOKENS,
            max_requests_per_batch=rows,
            return_logprobs=self.log_probabilities,
            seed=derive_seed(sampling.seed, "", first),
            drop_unsupported_processors=False,  # an error instead of other samples
        )

    def _read(self, result: Any) -> Generated:
        if result.error is not None:
            raise RuntimeError(
                f"`generate_batch` must write every row, but one failed: {result.error}. Lower `rows`, or use the "
                "engine 'transformers'."
            )
        ids = list(result.generated_tokens)
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        return Generated(text, len(ids), ids, list(result.logprobs) if self.log_probabilities else None)

"""Generator by `vllm.LLM` in this process."""

from collections.abc import Sequence
from typing import Any

from hf_reward_ext.base.options import check_count
from hf_reward_ext.engines.generator import Generated, Prompt, Sampling, derive_seed
from hf_reward_ext.engines.prompt_ids import check_prompts, encode_prompt

_WHOLE = ("stop", "length")


class VllmGenerator:
    """
    Generator of candidates by a `vllm.LLM` in this process.

    One request per prompt asks for all its candidates, which share the blocks of the prompt. The seed of a candidate
    depends on seed, prompt and its number only. Repetition penalty and min-p of the model's generation config apply, as
    in `generate`; its temperature, top-p and top-k do not.

    Args:
        llm (`vllm.LLM`): Engine of a causal LM.
        log_probabilities (`bool`, *optional*, defaults to `False`): Whether to return log-probabilities, those before
            temperature and processors.
        top_log_probabilities (`int`, *optional*, defaults to 0): Number of largest log-probabilities to return of each
            step, with `log_probabilities`.

    Raises:
        TypeError: If `llm` is not a `vllm.LLM`.
        ValueError: If its model does not generate, it gives hidden states, or it cannot return the log-probabilities
            (`logprobs_mode`, `max_logprobs`).

    Example:
    ```python
    >>> from vllm import LLM
    >>> generator = VllmGenerator(LLM("Qwen/Qwen3-0.6B"))
    >>> [candidates] = generator.generate(["2+2="], 16, Sampling(max_new_tokens=8))
    ```
    """

    _reads_states = False

    def __init__(self, llm: Any, *, log_probabilities: bool = False, top_log_probabilities: int = 0):
        if not all(hasattr(llm, name) for name in ("generate", "get_tokenizer", "model_config")):
            raise TypeError(f"`llm` must be a `vllm.LLM`, got a `{type(llm).__name__}`. Create one.")
        if llm.model_config.runner_type != "generate":
            raise ValueError(
                f"`llm` must generate text, got an engine with `runner={llm.model_config.runner_type!r}`. Create it "
                "with `runner='generate'`."
            )
        if log_probabilities and llm.model_config.logprobs_mode != "raw_logprobs":
            raise ValueError(
                "`log_probabilities` must be those before temperature and processors, got an engine with "
                f"`logprobs_mode={llm.model_config.logprobs_mode!r}`. Create it with 'raw_logprobs'."
            )
        if extracted_layers(llm) and not self._reads_states:
            raise ValueError(
                "`llm` must not give hidden states, got an engine that writes a file for every request. Use "
                "`VllmStateGenerator`, which reads them."
            )
        check_count("top_log_probabilities", top_log_probabilities, 0)
        if top_log_probabilities and not log_probabilities:
            raise ValueError("`log_probabilities` must be True with `top_log_probabilities`, got False. Pass both.")
        if 0 <= llm.model_config.max_logprobs < top_log_probabilities:
            raise ValueError(
                f"`top_log_probabilities` must be at most the {llm.model_config.max_logprobs} that the engine returns, "
                f"got {top_log_probabilities}. Create it with a larger `max_logprobs`."
            )
        self.llm = llm
        self.tokenizer = llm.get_tokenizer()
        self.log_probabilities = log_probabilities
        self.top_log_probabilities = top_log_probabilities

    @property
    def longest_text(self) -> int:
        """Maximum number of tokens of prompt and candidate."""
        return self.llm.model_config.max_model_len

    def describe(self) -> dict[str, Any]:
        """Return name, type of the weights and quantization of the model, and settings of its logits processors."""
        config = self.llm.model_config
        return {
            "engine": "vllm",
            "model": config.model,
            "revision": config.revision,
            "dtype": str(config.dtype),
            "quantization": None if config.quantization is None else str(config.quantization),
            "additional_config": self.llm.llm_engine.vllm_config.additional_config,
        }

    def generate(
        self, prompts: Sequence[Prompt], num_candidates: int, sampling: Sampling, first: int = 0
    ) -> list[list[Generated]]:
        """
        Write candidates of every prompt, see [`Generator`].

        Raises:
            ValueError: If a prompt and `max_new_tokens` are longer than the context of the engine, which would shorten
                its candidates.
            RuntimeError: If the engine does not finish a candidate.
        """
        sampling.check_variety(num_candidates)
        check_prompts(prompts)
        encoded = [encode_prompt(prompt, self.tokenizer) for prompt in prompts]
        self._check_room(encoded, sampling.max_new_tokens)
        if not encoded:
            return []
        settings = [self._sampling_params(prompt, sampling, first, n=num_candidates) for prompt in prompts]
        outputs = self.llm.generate([{"prompt_token_ids": ids} for ids in encoded], settings, use_tqdm=False)
        return [self._read(output, num_candidates) for output in outputs]

    def _check_room(self, encoded: Sequence[Sequence[int]], max_new_tokens: int) -> None:
        """Raise `ValueError` for the first prompt that leaves no room for a candidate."""
        for index, ids in enumerate(encoded):
            if len(ids) + max_new_tokens > self.longest_text:
                raise ValueError(
                    f"`prompts[{index}]` must leave room for `max_new_tokens={max_new_tokens}` in a context of "
                    f"{self.longest_text} tokens, got {len(ids)} tokens. Shorten it, or create the engine with a "
                    "larger `max_model_len`."
                )

    def _sampling_params(self, prompt: Prompt, sampling: Sampling, number: int, **settings: Any) -> Any:
        """
        Return the `vllm.SamplingParams` of one request.

        Args:
            prompt (`str` or messages): Prompt of the candidates.
            sampling ([`Sampling`]): Sampling of the candidates.
            number (`int`): Number of the first candidate of the request.
            **settings: Further fields, such as `n`.
        """
        of_the_model = self.llm.get_default_sampling_params()
        return import_vllm().SamplingParams(
            # A request with `n` candidates adds their numbers to its seed.
            seed=derive_seed(sampling.seed, prompt, 0) + number,
            max_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=1.0 if sampling.top_p is None else sampling.top_p,
            top_k=0 if sampling.top_k is None else sampling.top_k,
            min_p=of_the_model.min_p,
            repetition_penalty=of_the_model.repetition_penalty,
            logprobs=self.top_log_probabilities if self.log_probabilities else None,
            detokenize=False,
            **settings,
        )

    def _read(self, output: Any, count: int) -> list[Generated]:
        candidates = sorted(output.outputs, key=lambda one: one.index)
        if len(candidates) != count:
            raise RuntimeError(f"vLLM must return {count} candidates, got {len(candidates)}. See its log.")
        return [self._read_candidate(one) for one in candidates]

    def _read_candidate(self, candidate: Any) -> Generated:
        """Return a `vllm.CompletionOutput` as [`Generated`]."""
        if candidate.finish_reason not in _WHOLE:
            raise RuntimeError(
                f"vLLM must finish every candidate, but one ended with {candidate.finish_reason!r}. See its log."
            )
        ids = list(candidate.token_ids)
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        if not self.log_probabilities:
            return Generated(text, len(ids), ids)
        scored = [float(found[one].logprob) for one, found in zip(ids, candidate.logprobs, strict=True)]
        top = None
        if self.top_log_probabilities:
            # The sampled token comes in addition, unless it is among them.
            top = [
                sorted((float(one.logprob) for one in found.values()), reverse=True)[: self.top_log_probabilities]
                for found in candidate.logprobs
            ]
        return Generated(text, len(ids), ids, scored, top)


def extracted_layers(llm: Any) -> list[int]:
    """Return the hidden states that an engine gives; an empty list without them."""
    speculative = llm.llm_engine.vllm_config.speculative_config
    if getattr(speculative, "method", None) != "extract_hidden_states":
        return []
    return list(speculative.draft_model_config.hf_config.eagle_aux_hidden_state_layer_ids)


def import_vllm() -> Any:
    """
    Return the package `vllm`.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        import vllm  # pyright: ignore[reportMissingImports]  # only needed with this engine
    except ImportError as error:
        raise ImportError(
            f"vLLM in this process needs the package `vllm` ({error}), which no extra installs because its releases "
            "pin torch and transformers. Install both in one environment as in docs/engines.md, or start `vllm serve` "
            "in another one, run `pip install hf_reward_ext[vllm]`, and pass the address of the server."
        ) from error
    return vllm

"""GenARM as a logits processor: any number of guides for a frozen policy."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import CompileConfig

from hf_reward_ext.base.lm.generate_hook import GenerateCall, WatchesGenerate
from hf_reward_ext.base.lm.guide import CachedGuide
from hf_reward_ext.base.lm.static_guide import StaticGuide
from hf_reward_ext.base.options import check_number
from hf_reward_ext.genarm.causal_lms import as_guides
from hf_reward_ext.genarm.combine import guided_logps
from hf_reward_ext.genarm.conditioning import checked_weights, num_objectives_of
from hf_reward_ext.genarm.prompt_view import PromptView
from hf_reward_ext.genarm.undefined import explain_undefined
from hf_reward_ext.genarm.vocabulary import check_vocabularies, common_size
from hf_reward_ext.genarm.weighted_guide import WeightedGuide
from hf_reward_ext.genarm.weights import Alpha, GuideWeights, Schedule


class GenARMLogitsProcessor(WatchesGenerate):
    r"""
    Logits processor that guides a policy with autoregressive reward models in any decoding mode of `generate`.

    $$ \log\pi(y_t) = \log\pi_{base}(y_t) + \sum_k \alpha_k \log\pi_k(y_t) - \log Z_t $$

    The decoding rule of [GenARM](https://huggingface.co/papers/2410.08193). The returned scores are normalized, so
    beam scores are log-probabilities of the guided model. The sampling temperature is applied afterwards:
    `temperature=T` samples the guided distribution at T, whereas the authors' code needs T / (1 + alpha).

    The guides' caches are compared with the ids at each call, so an object can be used for any number of `generate`
    calls, also from several threads: greedy, sampling, beams, `num_return_sequences`, assisted decoding, prompt lookup,
    left-padded batches, drafts of any number of prompts ([`speculative_generate`]). Constructing the first processor
    wraps `generate`, which does not pass the mask to processors; see [`~base.lm.generate_hook.remove_generate_hook`].

    Args:
        guides (`PreTrainedModel`, `PeftModel` or a list of K): Causal LMs with the policy's tokenizer.
        alpha (`float`, K floats, `torch.Tensor` of shape `(K,)` or `(B, K)`, or `callable`, defaults to 1.0): Weights;
            weights of a prompt apply to all its beams and return sequences. A callable receives the number of generated
            tokens.
        prompt_ids (`torch.Tensor` of shape `(B, seq)`, *optional*): Rendering of the prompts for the guides, padded
            on the left. Default: the ids that `generate` passes.
        prompt_attention_mask (`torch.Tensor` of shape `(B, seq)`, *optional*): 0 on padding of `prompt_ids`. Default
            without `prompt_ids`: the mask of the `generate` call.
        pad_token_id (`int`, *optional*): Id of leading tokens that count as padding if there is no mask. Default: that
            of the guides.
        tokenizer, guide_tokenizers (*optional*): Tokenizers of the policy and of each guide, which are compared
            token by token. Required if the models have different numbers of logits.
        entropy_threshold (`float`, *optional*): Minimum entropy of the policy, in nats, for a row to be guided. The
            guides do not run if no row is guided.
        static_cache_length (`int`, *optional*): Number of tokens, prompt and continuation, for which the guides keep
            static caches: a guide whose forward is compiled is then not compiled again at every step. Default: caches
            that grow.
        compile_config (`CompileConfig`, *optional*): How to compile the guides' steps; needs `static_cache_length`.
            Default: the guides run as they are.
        weights (K floats, or `torch.Tensor` of shape `(K,)` or `(B, K)`, *optional*): Weights of the K objectives of a
            conditioned guide, at least 0 with a sum of 1; `alpha` is its strength.

    Attributes:
        alpha, weights: Weights, which may be changed between calls.
        skipped_share (`float`): Share of row-steps below the entropy threshold, since construction.

    Raises:
        TypeError: If a guide is not a causal LM.
        ValueError: If weights or vocabularies are incompatible, a prompt is missing, a guide returns NaN, or a static
            cache is too short.

    Example:
    ```python
    >>> model.generate(**inputs, logits_processor=[GenARMLogitsProcessor(guide, alpha=1.0)], num_beams=4)
    ```
    """

    supports_continuous_batching = False

    def __init__(
        self,
        guides,
        alpha: Alpha | Schedule = 1.0,
        *,
        prompt_ids: Int[Tensor, "batch seq"] | None = None,
        prompt_attention_mask: Int[Tensor, "batch seq"] | None = None,
        pad_token_id: int | None = None,
        tokenizer=None,
        guide_tokenizers: Sequence | None = None,
        entropy_threshold: float | None = None,
        static_cache_length: int | None = None,
        compile_config: CompileConfig | None = None,
        weights: Sequence[float] | Tensor | None = None,
    ):
        guides = as_guides(guides)
        self._weights = GuideWeights(alpha, len(guides))
        if compile_config is not None and static_cache_length is None:
            raise ValueError(
                "`static_cache_length` must be given with `compile_config`, got None: caches that grow would be "
                "compiled for again and again. Pass the longest prompt plus `max_new_tokens`."
            )
        self._num_objectives = _check_conditioned(guides, weights, static_cache_length)
        self.guides: list[CachedGuide] = [
            WeightedGuide(guide, pad_token_id, weights=checked_weights(weights, count))
            if count is not None
            else CachedGuide(guide, pad_token_id)
            if static_cache_length is None
            else StaticGuide(guide, pad_token_id, length=static_cache_length, compile_config=compile_config)
            for guide, count in zip(guides, self._num_objectives, strict=True)
        ]
        self.prompt = PromptView(prompt_ids, prompt_attention_mask)
        if entropy_threshold is not None:
            check_number("entropy_threshold", entropy_threshold, least=0)
        self.entropy_threshold = entropy_threshold
        self._checked_size = None
        if tokenizer is not None or guide_tokenizers is not None:
            self._checked_size = check_vocabularies(tokenizer, guide_tokenizers or [], len(guides))
        self._row_steps = self._skipped = 0
        super().__init__()

    @property
    def alpha(self) -> Alpha | Schedule:
        return self._weights.alpha

    @alpha.setter
    def alpha(self, alpha: Alpha | Schedule) -> None:
        self._weights = GuideWeights(alpha, len(self.guides))

    @property
    def weights(self) -> Float[Tensor, "*prompts objectives"] | None:
        return next((guide.weights for guide in self.guides if isinstance(guide, WeightedGuide)), None)

    @weights.setter
    def weights(self, weights: Sequence[float] | Tensor) -> None:
        _check_conditioned([guide.model for guide in self.guides], weights, None)
        for guide, count in zip(self.guides, self._num_objectives, strict=True):
            if isinstance(guide, WeightedGuide) and count is not None:
                guide.weights = checked_weights(weights, count)

    @property
    def skipped_share(self) -> float:
        return self._skipped / max(self._row_steps, 1)

    def weights_of_columns(
        self, columns: Int[Tensor, " columns"], prompt_length: int, rows: int, device: torch.device
    ) -> Float[Tensor, "rows columns guides"]:
        """Return the weights for choosing tokens, see [`GuideWeights.of_columns`]."""
        return self._weights.of_columns(columns, prompt_length, rows, device)

    def common_size(self, base: Tensor, guides: Sequence[Tensor]) -> int:
        """Return the number of leading ids that the scores of policy and guides share."""
        return common_size(base.shape[-1], [logits.shape[-1] for logits in guides], self._checked_size)

    def unguided(self, scores: Float[Tensor, "*positions vocab"]) -> Bool[Tensor, " *positions"] | None:
        """Return where the policy is too certain to be guided; `None` without an entropy threshold."""
        if self.entropy_threshold is None:
            return None
        return torch.special.entr(scores.softmax(-1)).sum(-1) < self.entropy_threshold

    def count_skipped(self, unguided: Bool[Tensor, " steps"]) -> None:
        """Add row-steps to those of `skipped_share`."""
        self._row_steps += len(unguided)
        self._skipped += int(unguided.sum())

    @contextmanager
    def around(self, call: GenerateCall) -> Iterator[dict[str, Any]]:
        """Store prompt and mask of a `generate` call, and free the guides' caches after it."""
        if call.model.config.is_encoder_decoder:
            raise ValueError(
                f"The policy `{type(call.model).__name__}` is an encoder-decoder, but guides read prompt and "
                "continuation as one text. Load a causal LM."
            )
        self._check_length(call)
        with self.prompt.around(call) as is_outermost:
            try:
                yield call.arguments
            finally:
                if is_outermost:
                    for guide in self.guides:
                        guide.forget()

    def _check_length(self, call: GenerateCall) -> None:
        """Reject texts that are too long for static caches; the last token is not read."""
        static = [guide for guide in self.guides if isinstance(guide, StaticGuide)]
        if not static or call.input_ids is None:
            return
        length = call.input_ids.shape[1]
        new = call.config.max_new_tokens
        if new is None and call.config.max_length is not None:
            new = call.config.max_length - length
        if self.prompt.prompt_ids is not None:
            length = self.prompt.prompt_ids.shape[1]
        for guide in static:
            guide.check_length(length + (new or 0) - 1)

    @torch.no_grad()
    def __call__(
        self, input_ids: Int[Tensor, "rows seq"], scores: Float[Tensor, "rows vocab"]
    ) -> Float[Tensor, "rows vocab"]:
        ids, mask, step = self.prompt.split(input_ids)
        rows = len(input_ids)
        column = torch.tensor([step])  # counted from the end of the prompt
        alpha = self.weights_of_columns(column, 0, rows, scores.device)[:, 0]
        unguided = self.unguided(scores)
        if unguided is not None:
            self.count_skipped(unguided)
            alpha = alpha.masked_fill(unguided[:, None], 0)
            if unguided.all():
                return scores.log_softmax(-1)
        logits = [guide.next_token_logits(ids, mask) for guide in self.guides]
        size = self.common_size(scores, logits)
        combined = guided_logps(scores, logits, alpha, size)
        if combined.isnan().any():
            raise explain_undefined(scores, logits, step)
        return combined.to(scores.dtype)


def _check_conditioned(guides: Sequence, weights, static_cache_length: int | None) -> list[int | None]:
    """Return the number of objectives of each guide, after checking that weights are given if they are needed."""
    counts = [num_objectives_of(guide) for guide in guides]
    known = {count for count in counts if count is not None}
    if weights is None and known:
        raise ValueError(
            "`weights` must be given for a conditioned guide, got None. Pass one number per objective with a sum of 1, "
            "such as `weights=[0.5, 0.5]`."
        )
    if weights is not None and len(known) != 1:
        raise ValueError(
            f"`weights` need conditioned guides with one number of objectives, got {sorted(known) or 'none'}. Weigh "
            "plain guides with `alpha`."
        )
    if known and static_cache_length is not None:
        raise ValueError(
            f"`static_cache_length` must be None for a conditioned guide, got {static_cache_length}. Leave it out, or "
            "call `fold_weights` on the guide first."
        )
    return counts

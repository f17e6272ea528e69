"""Policy and guides as one causal language model."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import Cache, DynamicCache, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from hf_reward_ext.base.lm.composite_calls import check_composite_call, refuse_continuous_batching
from hf_reward_ext.base.lm.experts import optimized_for_decode
from hf_reward_ext.base.lm.forward import as_index, cache_field, take_cache
from hf_reward_ext.base.lm.generate_hook import custom_check, named_call
from hf_reward_ext.base.lm.per_thread import PerThread
from hf_reward_ext.genarm.combine import guided_logps
from hf_reward_ext.genarm.reading import GuideReader
from hf_reward_ext.genarm.separate_models import SeparateModels
from hf_reward_ext.genarm.shared_adapters import SharedAdapters
from hf_reward_ext.genarm.undefined import explain_undefined
from hf_reward_ext.genarm.vocabulary import check_vocabularies, common_size
from hf_reward_ext.genarm.weights import Alpha, GuideWeights, Schedule


@dataclass
class _Call:
    """Length of the prompt in one thread's call, which a schedule of weights needs."""

    prompt_length: int = 0


class GuidedCausalLM(PreTrainedModel, GenerationMixin):
    r"""
    A causal LM whose distribution is that of a policy guided by K autoregressive reward models.

    $$ \log\pi(y_t) = \log\pi_{base}(y_t) + \sum_k \alpha_k \log\pi_k(y_t) - \log Z_t $$

    The same distribution as [`GenARMLogitsProcessor`], with one cache that `generate` reorders, crops and repeats:
    greedy, sampling, beams, `num_return_sequences`, static cache, prompt lookup, streaming, and assisted decoding,
    where a guide can be the draft model (`assistant_model=guide`).

    Args:
        base (`PreTrainedModel`): Frozen policy.
        guides (`PreTrainedModel`, a list of K, or [`GuideReader`]): Causal LMs with the policy's tokenizer. A reader
            determines how they are run, see [`SeparateModels`].
        alpha (`float`, K floats, `torch.Tensor` of shape `(K,)` or `(B, K)`, or `callable`, defaults to 1.0): Weights,
            as for the processor.
        tokenizer, guide_tokenizers (*optional*): Tokenizers, as for the processor; required if logits differ in width.

    Attributes:
        alpha: Weights, which may be changed between calls.

    Raises:
        TypeError: If a model is not a causal LM, or the weights are not numbers.
        ValueError: If weights or vocabularies are incompatible, or the models cannot share a cache.

    Example:
    ```python
    >>> guided = GuidedCausalLM(policy, guide, alpha=1.0)
    >>> guided.generate(**inputs, num_beams=4)
    ```
    """

    base_model_prefix = ""
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True

    def __init__(
        self,
        base: PreTrainedModel,
        guides,
        alpha: Alpha | Schedule = 1.0,
        *,
        tokenizer=None,
        guide_tokenizers: Sequence | None = None,
    ):
        reader = guides if isinstance(guides, GuideReader) else SeparateModels(base, guides)
        if reader.base is not base:
            raise ValueError("`base` must be the policy that the reader runs, got another model. Pass `reader.base`.")
        weights = GuideWeights(alpha, reader.num_guides)
        super().__init__(reader.joint_config())
        self.base = base
        self.guides = nn.ModuleList(reader.guides)
        self.reader = reader
        self._weights = weights
        self.generation_config = copy.deepcopy(base.generation_config)
        self._calls = PerThread(_Call)
        self._checked_size = None
        if tokenizer is not None or guide_tokenizers is not None:
            self._checked_size = check_vocabularies(tokenizer, guide_tokenizers or [], reader.num_guides)

    @classmethod
    def from_peft(cls, peft_model, adapters: str | Sequence[str] = ("default",), alpha: Alpha | Schedule = 1.0) -> Self:
        """
        Create a guided model whose guides are LoRA adapters on the policy, with one copy of the weights.

        A plain call of `peft_model` or `base` uses the active adapter; sample from the policy alone in
        `peft_model.disable_adapter()`.

        Args:
            peft_model (`PeftModel`): Policy with adapters; the policy is the model without them.
            adapters (`str` or `list[str]`): Names of the K guides.
            alpha (as for the class): Weights.

        Raises:
            TypeError: If the model has no LoRA, or is not a causal LM.
            ValueError: If an adapter is not loaded, is merged, or cannot be mixed in a batch.

        Example:
        ```python
        >>> guided = GuidedCausalLM.from_peft(peft_model, adapters=["helpful", "harmless"], alpha=[0.7, 0.3])
        ```
        """
        reader = SharedAdapters(peft_model, adapters)
        return cls(reader.base, reader, alpha)

    @property
    def alpha(self) -> Alpha | Schedule:
        return self._weights.alpha

    @alpha.setter
    def alpha(self, alpha: Alpha | Schedule) -> None:
        self._weights = GuideWeights(alpha, self.num_guides)

    @property
    def num_guides(self) -> int:
        return self.reader.num_guides

    def weights_of_columns(
        self, columns: Int[Tensor, " columns"], prompt_length: int, rows: int, device: torch.device
    ) -> Float[Tensor, "rows columns guides"]:
        """Return the weights for choosing tokens, see [`GuideWeights.of_columns`]."""
        return self._weights.of_columns(columns, prompt_length, rows, device)

    def generate(self, *args, **kwargs):
        """Run `generate` of transformers, after rejecting options that policy and guides do not support."""
        call = named_call(self, args, kwargs)
        if call.arguments.get("inputs_embeds") is not None:
            raise ValueError(
                "`inputs_embeds` must not be given: policy and guides embed tokens differently. Pass `input_ids`."
            )
        check_composite_call(call)
        check = custom_check(call)
        if check is not None:
            check(call)
        cache = take_cache(dict(call.arguments))
        if cache is not None:
            self.reader.check_cache(cache)
        # Without a prompt `generate` starts with one BOS token.
        self._calls.value.prompt_length = 1 if call.input_ids is None else call.input_ids.shape[1]
        return super().generate(*args, **kwargs)  # pyright: ignore[reportAttributeAccessIssue]

    def init_continuous_batching(self, *args, **kwargs):
        refuse_continuous_batching(self)

    def _get_static_cache_init_shape(self) -> None:
        """Return no shape of a static cache, because heads and numbers of rows may differ between models."""

    def save_pretrained(self, *args, **kwargs):
        raise ValueError(
            "`GuidedCausalLM` cannot be saved: it only combines models that have their own folders. Save policy and "
            "guides, and combine them again after loading."
        )

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: Cache | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """
        Compute the guided distribution of the next token.

        Args:
            input_ids, attention_mask, position_ids, use_cache, logits_to_keep: As for any causal LM.
            cache, past_key_values (`Cache`, *optional*): Cache, under either name of transformers.
            output_hidden_states, output_attentions (`bool`, *optional*): Whether to return those of the policy.

        Returns:
            `CausalLMOutputWithPast` whose `logits` are normalized log-probabilities of the guided distribution, float32
            or wider.

        Raises:
            ValueError: If policy and guides do not handle a keyword in the same way.
        """
        cache = take_cache({"cache": cache, "past_key_values": past_key_values})
        if input_ids is None:
            raise ValueError("`input_ids` must be given: policy and guides embed tokens differently. Pass them.")
        _check_forward(kwargs)
        if use_cache and cache is None:
            cache = DynamicCache(config=self.config)
        start = 0
        if self._weights.is_schedule and cache is not None:
            start = int(cache.get_seq_length())  # before the models extend it
        reading = self.reader.read(
            input_ids,
            cache,
            attention_mask=attention_mask,
            position_ids=position_ids,
            logits_to_keep=logits_to_keep,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
        )
        # The logits at a column determine the token of the next column.
        columns = start + 1 + torch.arange(input_ids.shape[1])[as_index(logits_to_keep)]
        prompt_length = self._calls.value.prompt_length if self._weights.is_schedule else 0
        alpha = self.weights_of_columns(columns, prompt_length, len(input_ids), reading.base.device)
        logps = guided_logps(reading.base, reading.guides, alpha, self.common_size(reading.base, reading.guides))
        if not torch.compiler.is_compiling() and logps[:, -1].isnan().any():
            length = cache.get_seq_length() if cache is not None else input_ids.shape[1]
            last = [logits[:, -1] for logits in (reading.base, *reading.guides)]
            raise explain_undefined(last[0], last[1:], int(length) - self._calls.value.prompt_length)
        return CausalLMOutputWithPast(
            logits=logps,  # pyright: ignore[reportArgumentType]
            hidden_states=reading.hidden_states,  # pyright: ignore[reportArgumentType]
            attentions=reading.attentions,  # pyright: ignore[reportArgumentType]
            **cache_field(CausalLMOutputWithPast, cache),  # pyright: ignore[reportArgumentType]
        )

    @torch.no_grad()
    def separate_logits(self, input_ids: Tensor, attention_mask: Tensor, logits_to_keep: int = 0) -> list[Tensor]:
        """Return the logits of the policy and of each guide at the last `logits_to_keep` positions."""
        reading = self.reader.read(input_ids, None, attention_mask=attention_mask, logits_to_keep=logits_to_keep)
        return [reading.base, *reading.guides]

    def common_size(self, base: Tensor, guides: Sequence[Tensor]) -> int:
        """Return the number of leading ids that policy and guides share."""
        return common_size(base.shape[-1], [logits.shape[-1] for logits in guides], self._checked_size)

    @classmethod
    def _can_set_experts_implementation(cls) -> bool:
        return True  # the policy already uses the experts that its configuration names

    def set_experts_implementation(self, experts_implementation: str | dict) -> None:
        """Set the implementation of all models; transformers skips inner models of the same configuration class."""
        for model in (self.base, *self.guides):
            model.set_experts_implementation(experts_implementation)  # pyright: ignore[reportCallIssue]
        self.config._experts_implementation = experts_implementation  # pyright: ignore[reportAttributeAccessIssue]

    def set_attn_implementation(self, attn_implementation: str | dict, allow_all_kernels: bool = False) -> None:
        """Set the implementation of all models, and in the config, which determines the masks of static caches."""
        for model in (self.base, *self.guides):
            model.set_attn_implementation(attn_implementation, allow_all_kernels)  # pyright: ignore[reportCallIssue]
        self.config._attn_implementation = attn_implementation  # pyright: ignore[reportAttributeAccessIssue]

    def _optimize_model_for_decode(self):
        return optimized_for_decode([self.base, *self.guides])

    def get_input_embeddings(self):
        return self.base.get_input_embeddings()

    def get_output_embeddings(self):
        return self.base.get_output_embeddings()


def _check_forward(kwargs: dict) -> None:
    """Reject unsupported keywords; `generate` passes unset options and `tokenizer` in every step."""
    given = {name: value for name, value in kwargs.items() if value is not None and value is not False}
    given.pop("tokenizer", None)
    if kwargs.get("return_dict") is not False:
        given.pop("return_dict", None)
    else:
        given["return_dict"] = False
    if given:
        raise ValueError(
            f"`GuidedCausalLM.forward` must get keywords that policy and guides handle alike, got "
            f"{', '.join(f'`{name}`' for name in sorted(given))}. Leave them out."
        )

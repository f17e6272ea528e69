"""Policy and guides as one causal language model."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import Cache, DynamicCache, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from hf_reward_ext.base.lm.cache import new_cache
from hf_reward_ext.base.lm.experts import optimized_for_decode
from hf_reward_ext.base.lm.forward import (
    as_index,
    cache_field,
    run_forward,
    supports_logits_to_keep,
    take_cache,
)
from hf_reward_ext.base.lm.per_thread import PerThread
from hf_reward_ext.genarm.alpha import Alpha, Schedule, alpha_rows, check_alpha
from hf_reward_ext.genarm.combine import guided_logps
from hf_reward_ext.genarm.vocabulary import check_vocabularies, common_size


@dataclass
class _Call:
    """Where the prompt of one thread's call ends, which a schedule of weights needs."""

    prompt_length: int = 0


class GuidedCausalLM(PreTrainedModel, GenerationMixin):
    r"""
    A causal LM whose distribution is that of a policy guided by K autoregressive reward models.

    $$ \log\pi(y_t) = \log\pi_{base}(y_t) + \sum_k \alpha_k \log\pi_k(y_t) - \log Z_t $$

    The same distribution as [`GenARMLogitsProcessor`], with one cache that `generate` itself reorders, crops and
    repeats: greedy, sampling, beams, `num_return_sequences`, static cache, prompt lookup, streaming, and assisted
    decoding, where a guide may draft (`assistant_model=guide`).

    Args:
        base (`PreTrainedModel`): The policy; frozen.
        guides (`PreTrainedModel` or a list of K): Causal LMs with the policy's tokenizer.
        alpha (`float`, K floats, `torch.Tensor` of shape `(K,)` or `(B, K)`, or `callable`, defaults to 1.0): Weights,
            as for the processor; the attribute `alpha` may be changed between calls.
        tokenizer, guide_tokenizers (*optional*): As for the processor: needed when logits differ in width.
        num_guides (`int`, *optional*): K, where guides are not models of their own (see [`from_peft`]).

    Raises:
        ValueError: If weights or vocabularies do not fit, or the models' caches cannot be one.

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
        num_guides: int | None = None,
    ):
        guides = list(guides) if isinstance(guides, (list, tuple)) else [guides]
        check_alpha(alpha, num_guides or len(guides))
        super().__init__(_joint_config([base, *guides]))
        self.base = base
        self.guides = nn.ModuleList(guides)
        self.alpha = alpha
        self.num_guides = num_guides or len(guides)
        self.generation_config = copy.deepcopy(base.generation_config)
        self._calls = PerThread(_Call)
        self._checked_size = None
        if tokenizer is not None or guide_tokenizers is not None:
            self._checked_size = check_vocabularies(tokenizer, guide_tokenizers or [], len(guides))

    @classmethod
    def from_peft(cls, peft_model, adapters: Sequence[str] = ("default",), alpha: Alpha | Schedule = 1.0) -> Self:
        """
        Guides that are LoRA adapters on the policy: one copy of the weights, one forward for policy and guides.

        Args:
            peft_model (`PeftModel`): The policy with its adapters; the policy is the model without them.
            adapters (`list[str]`): Names of the K guides.
            alpha: As above.

        Raises:
            ValueError: If an adapter is not loaded, is merged, or is of a kind that cannot be mixed in a batch.
        """
        from hf_reward_ext.genarm.guided_peft import AdapterGuidedCausalLM

        return AdapterGuidedCausalLM(peft_model, adapters, alpha)  # pyright: ignore[reportReturnType]

    def generate(self, *args, **kwargs):
        ids = args[0] if args else kwargs.get("inputs", kwargs.get("input_ids"))
        if ids is None or kwargs.get("inputs_embeds") is not None:
            raise ValueError(
                "`generate` was called without `input_ids`, but policy and guides embed tokens differently. Pass "
                "`input_ids` instead of `inputs_embeds`."
            )
        config = kwargs.get("generation_config") or self.generation_config
        if "paged" in (kwargs.get("cache_implementation"), config.cache_implementation):
            raise ValueError(
                "`cache_implementation='paged'` was given, but the cache of policy and guides is not paged. Leave "
                "`cache_implementation` out."
            )
        self._calls.value.prompt_length = ids.shape[1]
        return super().generate(*args, **kwargs)  # pyright: ignore[reportAttributeAccessIssue]

    def generate_batch(self, *args, **kwargs):
        raise ValueError(
            "`generate_batch` was called, but the cache of policy and guides is not paged. Call `generate` instead."
        )

    def save_pretrained(self, *args, **kwargs):
        raise ValueError(
            "A guided model was to be saved, but it is made of models that have their own folders. Save policy and "
            "guides, and join them again after loading."
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
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """
        Reads tokens with policy and guides.

        Args:
            input_ids, attention_mask, position_ids, use_cache, logits_to_keep: As for any causal LM.
            cache, past_key_values (`Cache`, *optional*): The cache, under either name of transformers.

        Returns:
            `CausalLMOutputWithPast` whose `logits` are normalized log-probabilities of the guided distribution, float32
            or wider.

        Raises:
            ValueError: If a keyword is given that policy and guides would not handle alike.
        """
        cache = take_cache({"cache": cache, "past_key_values": past_key_values})
        if input_ids is None:
            raise ValueError("No `input_ids` were given, but policy and guides embed tokens differently. Pass them.")
        _check_forward(kwargs)
        if use_cache and cache is None:
            cache = DynamicCache(config=self.config)
        start = 0
        if callable(self.alpha) and cache is not None:
            start = int(cache.get_seq_length())  # before the models read: they make it grow
        base, *guides = self._read(
            input_ids,
            cache,
            attention_mask=attention_mask,
            position_ids=position_ids,
            logits_to_keep=logits_to_keep,
        )
        alpha = self._alpha(input_ids, start, logits_to_keep, base.device)
        logps = guided_logps(base, guides, alpha, self.common_size(base, guides))
        if not torch.compiler.is_compiling() and logps[:, -1].isnan().any():
            self._refuse_nan([base, *guides], cache.get_seq_length() if cache is not None else input_ids.shape[1])
        return CausalLMOutputWithPast(logits=logps, **cache_field(CausalLMOutputWithPast, cache))  # pyright: ignore

    @torch.no_grad()
    def separate_logits(self, input_ids: Tensor, attention_mask: Tensor, logits_to_keep: int = 0) -> list[Tensor]:
        """Logits of the policy and of each guide, of the last `logits_to_keep` positions, without a cache."""
        return self._read(input_ids, None, attention_mask=attention_mask, logits_to_keep=logits_to_keep)

    def common_size(self, base: Tensor, guides: Sequence[Tensor]) -> int:
        """Number of leading ids that policy and guides share."""
        return common_size(base.shape[-1], [logits.shape[-1] for logits in guides], self._checked_size)

    def _refuse_nan(self, logits: Sequence[Tensor], length: int) -> None:
        bad = [number for number, values in enumerate(logits) if values[:, -1].isnan().any()]
        who = "The combination" if not bad else "The policy" if bad[0] == 0 else f"Guide {bad[0] - 1}"
        raise ValueError(
            f"{who} gave NaN at step {length - self._calls.value.prompt_length}, so the guided distribution is "
            "undefined. Load the model in bfloat16 or float32 instead of float16, or look for a prompt of padding only."
        )

    def _alpha(
        self, input_ids: Tensor, start: int, logits_to_keep: int | Tensor, device: torch.device
    ) -> Float[Tensor, "rows seq guides"]:
        """Weights of every row and position; the logits at column c choose the token of step c + 1 - prompt length."""
        rows, length = input_ids.shape
        if not callable(self.alpha):
            return alpha_rows(self.alpha, 0, rows, self.num_guides, device)[:, None]
        columns = start + torch.arange(length)[as_index(logits_to_keep)]
        steps = (columns + 1 - self._calls.value.prompt_length).clamp(min=0).tolist()
        return torch.stack([alpha_rows(self.alpha, step, rows, self.num_guides, device) for step in steps], dim=1)

    def _read(self, input_ids: Tensor, cache: Cache | None, **kwargs) -> list[Tensor]:
        """Logits of the policy and of each guide; each sees its own layers of the one cache."""
        logits, first = [], 0
        for model in (self.base, *self.guides):
            count = _num_layers(model)
            view = None if cache is None else Cache(layers=cache.layers[first : first + count])
            logits.append(forward_logits(model, input_ids, cache=view, **kwargs))
            first += count
        return logits

    @classmethod
    def _can_set_experts_implementation(cls) -> bool:
        return True  # asked for the experts that the policy's configuration names, which the policy has

    def _optimize_model_for_decode(self):
        return optimized_for_decode([self.base, *self.guides])

    def get_input_embeddings(self):
        return self.base.get_input_embeddings()

    def get_output_embeddings(self):
        return self.base.get_output_embeddings()


def forward_logits(
    model, input_ids: Tensor, *, cache: Cache | None = None, logits_to_keep: int | Tensor = 0, **kwargs
) -> Tensor:
    """Logits of one model, on its own device."""
    inputs = {name: _to(value, model.device) for name, value in kwargs.items()}
    output = run_forward(model, input_ids.to(model.device), cache=cache, logits_to_keep=logits_to_keep, **inputs)
    return output.logits if supports_logits_to_keep(model) else output.logits[:, as_index(logits_to_keep)]


def _check_forward(kwargs: dict) -> None:
    """Refuses what the composite has not; `return_dict=True` and unset options come with every `generate` step."""
    given = {name: value for name, value in kwargs.items() if value is not None and value is not False}
    if given.get("return_dict") is True:
        del given["return_dict"]
    if given:
        raise ValueError(
            f"`GuidedCausalLM.forward` must get keywords that policy and guides handle alike, got "
            f"{', '.join(f'`{name}`' for name in sorted(given))}. Leave them out."
        )


def _to(value, device: torch.device):
    """Tensors to a device; masks of static caches come by kind of layer."""
    if isinstance(value, dict):
        return {name: _to(part, device) for name, part in value.items()}
    return value.to(device) if isinstance(value, Tensor) else value


def _num_layers(model) -> int:
    return model.config.get_text_config(decoder=True).num_hidden_layers


def _joint_config(models: Sequence[PreTrainedModel]):
    """The policy's configuration with the layers of all models, from which `generate` builds its cache."""
    configs = [model.config.get_text_config(decoder=True) for model in models]
    if any(getattr(model.config, "is_encoder_decoder", False) for model in models):
        raise ValueError(
            "An encoder-decoder was given, but policy and guides read prompt and continuation as one text. Load "
            "causal LMs."
        )
    for model in models:
        if new_cache(model) is None:
            raise ValueError(
                f"Policy and guides must keep their keys and values in a `DynamicCache`, got `{type(model).__name__}` "
                "with no cache or another kind. Use `GenARMLogitsProcessor`, where each guide reads by itself."
            )
    windows = {getattr(config, "sliding_window", None) for config in configs} - {None}
    kinds = [_layer_types(config) for config in configs]
    known = {kind for own in kinds for kind in own}
    if len(windows) > 1 or not known <= {"full_attention", "sliding_attention"}:
        raise ValueError(
            f"Models with layers {sorted(known)} and sliding windows {sorted(windows)} were given, but one cache holds "  # pyright: ignore
            "full attention and one size of sliding window. Use `GenARMLogitsProcessor`, where each guide has its own."
        )
    joint = copy.deepcopy(configs[0])
    try:
        joint.num_hidden_layers = sum(config.num_hidden_layers for config in configs)
    except NotImplementedError as error:
        raise ValueError(
            f"Policy and guides must share one cache, got `{type(models[0]).__name__}`, whose number of layers cannot "
            "be changed. Use `GenARMLogitsProcessor`, where each guide has its own cache."
        ) from error
    if "sliding_attention" in known:
        joint.sliding_window = windows.pop()
        joint.layer_types = [kind for own in kinds for kind in own]
    elif getattr(joint, "layer_types", None) is not None:
        joint.layer_types = ["full_attention"] * joint.num_hidden_layers
    return joint


def _layer_types(config) -> list[str]:
    kinds = getattr(config, "layer_types", None)
    if kinds is not None:
        return list(kinds)
    kind = "sliding_attention" if getattr(config, "sliding_window", None) else "full_attention"
    return [kind] * config.num_hidden_layers

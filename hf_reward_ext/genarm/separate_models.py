"""Reader of guides that are separate models."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor
from transformers import Cache, PreTrainedConfig, PreTrainedModel

from hf_reward_ext.base.lm.cache import new_cache
from hf_reward_ext.genarm.causal_lms import as_guides, check_causal_lm
from hf_reward_ext.genarm.conditioning import refuse_conditioned
from hf_reward_ext.genarm.reading import GuideReader, Reading, read_model


class SeparateModels(GuideReader):
    """
    Reader with one forward per model; each model uses its own layers of the shared cache.

    Args:
        base (`PreTrainedModel`): The policy.
        guides (`PreTrainedModel` or a list of K): Causal LMs with the policy's tokenizer.
        use_streams (`bool`, *optional*, defaults to `False`): Whether models on the same CUDA device run in
            separate streams, so that small models overlap. Models on several devices overlap in any case. Not yet run
            on a GPU; see `tests/gpu` and `examples/benchmarks/gpu.py`.

    Raises:
        TypeError: If a model is not a causal LM.
        ValueError: If the models cannot share a cache.

    Example:
    ```python
    >>> guided = GuidedCausalLM(policy, SeparateModels(policy, guide, use_streams=True))
    ```
    """

    def __init__(self, base: PreTrainedModel, guides, use_streams: bool = False):
        check_causal_lm(base, "The policy")
        guides = as_guides(guides)
        refuse_conditioned(guides)
        super().__init__(base, guides, len(guides))
        self._streams = _Streams([base, *guides]) if use_streams else None

    def joint_config(self) -> PreTrainedConfig:
        return joint_config([self.base, *self.guides])

    def check_cache(self, cache: Cache) -> None:
        fit_cache(cache, sum(num_layers(model) for model in (self.base, *self.guides)))

    def read(
        self,
        input_ids: Tensor,
        cache: Cache | None,
        *,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        **kwargs,
    ) -> Reading:
        models = [self.base, *self.guides]
        asked = {"output_hidden_states": output_hidden_states, "output_attentions": output_attentions}
        counts = [num_layers(model) for model in models]
        views = [None] * len(models) if cache is None else _views(cache, counts)
        outputs = []
        # A CUDA graph is captured on one stream.
        streams = None if torch.compiler.is_compiling() else self._streams
        with nullcontext() if streams is None else streams.forked():
            for number, (model, view) in enumerate(zip(models, views, strict=True)):
                own = {} if number else {name: value for name, value in asked.items() if value}
                with nullcontext() if streams is None else streams.of(number):
                    outputs.append(read_model(model, input_ids, cache=view, **kwargs, **own))
        base, *guides = outputs
        return Reading(
            base.logits,
            [output.logits for output in guides],
            base.hidden_states if output_hidden_states else None,
            base.attentions if output_attentions else None,
        )


class _Streams:
    """CUDA stream per model, forked from the current stream and joined again."""

    def __init__(self, models: Sequence[PreTrainedModel]):
        self._devices = [model.device for model in models]
        self._streams = [torch.cuda.Stream(device) if device.type == "cuda" else None for device in self._devices]

    @contextmanager
    def forked(self) -> Iterator[None]:
        """Make the streams wait for previous work, and later work wait for the streams."""
        for device, stream in zip(self._devices, self._streams, strict=True):
            if stream is not None:
                stream.wait_stream(torch.cuda.current_stream(device))
        try:
            yield
        finally:
            # Also after an error, because tensors of a stream may be freed then.
            for device, stream in zip(self._devices, self._streams, strict=True):
                if stream is not None:
                    torch.cuda.current_stream(device).wait_stream(stream)

    def of(self, number: int):
        """Return the context in which kernels run in the stream of a model."""
        stream = self._streams[number]
        return nullcontext() if stream is None else torch.cuda.stream(stream)


class _LayerView(Cache):
    """View of consecutive layers of a cache; updates use the whole cache, which may offload or quantize them."""

    def __init__(self, whole: Cache, first: int, count: int):
        super().__init__(layers=whole.layers[first : first + count])
        self._whole, self._first, self._count = whole, first, count  # a model may append layers to its view

    def update(self, key_states, value_states, layer_idx, *args, **kwargs):
        if layer_idx >= self._count:  # the next model's layers are there
            raise ValueError(
                f"Policy and guides must have as many layers in their caches as in their configurations, got a model "
                f"of {self._count} layers that stores layer {layer_idx} (it runs layers in a loop, say). Use "
                "`GenARMLogitsProcessor`, where each guide has its own cache."
            )
        return self._whole.update(key_states, value_states, self._first + layer_idx, *args, **kwargs)


def _views(cache: Cache, counts: Sequence[int]) -> list[Cache]:
    fit_cache(cache, sum(counts))
    firsts = [sum(counts[:number]) for number in range(len(counts))]
    return [_LayerView(cache, first, count) for first, count in zip(firsts, counts, strict=True)]


def fit_cache(cache: Cache, count: int) -> None:
    """
    Add layers to a cache that was created without a configuration.

    Raises:
        ValueError: If the cache has layers of another model.
    """
    layers = getattr(cache, "layers", None)
    if layers is not None and cache.layer_class_to_replicate is not None:
        layers.extend(cache.layer_class_to_replicate() for _ in range(count - len(layers)))
    if layers is None or len(layers) != count:
        raise ValueError(
            f"The cache must have {count} layers, those of the policy and of its guides, got a "
            f"`{type(cache).__name__}` with {len(layers or [])}. Make it from the guided model's configuration: "
            "`DynamicCache(config=guided.config)`."
        )


def num_layers(model) -> int:
    return model.config.get_text_config(decoder=True).num_hidden_layers


def joint_config(models: Sequence[PreTrainedModel]) -> PreTrainedConfig:
    """Return the policy's configuration with the layers of all models."""
    configs = [model.config.get_text_config(decoder=True) for model in models]
    for model in models:
        if new_cache(model) is None:
            raise ValueError(
                f"Policy and guides must keep their keys and values in a `DynamicCache`, got `{type(model).__name__}` "
                "with no cache or another kind. Use `GenARMLogitsProcessor`, where each guide is run separately."
            )
    windows = {getattr(config, "sliding_window", None) for config in configs} - {None}
    kinds = [_layer_types(config) for config in configs]
    known = {kind for own in kinds for kind in own}
    if len(windows) > 1 or not known <= {"full_attention", "sliding_attention"}:
        raise ValueError(
            "The layers of policy and guides must be full attention and one size of sliding window, which one cache "
            f"holds, got {sorted(known)} and windows {sorted(windows)}. Use `GenARMLogitsProcessor`, where each guide "  # pyright: ignore[reportArgumentType]
            "has its own cache."
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

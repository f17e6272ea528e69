"""The private names of transformers and PEFT that we touch; each has a contract test."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager

from transformers import GenerationMixin


def supports_logits_to_keep(model) -> bool:
    """Whether a causal LM can leave out the logits of all but the last positions, as `generate` asks it."""
    return bool(model._supports_logits_to_keep())


def refuse_paged_generation(processor_class: type) -> None:
    """
    Makes `generate(cache_implementation="paged", logits_processor=[...])` raise for processors of this class.

    That path drops every `logits_processor` without a word and calls none, so the refusal has to stand before it.
    """
    plain = GenerationMixin.generate
    if processor_class in getattr(plain, "_refused", ()):
        return

    @functools.wraps(plain)
    def generate(self, *args, **kwargs):
        config = kwargs.get("generation_config")
        given = (kwargs.get("cache_implementation"), getattr(config, "cache_implementation", None))
        processors = kwargs.get("logits_processor") or (args[2] if len(args) > 2 else None) or ()
        if "paged" in given and any(isinstance(processor, processor_class) for processor in processors):
            raise ValueError(
                f"`cache_implementation='paged'` was given with a `{processor_class.__name__}`, but continuous "
                "batching drops logits processors, so nothing would be guided. Leave `cache_implementation` out."
            )
        return plain(self, *args, **kwargs)

    generate._refused = (*getattr(plain, "_refused", ()), processor_class)
    GenerationMixin.generate = generate


def check_mixed_adapters(peft_model, adapters: list[str]) -> None:
    """
    Refuses adapters that cannot share a batch with the bare model, before any forward does.

    Raises:
        TypeError: If the model carries no LoRA.
        ValueError: If an adapter is not loaded, is merged, or uses DoRA.
    """
    layers = _lora_layers(peft_model) if hasattr(peft_model, "peft_config") else []
    if not layers:
        raise TypeError(
            f"A `{type(peft_model).__name__}` was given, but guides on one copy of the weights are LoRA adapters. Pass "
            "a `PeftModel` with LoRA."
        )
    for adapter in adapters:
        if adapter not in peft_model.peft_config:
            raise ValueError(
                f"The adapter {adapter!r} was asked for, but the model has {sorted(peft_model.peft_config)}. Load it "
                "with `load_adapter` first."
            )
        if any(layer.merged for layer in layers) or any(layer.use_dora.get(adapter, False) for layer in layers):
            raise ValueError(
                f"The adapter {adapter!r} is merged or uses DoRA, but policy and guides share one batch. Unmerge it, "
                "or use `GenARMLogitsProcessor` with a copy of the model."
            )


@contextmanager
def mixed_adapters(model, names: list[str]) -> Iterator[None]:
    """
    Lets each row of a forward use its own adapter (`"__base__"`: none); nothing stays behind, not even after an error.

    PEFT's own way to the same layers leaves its hooks when a forward raises, and later forwards are silently wrong.
    """

    def name_rows(module, args, kwargs):
        return args, {**kwargs, "adapter_names": names}

    handles = [layer.register_forward_pre_hook(name_rows, with_kwargs=True) for layer in _lora_layers(model)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _lora_layers(model) -> list:
    from peft.tuners.lora import LoraLayer

    return [module for module in model.modules() if isinstance(module, LoraLayer)]


def add_fused_lm_head(model) -> None:
    """
    Gives a causal LM TRL's way to per-token log-probabilities without logits of the shape (batch, seq, vocab).

    After it `model(..., labels=labels, fused_lm_head=True).log_probs` holds them, zero where a label is -100. Anything
    else that the model does is as before.
    """
    from trl.trainer.utils import add_fused_lm_head as add

    if "forward" not in vars(model):
        add(model)

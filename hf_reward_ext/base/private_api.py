"""The private names of transformers that we touch; each has a contract test."""

import functools

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

"""
A transformers whose forwards call a keyword by another name and ignore the old one, as 5.24 did with the cache.

As a pytest plugin (`-p tampered`) it renames the cache in every Llama of the process.
"""

import functools
import inspect

from transformers import LlamaForCausalLM

from hf_reward_ext.base.lm.forward import generate_cache_name

# What a release might rename; the cache by the name that this release has.
RENAMED = {
    "cache": (generate_cache_name(), "kv_store"),
    "mask": ("attention_mask", "token_mask"),
    "positions": ("position_ids", "token_positions"),
    "kept logits": ("logits_to_keep", "num_last_logits"),
}


def renamed(forward, old: str, new: str):
    """`forward` with its parameter `old` called `new`; `old` is swallowed by `**kwargs`."""
    signature = inspect.signature(forward)
    parameters = [one.replace(name=new) if name == old else one for name, one in signature.parameters.items()]

    @functools.wraps(forward)
    def tampered(self, *args, **kwargs):
        kwargs.pop(old, None)
        if new in kwargs:
            kwargs[old] = kwargs.pop(new)
        return forward(self, *args, **kwargs)

    del tampered.__wrapped__
    tampered.__signature__ = signature.replace(parameters=parameters)
    return tampered


def renaming(prepare, old: str, new: str):
    """`prepare_inputs_for_generation` of such a release, which uses the new name."""

    @functools.wraps(prepare)
    def tampered(self, *args, **kwargs):
        inputs = prepare(self, *args, **kwargs)
        if old in inputs:
            inputs[new] = inputs.pop(old)
        return inputs

    return tampered


def tampered_llama(what: str) -> type[LlamaForCausalLM]:
    """A Llama of such a release; its own `generate` is as right as before."""
    old, new = RENAMED[what]
    members = {
        "forward": renamed(LlamaForCausalLM.forward, old, new),
        "prepare_inputs_for_generation": renaming(LlamaForCausalLM.prepare_inputs_for_generation, old, new),
    }
    return type("TamperedLlama", (LlamaForCausalLM,), members)


def pytest_configure(config):
    old, new = RENAMED["cache"]
    prepare = LlamaForCausalLM.prepare_inputs_for_generation
    LlamaForCausalLM.forward = renamed(LlamaForCausalLM.forward, old, new)
    LlamaForCausalLM.prepare_inputs_for_generation = renaming(prepare, old, new)

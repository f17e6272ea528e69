"""Behaviors of `generate` that a single model has, to be tried with models that are made of several."""

import string
from contextlib import contextmanager

import pytest
import torch
from packaging.version import Version
from tiny import BOS, EOS, PAD, VOCAB, left_padded_batch, tiny_causal_lm
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch_version import TORCH
from transformers import (
    DynamicCache,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    StaticCache,
    WatermarkingConfig,
)

from hf_reward_ext.base.lm.forward import generate_cache_name

ARCHITECTURES = ["llama", "qwen3", "gemma3_text", "gpt2"]
NEW_TOKENS = 4
ASSISTANT = object()  # stands for a small model that drafts


def causal_lm(architecture, seed=0):
    if architecture != "gpt2":
        return tiny_causal_lm(architecture, seed=seed)
    torch.manual_seed(seed)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCAB, n_embd=16, n_layer=2, n_head=2, n_positions=64, initializer_range=0.5, pad_token_id=PAD,
            bos_token_id=BOS, eos_token_id=EOS, attn_implementation="eager",
        )
    ).eval()  # fmt: skip


def letters():
    """A tokenizer whose tokens are letters, so that `stop_strings` finds them."""
    tokens = ["<pad>", "<bos>", "<eos>", *string.ascii_lowercase, *"ABC"]
    backend = Tokenizer(models.WordLevel({token: index for index, token in enumerate(tokens)}, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<pad>"
    )


def one_prompt():
    ids, mask = left_padded_batch()
    return {"input_ids": ids[-1:], "attention_mask": mask[-1:]}  # the longest: without padding


def ragged_prompts():
    ids, mask = left_padded_batch()
    return {"input_ids": ids, "attention_mask": mask}


SAMPLING = dict(do_sample=True, top_k=0)
# Keywords of `generate`; a function gets the model. Where the second part is not empty, it says what gives the same
# tokens in a plain way; `None` where nothing does.
MODES = {
    "greedy": (dict(), {}),
    "sampling": (SAMPLING, SAMPLING),
    "warped sampling": (dict(do_sample=True, top_k=8, top_p=0.9, temperature=0.7, renormalize_logits=True),) * 2,
    "beams": (dict(num_beams=3), dict(num_beams=3)),
    "beam sampling": (dict(num_beams=3, **SAMPLING), dict(num_beams=3, **SAMPLING)),
    "beams, several returned": (dict(num_beams=3, num_return_sequences=2, length_penalty=0.5),) * 2,
    "several samples": (dict(num_return_sequences=3, **SAMPLING), dict(num_return_sequences=3, **SAMPLING)),
    "assistant": (dict(assistant_model=ASSISTANT), {}),
    "assistant, sampling": (dict(assistant_model=ASSISTANT, do_sample=True), None),
    "prompt lookup": (dict(prompt_lookup_num_tokens=2), {}),
    "dynamic cache": (dict(cache_implementation="dynamic"), {}),
    "static cache": (dict(cache_implementation="static"), {}),
    "static cache, beams": (dict(cache_implementation="static", num_beams=2), dict(num_beams=2)),
    "offloaded cache": (dict(cache_implementation="offloaded"), {}),
    "offloaded static cache": (dict(cache_implementation="offloaded_static"), {}),
    "quantized cache": (dict(cache_implementation="quantized", cache_config={"backend": "fp8"}), None),
    "no cache": (dict(use_cache=False), {}),
    "prefill in chunks": (dict(prefill_chunk_size=2), {}),
    "prefill in chunks, static cache": (dict(prefill_chunk_size=2, cache_implementation="static"), {}),
    "cache of the caller": (lambda model: {generate_cache_name(): DynamicCache(config=model.config)}, {}),
    "empty cache of the caller": (lambda model: {generate_cache_name(): DynamicCache()}, {}),
    "static cache of the caller": (
        lambda model: {generate_cache_name(): StaticCache(config=model.config, max_cache_len=32)},
        {},
    ),
    "stop strings": (lambda model: dict(stop_strings=list("abcdefghijk"), tokenizer=letters()),) * 2,
    "token healing": (lambda model: dict(token_healing=True, tokenizer=letters()),) * 2,
    "time": (dict(max_time=100.0), {}),
    "no time": (dict(max_time=0.0), dict(max_time=0.0)),
    "forced EOS": (dict(forced_eos_token_id=EOS), dict(forced_eos_token_id=EOS)),
    "stopping criterion": (dict(stopping_criteria=[lambda ids, scores, **_: ids[:, -1] > VOCAB // 2]),) * 2,
    "processors of generate": (
        dict(repetition_penalty=1.3, no_repeat_ngram_size=2, bad_words_ids=[[5]], min_new_tokens=3),
    )
    * 2,
    "allowed tokens": (dict(prefix_allowed_tokens_fn=lambda batch, ids: list(range(3, 20))),) * 2,
    "watermark": (dict(watermarking_config=WatermarkingConfig()),) * 2,
    "classifier-free guidance": (dict(guidance_scale=1.5), None),
    "settings as an object": (
        dict(generation_config=GenerationConfig(num_beams=2, max_new_tokens=4, pad_token_id=PAD, eos_token_id=EOS)),
    )
    * 2,
    "positions": (lambda model: dict(position_ids=torch.arange(7)[None]), {}),
}  # fmt: skip


# Every mode where layers differ, and a few where only names do.
FEW = ["greedy", "sampling", "beams", "assistant", "static cache", "prefill in chunks", "empty cache of the caller"]
if TORCH < Version("2.13"):  # transformers' fp8 cache writes NaN with the older ones, whatever reads it
    del MODES["quantized cache"]

CASES = [(mode, architecture) for architecture in ("llama", "gemma3_text") for mode in MODES]
CASES += [(mode, architecture) for architecture in ("qwen3", "gpt2") for mode in FEW]
DICTIONARY_MODES = ["greedy", "sampling", "beams", "assistant", "prompt lookup", "no cache"]
DICTIONARY_CASES = [(mode, "llama") for mode in DICTIONARY_MODES]
DICTIONARY_CASES += [(mode, architecture) for architecture in ARCHITECTURES[1:] for mode in ("greedy", "assistant")]


def generate(model, mode_or_settings, inputs=None, architecture="llama", seed=0, **kwargs):
    settings = mode_or_settings(model) if callable(mode_or_settings) else dict(mode_or_settings)
    if settings.get("assistant_model") is ASSISTANT:
        settings["assistant_model"] = causal_lm(architecture, seed=77)
    if "generation_config" not in settings:
        settings.setdefault("max_new_tokens", NEW_TOKENS)
    torch.manual_seed(seed)
    return model.generate(**(one_prompt() if inputs is None else inputs), **settings, **kwargs)


def works(model, mode, architecture) -> bool:
    """Whether a model alone does it on this machine."""
    try:
        generate(model, mode, architecture=architecture)
    except (ValueError, TypeError, ImportError, RuntimeError, AssertionError, NotImplementedError):
        return False
    return True


@contextmanager
def refused(models, error, match):
    """Asserts that an error is raised before any of the models runs."""
    forwards = []
    handles = [model.register_forward_pre_hook(lambda module, args: forwards.append(module)) for model in models]
    try:
        with pytest.raises(error, match=match):
            yield
    finally:
        for handle in handles:
            handle.remove()
    assert not forwards, "it was computed before it was refused"

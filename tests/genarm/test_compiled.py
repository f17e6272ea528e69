"""Compiled forwards give the tokens of eager ones and are not compiled again at every step: graphs are counted."""

import copy

import pytest
import torch
from packaging.version import Version
from peft import LoraConfig, get_peft_model
from tiny import left_padded_batch, tiny_causal_lm
from torch._dynamo.testing import CompileCounter
from torch._dynamo.utils import counters
from torch_version import TORCH
from transformers import CompileConfig

from hf_reward_ext import GenARMLogitsProcessor, GuidedCausalLM

NEW_TOKENS = 7  # more than the graphs that are allowed
# Of torch's older compilers 2.6 cannot trace a forward of transformers, and 2.8 cannot trace LoRA groups.
composites = pytest.mark.skipif(TORCH < Version("2.13"), reason="composites are compiled with torch 2.13 and newer")
guides = pytest.mark.skipif(TORCH < Version("2.8"), reason="guides are compiled with torch 2.8 and newer")


@pytest.fixture(autouse=True)
def nothing_compiled():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def one_layer(seed=0, architecture="llama"):
    layers = dict(layer_types=["sliding_attention"]) if architecture == "gemma3_text" else {}
    return tiny_causal_lm(architecture, seed=seed, num_hidden_layers=1, **layers)


def adapted():
    torch.manual_seed(0)
    return get_peft_model(one_layer(), LoraConfig(target_modules=["q_proj"], init_lora_weights=False)).eval()


def write(model, **kwargs):
    ids, mask = left_padded_batch((3, 2), seed=kwargs.pop("prompts", 0))
    torch.manual_seed(0)
    settings = dict(max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, do_sample=False) | kwargs
    return model.generate(ids, attention_mask=mask, **settings)


def counting(**kwargs) -> CompileConfig:
    """Traces without making code, on CPUs too."""
    config = CompileConfig(backend="eager", mode=None, **kwargs)
    config._compile_all_devices = True
    return config


def num_graphs() -> int:
    return counters["stats"]["unique_graphs"]


@composites
def test_the_composite_is_one_graph_for_all_steps():
    guided = GuidedCausalLM(one_layer(), one_layer(1), 1.5)
    static = dict(cache_implementation="static", compile_config=counting(fullgraph=True))
    for call in (dict(), dict(do_sample=True, top_k=0), dict(prompts=1)):
        assert torch.equal(write(guided, **static, **call), write(guided, **call))
    assert num_graphs() == 1


@pytest.mark.slow
@composites
def test_the_callers_own_compilation_adds_a_graph_for_the_prompt():
    guided, counter = GuidedCausalLM(one_layer(), one_layer(1), 1.5), CompileCounter()
    expected = write(guided)
    guided.forward = torch.compile(guided.forward, backend=counter, fullgraph=True)
    for _ in range(2):
        assert torch.equal(write(guided, cache_implementation="static"), expected)
    assert counter.frame_count == 2


@composites
def test_adapters_are_compiled_with_their_groups():
    guided = GuidedCausalLM.from_peft(adapted(), alpha=1.5)
    expected = write(guided)
    static = dict(cache_implementation="static", compile_config=counting())
    assert torch.equal(write(guided, **static), expected)
    once = num_graphs()
    assert 0 < once < NEW_TOKENS
    assert torch.equal(write(guided, **static), expected) and num_graphs() == once


@pytest.mark.parametrize("architecture", ["llama", pytest.param("gemma3_text", marks=pytest.mark.slow)])
@guides
def test_guides_of_the_processor_are_compiled_for_one_token(architecture):
    policy, guide = one_layer(), one_layer(1, architecture)
    plain = [GenARMLogitsProcessor(guide, 1.5)]
    expected = [write(policy, logits_processor=plain, prompts=prompts) for prompts in (0, 1)]
    processor = GenARMLogitsProcessor(guide, 1.5, static_cache_length=16, compile_config=counting(fullgraph=True))
    assert torch.equal(write(policy, logits_processor=[processor]), expected[0])
    # A sliding window has a graph until it is full and one after.
    once = num_graphs()
    assert once == 1 if architecture == "llama" else 1 < once < 4
    assert torch.equal(write(policy, logits_processor=[processor], prompts=1), expected[1])
    assert num_graphs() == once
    if architecture == "llama":
        other = copy.deepcopy(processor)
        other.guides[0].model.load_state_dict(one_layer(2).state_dict())
        plain = [GenARMLogitsProcessor(one_layer(2), 1.5)]
        assert torch.equal(write(policy, logits_processor=[other]), write(policy, logits_processor=plain))


@pytest.mark.slow
@guides
def test_guides_that_the_caller_compiled_are_traced_for_prompts_too():
    policy, guide, counter = one_layer(), one_layer(1), CompileCounter()
    expected = write(policy, logits_processor=[GenARMLogitsProcessor(guide, 1.5)])
    guide.forward = torch.compile(guide.forward, backend=counter)
    processor = GenARMLogitsProcessor(guide, 1.5, static_cache_length=16)
    for graphs in (2, 3, 3):  # the second call empties a cache where the first made one
        assert torch.equal(write(policy, logits_processor=[processor]), expected)
        assert counter.frame_count == graphs


def test_compiled_wrappers_are_causal_lms():
    policy, guide = one_layer(), one_layer(1)
    expected = write(policy, logits_processor=[GenARMLogitsProcessor(guide, 1.5)])
    with torch.compiler.set_stance("force_eager"):
        for processor in (
            GenARMLogitsProcessor(torch.compile(guide), 1.5),
            GenARMLogitsProcessor(torch.compile(guide), 1.5, static_cache_length=16),
        ):
            assert torch.equal(write(policy, logits_processor=[processor]), expected)
        assert torch.equal(write(GuidedCausalLM(torch.compile(policy), torch.compile(guide), 1.5)), expected)


def test_a_compiler_that_cannot_trace_the_guide_is_refused(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.6.0+cpu")
    with pytest.raises(ValueError, match="`compile_config` must be None with torch 2.6.0.* or newer"):
        GenARMLogitsProcessor(one_layer(1), 1.5, static_cache_length=16, compile_config=counting())

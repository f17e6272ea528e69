import functools
from contextlib import contextmanager

import pytest
import torch
from tiny import EOS, PAD, tiny_causal_lm
from transformers import GenerationConfig, GenerationMixin

from hf_reward_ext.base.lm.generate_hook import (
    GenerateCall,
    WatchesGenerate,
    checks_generate_call,
    effective_generation_config,
    install_generate_hook,
    remove_generate_hook,
)

IDS = torch.tensor([[4, 5, 6]])


class Recorder(WatchesGenerate):
    def __init__(self):
        super().__init__()
        self.calls = []

    @contextmanager
    def around(self, call):
        self.calls.append(call)
        yield {**call.arguments, "max_new_tokens": 3}
        self.calls.append("end")

    def __call__(self, input_ids, scores):
        return scores


@pytest.fixture(autouse=True)
def restored():
    yield
    remove_generate_hook()


def test_a_processor_sees_the_call_and_may_change_it():
    model, recorder = tiny_causal_lm(), Recorder()
    mask = torch.ones_like(IDS)
    written = model.generate(IDS, GenerationConfig(max_new_tokens=2, eos_token_id=31), [recorder], attention_mask=mask)
    call, end = recorder.calls
    assert end == "end" and call.model is model and call.input_ids is IDS
    assert call.arguments["attention_mask"] is mask
    assert call.config.eos_token_id == 31 and call.config.pad_token_id == PAD  # the object's, then the model's
    assert written.shape[1] == 6
    model.generate(input_ids=IDS, max_new_tokens=2, logits_processor=[recorder], eos_token_id=7)
    assert recorder.calls[2].input_ids is IDS and recorder.calls[2].config.eos_token_id == 7


@pytest.mark.parametrize(
    ("arguments", "eos", "pad"),
    [
        ({}, EOS, PAD),
        ({"eos_token_id": 9}, 9, PAD),
        ({"generation_config": GenerationConfig(max_length=9)}, EOS, PAD),
        ({"generation_config": GenerationConfig(eos_token_id=[8, 9])}, [8, 9], PAD),
        ({"generation_config": GenerationConfig(eos_token_id=8), "eos_token_id": 9, "pad_token_id": 3}, 9, 3),
        ({"input_ids": IDS, "attention_mask": None, "width": 2}, EOS, PAD),
    ],
)
def test_settings_are_merged_as_generate_merges_them(arguments, eos, pad):
    config = effective_generation_config(tiny_causal_lm(), arguments)
    assert (config.eos_token_id, config.pad_token_id) == (eos, pad)


PAGED = {"cache_implementation": "paged"}


@pytest.mark.parametrize("settings", [PAGED, {"generation_config": GenerationConfig(**PAGED)}])
def test_continuous_batching_is_refused(settings):
    recorder = Recorder()
    with pytest.raises(ValueError, match="paged.*Recorder"):
        tiny_causal_lm().generate(IDS, logits_processor=[recorder], **settings)
    assert not recorder.calls


def test_a_custom_generate_function_is_checked():
    def refuse(call):
        raise ValueError(f"streamer is {call.arguments['streamer']}")

    @checks_generate_call(refuse)
    def search(model, input_ids, **kwargs):
        return input_ids

    install_generate_hook()
    for custom in (search, functools.partial(search, model=None)):
        with pytest.raises(ValueError, match="streamer is here"):
            tiny_causal_lm().generate(IDS, custom_generate=custom, streamer="here")


def test_the_hook_is_installed_once_and_removed():
    plain = GenerationMixin.generate
    Recorder(), Recorder()
    hooked = GenerationMixin.generate
    assert hooked is not plain and hooked.__wrapped__ is plain
    GenerationMixin.generate = functools.wraps(hooked)(lambda *args, **kwargs: hooked(*args, **kwargs))
    vars(GenerationMixin.generate).pop("_hooked")
    with pytest.raises(RuntimeError, match="wrapped it since"):
        remove_generate_hook()
    GenerationMixin.generate = hooked
    remove_generate_hook()
    assert GenerationMixin.generate is plain
    remove_generate_hook()
    assert GenerationMixin.generate is plain


def test_a_call_takes_its_prompts_from_either_name():
    assert GenerateCall(None, {"inputs": IDS}).input_ids is IDS
    assert GenerateCall(None, {"input_ids": IDS}).input_ids is IDS
    assert GenerateCall(None, {"inputs_embeds": IDS}).input_ids is None

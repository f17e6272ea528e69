import json
from dataclasses import replace

import pytest
import torch
from architectures.build import MODEL_TYPES, OWN, UNBUILT, small_config, tiny_model
from architectures.reference import FreshReader
from architectures.subject import Subject
from architectures.sweep import KINDS, Cell, cell, is_ours, row
from architectures.table import count, page
from architectures.uses import USES, UnsoundError, WrongError, composite
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from hf_reward_ext.genarm import GuidedCausalLM
from hf_reward_ext.genarm.separate_models import SeparateModels
from hf_reward_ext.sla.tree_decoding import TreeDecoder

# One of every family, with the uses that it is here for.
FAMILIES = {
    "llama": tuple(USES),  # dense
    "gemma3_text": ("composite",),  # sliding window
    "gpt2": ("adapters",),  # learned positions, Conv1D
    "qwen3_moe": ("composite", "sla"),  # mixture of experts
    "modernbert-decoder": ("scorer",),  # a head with layers
    "mamba": ("processor", "composite", "judge"),  # state space
    "jamba": ("judge", "sla"),  # hybrid
    "hy_v4": ("elhsr",),  # several residual streams
    "qwen2_vl": ("elhsr", "prefill", "scorer"),  # positions of three axes
    "openai-gpt": ("processor", "prefill"),  # no cache
    "reformer": ("composite", "prefill"),  # a cache of its own
    "bart": ("composite",),  # rows of one length only
    "rwkv": ("processor",),  # not exact in transformers itself
}
EXPECTED = {
    ("mamba", "processor"): "slow path",
    ("mamba", "composite"): "refused",
    ("mamba", "judge"): "slow path",
    ("jamba", "judge"): "slow path",
    ("jamba", "sla"): "refused",
    ("hy_v4", "elhsr"): "refused",
    ("openai-gpt", "processor"): "slow path",
    ("openai-gpt", "prefill"): "slow path",
    ("reformer", "composite"): "refused",
    ("reformer", "prefill"): "slow path",
    ("rwkv", "processor"): "n/a",
}


@pytest.mark.parametrize("model_type", FAMILIES)
@pytest.mark.filterwarnings("ignore")
def test_one_architecture_of_every_family(model_type):
    found = row(model_type, FAMILIES[model_type])["cells"]
    assert {use: one["kind"] for use, one in found.items()} == {
        use: EXPECTED.get((model_type, use), "exact") for use in FAMILIES[model_type]
    }, found


@pytest.fixture(scope="module")
def subject():
    return Subject("llama")


class GuideOfAnotherRow(SeparateModels):
    """Broken: every row gets the guide's logits of its neighbor."""

    def read(self, *args, **kwargs):
        reading = super().read(*args, **kwargs)
        return replace(reading, guides=[logits.roll(1, dims=0) for logits in reading.guides])


class Unguided(GuidedCausalLM):
    """Broken: the weights have no effect."""

    def weights_of_columns(self, *args):
        return super().weights_of_columns(*args) * 0


@pytest.mark.parametrize(
    ("place", "broken"),
    [
        ("hf_reward_ext.genarm.guided.SeparateModels", GuideOfAnotherRow),
        ("architectures.uses.GuidedCausalLM", Unguided),
    ],
)
def test_a_broken_composite_is_wrong(subject, place, broken, monkeypatch):
    assert cell(composite, subject).kind == "exact"
    monkeypatch.setattr(place, broken)
    found = cell(composite, subject)
    assert found.kind == "wrong" and "instead of" in found.note


def test_a_search_that_keeps_the_wrong_rows_is_wrong(subject, monkeypatch):
    keep = TreeDecoder._keep

    def reversed_cache(self, *args):
        keep(self, *args)
        if len(self._ids):
            self.cache.reorder_cache(torch.arange(len(self._ids)).flip(0))

    monkeypatch.setattr(TreeDecoder, "_keep", reversed_cache)
    assert cell(USES["sla"], subject).kind == "wrong"


def raises(error):
    def use(subject):
        raise error

    return use


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (WrongError("greedy: 1 instead of 2"), "wrong"),
        (UnsoundError("beams: 0.1 nats"), "n/a"),
        (KeyError("keys"), "crash"),
        (ValueError("A value was given, but another is needed. Pass it."), "crash"),  # not raised by the package
    ],
)
def test_what_a_use_raises_decides_its_cell(subject, error, kind):
    assert cell(raises(error), subject).kind == kind


def test_only_sentences_of_the_package_are_refusals(subject):
    def no_guide(_):
        return GuidedCausalLM(subject.policy, [], alpha=[1.0, 2.0])

    def no_ids(_):
        return subject.policy()  # transformers has words of its own for it

    assert cell(no_guide, subject).kind == "refused"
    assert cell(no_ids, subject).kind == "crash"
    with pytest.raises(ValueError) as caught:
        raise ValueError("A sentence. And another.")
    assert not is_ours(caught.value)


def test_transformers_that_is_not_exact_is_not_our_fault():
    subject = Subject("rwkv")
    assert subject.kind is None and cell(composite, subject).kind == "n/a" and "nats" in subject.evidence


def test_every_type_has_a_place():
    assert set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) <= set(MODEL_TYPES)
    assert set(UNBUILT) <= set(MODEL_TYPES)
    assert row("blt") == {"unbuilt": UNBUILT["blt"]}


@pytest.mark.parametrize("model_type", ["llama", "gemma3", "qwen4_exp_text", "bart", "zamba2"])
def test_tiny_models_are_tiny_and_seeded(model_type):
    models = [tiny_model(model_type, seed=seed) for seed in (0, 0, 1)]
    weights = [torch.cat([p.flatten() for p in model.parameters()]) for model in models]
    assert len(weights[0]) < 200_000
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_layers_are_of_every_kind():
    assert small_config("gemma3_text").layer_types == ["sliding_attention", "full_attention"]
    assert small_config("qwen3_5_text").layer_types == ["linear_attention", "full_attention"]
    assert small_config("deepseek_v3", q_lora_rank=4).q_lora_rank == 4
    assert small_config("falcon_h1").mamba_d_ssm == OWN["falcon_h1"]["mamba_d_ssm"]


def test_the_reference_reads_rows_alone_and_once():
    model = tiny_model("llama")
    calls = []
    model.register_forward_hook(lambda module, args, output: calls.append(output.logits.shape))
    reader = FreshReader(model)
    assert torch.equal(reader.last_logits((3, 4, 5)), reader.last_logits((3, 4, 5)))
    assert calls == [(1, 3, 32)]


def made_row(**cells):
    return {"dtype": "float64", "batch": "ragged", "unsound": {}, "evidence": "", "cells": cells}


def test_the_page_counts_and_lists():
    refused = {"kind": "refused", "note": "ValueError: The cache of `XForCausalLM` has 3 layers. Use another."}
    rows = {
        "a": made_row(processor={"kind": "exact", "note": ""}, composite=refused),
        "b": made_row(processor={"kind": "wrong", "note": "greedy: 1 instead of 2"}, composite=refused),
        "c": {"unbuilt": "no reason"},
    }
    newer = {**rows, "b": made_row(processor={"kind": "exact", "note": ""}, composite=refused)}
    text = page([{"title": "one", "rows": rows}, {"title": "two", "rows": newer}])
    assert count(rows)["composite"] == {"refused": 2} and count(rows)["processor"] == {"exact": 1, "wrong": 1}
    assert "2 of 3 types are built." in text and "| all | 1 | 0 | 2 | 0 | 1 | 0 |" in text
    assert "| a | float64 | ragged | exact | refused 1 |" in text and "| **wrong** | refused 1 |" in text
    assert "1. The cache of `...` has ... layers. Use another." in text and "\n2. " not in text
    assert "| b | processor | **wrong** | exact |" in text and "* b: greedy: 1 instead of 2" in text
    assert "* c: no reason" in text
    json.dumps(rows)
    assert Cell(KINDS[0]).note == ""

"""Hidden states that an engine writes to files; tests/engines/test_vllm_states.py runs the real one."""

from types import SimpleNamespace

import fake_vllm
import pytest
import torch
from fake_vllm import FakeLLM, FakeStateLLM
from tiny import tiny_causal_lm, tiny_tokenizer

from hf_reward_ext.best_of_n import EngineBestOfN
from hf_reward_ext.elhsr import ELHSRModel
from hf_reward_ext.engines import Sampling, VllmGenerator, VllmStateGenerator, vllm_state_arguments

PROMPTS = ["w3 w4", [{"role": "user", "content": "w5"}]]


@pytest.fixture
def llm(monkeypatch, tmp_path):
    fake_vllm.install(monkeypatch)
    monkeypatch.setattr("hf_reward_ext.engines.vllm_states.load_final_norm", lambda *_, dtype: lambda states: -states)
    return FakeStateLLM(tiny_tokenizer(), tiny_causal_lm().config, vllm_state_arguments([0, 2, 3], tmp_path))


def rows(states, layer):
    return None if states[layer] is None else states[layer][0, :, 0].tolist()


@pytest.mark.parametrize("last_token", ["forward", "skip"])
def test_states_of_the_tokens_of_every_candidate(llm, last_token):
    generator = VllmStateGenerator(llm, last_token=last_token)
    groups = generator.generate_and_read(PROMPTS, 3, Sampling(max_new_tokens=4), read=tuple)
    plain = VllmGenerator(FakeLLM(tiny_tokenizer())).generate(PROMPTS, 3, Sampling(max_new_tokens=4))
    assert [[one.token_ids for one, _ in group] for group in groups] == [
        [one.token_ids for one in group] for group in plain
    ]
    for one, states in (pair for group in groups for pair in group):
        ids = one.token_ids if last_token == "forward" else one.token_ids[:-1]
        assert states[1] is None and rows(states, 0) == pytest.approx(ids)
        assert rows(states, 2) == pytest.approx([token + 0.02 for token in ids])
        assert rows(states, 3) == pytest.approx([-token - 0.03 for token in ids])  # after the norm
    assert not list(llm.folder.iterdir())
    assert len(llm.requests) == (12 if last_token == "forward" else 6)


def test_without_a_reader_the_files_are_deleted_too(llm):
    assert len(VllmStateGenerator(llm).generate(PROMPTS, 2, Sampling(max_new_tokens=4))[1]) == 2
    assert not list(llm.folder.iterdir())


def test_rewards_of_a_head(llm):
    torch.manual_seed(0)
    head = ELHSRModel.from_policy(tiny_causal_lm(), layers=[0, 3])
    settings = dict(num_candidates=3, max_new_tokens=4, seed=1)
    found = EngineBestOfN(VllmStateGenerator(llm), head, **settings)(PROMPTS[:1])
    assert len(found[0]) == 1  # the best of three
    [pairs] = VllmStateGenerator(llm).generate_and_read(PROMPTS[:1], 3, Sampling(4, seed=1), read=tuple)
    with torch.no_grad():
        expected = max(float(head(states, torch.ones(1, 3, dtype=torch.bool))) for _, states in pairs)
    assert found[0][0]["score"] == pytest.approx(expected)


@pytest.mark.parametrize(("fields", "message"), [
    ({"layers": [1, 3]}, r"must give the hidden states \[1, 3\] of the head, got an engine without \[1\]"),
    ({"layers": [0], "features": "logits", "vocab_size": 32}, "must read hidden states, got a head with `features="),
])  # fmt: skip
def test_heads_that_the_engine_cannot_serve_are_refused(llm, fields, message):
    fields.pop("vocab_size", None)
    with pytest.raises(ValueError, match=message):
        EngineBestOfN(VllmStateGenerator(llm), ELHSRModel.from_policy(tiny_causal_lm(), **fields))


def test_a_head_of_another_model_is_refused(llm):
    head = ELHSRModel.from_policy(tiny_causal_lm(num_hidden_layers=2), layers=[0])
    with pytest.raises(ValueError, match="`num_layers=3`, but this head was trained with `num_layers=2`"):
        EngineBestOfN(VllmStateGenerator(llm), head)
    with pytest.raises(ValueError, match="or use a `VllmStateGenerator`"):
        EngineBestOfN(VllmGenerator(FakeLLM(tiny_tokenizer())), head)


def test_engines_of_the_other_kind_are_refused(llm):
    with pytest.raises(ValueError, match="`llm` must not give hidden states"):
        VllmGenerator(llm)
    with pytest.raises(ValueError, match="`llm` must give hidden states, got an engine that gives none"):
        VllmStateGenerator(FakeLLM(tiny_tokenizer()))
    llm.llm_engine.vllm_config.kv_transfer_config.kv_connector = "ExampleHiddenStatesConnector"
    with pytest.raises(ValueError, match="`llm` must give hidden states"):
        VllmStateGenerator(llm)


def test_a_setting_that_the_engine_would_not_apply_is_refused(llm, monkeypatch):
    monkeypatch.setattr(llm, "get_default_sampling_params", lambda: SimpleNamespace(min_p=0.1, repetition_penalty=1.0))
    with pytest.raises(ValueError, match="must have no `min_p`"):
        VllmStateGenerator(llm)


@pytest.mark.parametrize("layers", [[], [-1], [2, 2]])
def test_layers_that_do_not_exist(layers, tmp_path):
    with pytest.raises(ValueError, match="`layers` must be different hidden states from 0"):
        vllm_state_arguments(layers, tmp_path)


def test_a_prompt_without_room_for_the_next_token_is_refused(llm):
    with pytest.raises(ValueError, match="must leave room"):
        VllmStateGenerator(llm).generate(["w3 " * 507], 2, Sampling(max_new_tokens=4))
    assert not llm.requests

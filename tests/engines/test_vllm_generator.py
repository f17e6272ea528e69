"""What is asked of `vllm.LLM`, and what is refused; tests/engines/test_vllm_llm.py runs the real one."""

import json
import sys

import fake_vllm
import pytest
import torch
from fake_vllm import FakeLLM
from tiny import tiny_causal_lm, tiny_tokenizer

from hf_reward_ext.best_of_n import EngineBestOfN
from hf_reward_ext.cli.main import main
from hf_reward_ext.confidence import GroupConfidence
from hf_reward_ext.engines import Generator, Sampling, VllmGenerator
from hf_reward_ext.engines.generator import derive_seed

PROMPTS = ["w3 w4", [{"role": "user", "content": "w5"}]]


@pytest.fixture
def generator(monkeypatch):
    fake_vllm.install(monkeypatch)
    return VllmGenerator(FakeLLM(tiny_tokenizer()), log_probabilities=True)


def test_one_request_per_prompt_with_every_setting(generator):
    sampling = Sampling(max_new_tokens=6, temperature=0.5, top_p=0.9, top_k=7, seed=3)
    assert isinstance(generator, Generator)
    groups = generator.generate(PROMPTS, 4, sampling, first=2)
    tokenizer = generator.tokenizer
    chat = tokenizer.apply_chat_template(PROMPTS[1], add_generation_prompt=True, return_dict=False)
    assert [one["prompt_token_ids"] for one, _ in generator.llm.requests] == [tokenizer(PROMPTS[0])["input_ids"], chat]
    for prompt, (_, asked) in zip(PROMPTS, generator.llm.requests, strict=True):
        assert vars(asked) == {
            "n": 4, "max_tokens": 6, "temperature": 0.5, "top_p": 0.9, "top_k": 7, "min_p": 0.0, "logprobs": 0,
            "repetition_penalty": 1.25, "seed": derive_seed(3, prompt, 0) + 2, "detokenize": False,
        }  # fmt: skip
    for one in groups[0]:
        assert one.text == tokenizer.decode(one.token_ids, skip_special_tokens=True) and one.num_tokens == 3
        assert one.log_probabilities == [-token / 8 for token in one.token_ids]


def test_candidates_do_not_depend_on_waves(generator):
    whole = generator.generate(PROMPTS, 4, Sampling())
    parts = [generator.generate(PROMPTS, 2, Sampling(), first=first) for first in (0, 2)]
    assert [begin + rest for begin, rest in zip(*parts, strict=True)] == whole
    assert generator.generate([], 4, Sampling()) == []


def test_best_of_n_by_its_log_probabilities(generator):
    rows = EngineBestOfN(generator, "mean_log_probability", num_candidates=4, max_new_tokens=4)("w3", seed=1)
    assert rows[0]["score"] == max(row["score"] for row in rows)


def test_confidence_from_the_most_probable_tokens(monkeypatch):
    fake_vllm.install(monkeypatch)
    generator = VllmGenerator(FakeLLM(tiny_tokenizer()), log_probabilities=True, top_log_probabilities=4)
    [[one]] = generator.generate(["w3"], 1, Sampling(max_new_tokens=4))
    tops = [sorted([-token / 8, -0.1, -0.35, -0.6, -0.85], reverse=True)[:4] for token in one.token_ids]
    assert one.top_log_probabilities == [pytest.approx(top) for top in tops]
    rows = EngineBestOfN(generator, GroupConfidence(top_k=4, window=2), num_candidates=1, max_new_tokens=4)("w3")
    values = [-sum(top) / 4 for top in tops]
    assert rows[0]["score"] == pytest.approx(min(sum(values[:2]) / 2, sum(values[1:]) / 2))
    with pytest.raises(ValueError, match="must return the 20 largest log-probabilities of each step, got 4"):
        GroupConfidence().of_top(one.top_log_probabilities)
    for few in (generator, VllmGenerator(FakeLLM(tiny_tokenizer()))):
        with pytest.raises(ValueError, match="'confidence' needs `VllmGenerator"):
            EngineBestOfN(few, "confidence")


@pytest.mark.parametrize(("settings", "message"), [
    ({"top_log_probabilities": 3}, "`log_probabilities` must be True with `top_log_probabilities`"),
    ({"log_probabilities": True, "top_log_probabilities": 21}, "at most the 20 that the engine returns, got 21"),
    ({"log_probabilities": True, "top_log_probabilities": -1}, "`top_log_probabilities` must be"),
])  # fmt: skip
def test_log_probabilities_that_the_engine_does_not_return(settings, message):
    with pytest.raises(ValueError, match=message):
        VllmGenerator(FakeLLM(tiny_tokenizer()), **settings)


@pytest.mark.parametrize(("prompts", "sampling", "message"), [
    (["w3", "w4 " * 508], Sampling(max_new_tokens=8), r"`prompts\[1\]` must leave room for `max_new_tokens=8`"),
    ([""], Sampling(), "at least one token"),
    (["w3"], Sampling(temperature=0), "`temperature` must be positive"),
])  # fmt: skip
def test_what_is_refused_before_a_request(generator, prompts, sampling, message):
    with pytest.raises(ValueError, match=message):
        generator.generate(prompts, 2, sampling)
    assert not generator.llm.requests


@pytest.mark.parametrize(("faults", "message"), [
    ({"finish_reason": "abort"}, "ended with 'abort'"),
    ({"num_outputs": 3}, "must return 2 candidates, got 3"),
])  # fmt: skip
def test_unfinished_candidates_are_an_error(monkeypatch, faults, message):
    fake_vllm.install(monkeypatch)
    with pytest.raises(RuntimeError, match=message):
        VllmGenerator(FakeLLM(tiny_tokenizer(), **faults)).generate(["w3"], 2, Sampling())


def test_what_is_no_engine():
    with pytest.raises(TypeError, match="`llm` must be a `vllm.LLM`, got a `Linear`"):
        VllmGenerator(torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="`llm` must generate text, got an engine with `runner='pooling'`"):
        VllmGenerator(FakeLLM(tiny_tokenizer(), runner_type="pooling"))
    processed = FakeLLM(tiny_tokenizer(), logprobs_mode="processed_logprobs")
    with pytest.raises(ValueError, match="before temperature and processors, got an engine with `logprobs_mode='proc"):
        VllmGenerator(processed, log_probabilities=True)
    VllmGenerator(processed)


@pytest.fixture
def command(tmp_path):
    tiny_causal_lm().save_pretrained(tmp_path / "policy")
    return ["bon", "--engine", "vllm", "--model", str(tmp_path / "policy"), "--prompt", "w3", "w4", "--num_candidates",
            "3", "--max_new_tokens", "4", "--reward_model", "mean_log_probability"]  # fmt: skip


def test_the_command(command, monkeypatch, capsys):
    asked = []

    def llm(**arguments):
        asked.append(arguments)
        return FakeLLM(tiny_tokenizer())

    fake_vllm.install(monkeypatch, LLM=llm)
    more = ["--dtype", "float32", "--vllm_arguments", '{"max_model_len": 64}', "--json"]
    assert main([*command, *more]) == 0
    assert asked == [{"model": command[4], "revision": None, "tokenizer_revision": None, "dtype": "float32",
                      "trust_remote_code": False, "max_model_len": 64}]  # fmt: skip
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [len(row["rewards"]) for row in rows] == [3, 3] and rows[0]["num_tokens"] == [3, 3, 3]
    assert main([*command, "--reward_model", "confidence", "--confidence_window", "2"]) == 0
    assert main([*command, "--max_new_tokens", "512"]) == 1
    assert "in a context of 512 tokens" in capsys.readouterr().err


def test_without_the_package_before_a_model_is_loaded(command, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "vllm", None)
    assert main(command) == 1
    assert "needs the package `vllm`" in (error := capsys.readouterr().err) and "hf_reward_ext[vllm]" in error


def test_adapters_and_several_processes_are_refused(command, monkeypatch, capsys):
    fake_vllm.install(monkeypatch)
    monkeypatch.setattr("hf_reward_ext.cli.engines.adapter_base", lambda *_: "Own/base")
    assert main(command) == 1
    assert "whole model for vLLM, got " in capsys.readouterr().err
    monkeypatch.setattr("hf_reward_ext.cli.engines.count_processes", lambda: 2)
    assert main(command) == 1
    assert "must run in one process, got 2" in capsys.readouterr().err

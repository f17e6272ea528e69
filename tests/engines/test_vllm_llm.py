"""The real `vllm.LLM` in this process: `make test-vllm VLLM=path/to/vllm MODEL=folder`, in the Python of vLLM."""

import os

import pytest
import torch
from cli_files import read_rows, write_rows
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_reward_ext.cli.main import main
from hf_reward_ext.engines import Sampling, VllmGenerator

vllm = pytest.importorskip("vllm")
from vllm.distributed import cleanup_dist_env_and_memory  # noqa: E402

MODEL = os.environ.get("VLLM_MODEL")
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.enable_socket,
    pytest.mark.skipif(not MODEL, reason="VLLM_MODEL is not set"),
]
PROMPTS = ["The capital of France is", [{"role": "user", "content": "What is 7 times 8?"}], "One, two, three,"]
# One part for each prompt: this version for CPUs has no seeds otherwise.
SMALL = dict(max_model_len=512, max_num_batched_tokens=4096, enforce_eager=True)


@pytest.fixture(scope="module")
def llm():
    llm = vllm.LLM(MODEL, dtype="float32", **SMALL)
    yield llm
    llm.llm_engine.engine_core.shutdown()
    cleanup_dist_env_and_memory()  # for the next engine


@pytest.fixture(scope="module")
def policy():
    return AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()


def prompt_ids(prompt, tokenizer):
    if isinstance(prompt, str):
        return tokenizer(prompt)["input_ids"]
    return tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)


def test_candidates_with_ids_and_log_probabilities(llm, policy):
    generator, tokenizer = VllmGenerator(llm, log_probabilities=True), AutoTokenizer.from_pretrained(MODEL)
    sampling = Sampling(max_new_tokens=12, temperature=0.8, top_k=40, seed=1)
    groups = generator.generate(PROMPTS, 4, sampling)
    for prompt, group in zip(PROMPTS, groups, strict=True):
        begin = prompt_ids(prompt, tokenizer)
        assert len({one.text for one in group}) > 1
        for one in group:
            assert one.text == tokenizer.decode(one.token_ids, skip_special_tokens=True)
            assert one.num_tokens == len(one.token_ids) == len(one.log_probabilities) <= 12
            with torch.no_grad():
                scored = policy(torch.tensor([[*begin, *one.token_ids]])).logits[0].log_softmax(-1)
            expected = [float(scored[len(begin) + place - 1, token]) for place, token in enumerate(one.token_ids)]
            assert one.log_probabilities == pytest.approx(expected, abs=1e-3)


def test_candidates_depend_on_seed_prompt_and_number_only(llm):
    generator, sampling = VllmGenerator(llm), Sampling(max_new_tokens=8, temperature=0.8, seed=1)
    whole = generator.generate(PROMPTS, 4, sampling)
    parts = [generator.generate(PROMPTS, 2, sampling, first=first) for first in (0, 2)]
    assert [begin + rest for begin, rest in zip(*parts, strict=True)] == whole
    assert [generator.generate([prompt], 4, sampling)[0] for prompt in PROMPTS] == whole
    assert generator.generate(PROMPTS, 4, Sampling(max_new_tokens=8, temperature=0.8, seed=2)) != whole


def test_greedy_candidates_are_those_of_generate(llm, policy):
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    groups = VllmGenerator(llm).generate(PROMPTS, 1, Sampling(max_new_tokens=16, temperature=0))
    for prompt, [one] in zip(PROMPTS, groups, strict=True):
        begin = torch.tensor([prompt_ids(prompt, tokenizer)])
        out = policy.generate(begin, do_sample=False, max_new_tokens=16, attention_mask=torch.ones_like(begin))
        assert one.token_ids == out[0, begin.shape[1] :].tolist()


def test_what_the_engine_would_shorten_is_refused(llm):
    with pytest.raises(ValueError, match="in a context of 512 tokens"):
        VllmGenerator(llm).generate(["a " * 600], 1, Sampling(max_new_tokens=8))


def test_the_command_resumes(llm, tmp_path, monkeypatch):
    monkeypatch.setattr(vllm, "LLM", lambda **_: llm)
    monkeypatch.chdir(tmp_path)
    data = write_rows(tmp_path / "prompts.jsonl", [{"prompt": f"{number} and"} for number in (1, 2, 3)])
    arguments = ["bon", "--engine", "vllm", "--model", MODEL, "--reward_model", "mean_log_probability", "--data", data,
                 "--num_candidates", "4", "--max_new_tokens", "6", "--batch_size", "1"]  # fmt: skip
    assert main([*arguments, "--output", "whole.jsonl"]) == 0
    ended, generate = [], llm.generate

    def interrupted(*given, **named):
        ended.append(given)
        if len(ended) == 2:
            raise KeyboardInterrupt
        return generate(*given, **named)

    monkeypatch.setattr(llm, "generate", interrupted)
    assert main([*arguments, "--output", "rows.jsonl"]) == 1
    assert main([*arguments, "--output", "rows.jsonl"]) == 0
    for row, whole in zip(read_rows(tmp_path / "rows.jsonl"), read_rows(tmp_path / "whole.jsonl"), strict=True):
        assert row["completions"] == whole["completions"]
        assert row["rewards"] == sorted(row["rewards"], reverse=True)
        assert row["rewards"] == pytest.approx(whole["rewards"], abs=1e-4)  # batches differ

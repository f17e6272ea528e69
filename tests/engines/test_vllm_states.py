"""ELHSR on the hidden states of the real vLLM; run as tests/engines/test_vllm_llm.py."""

import json
import os
import time
from statistics import median

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_reward_ext.best_of_n import EngineBestOfN
from hf_reward_ext.elhsr import ELHSRModel
from hf_reward_ext.engines import Sampling, VllmGenerator, VllmStateGenerator, vllm_state_arguments
from hf_reward_ext.engines.generator import derive_seed
from hf_reward_ext.sla import RewardTransformer

vllm = pytest.importorskip("vllm")
from vllm.distributed import cleanup_dist_env_and_memory  # noqa: E402

MODEL = os.environ.get("VLLM_MODEL")
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.enable_socket,
    pytest.mark.skipif(not MODEL, reason="VLLM_MODEL is not set"),
]
PROMPTS = ["The capital of France is", [{"role": "user", "content": "What is 7 times 8?"}], "One, two, three,"]
SMALL = dict(max_model_len=512, max_num_batched_tokens=4096, enforce_eager=True)


@pytest.fixture(scope="module")
def policy():
    return AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def head(policy):
    """Random weights, large enough that rewards differ; the first, a middle and the last state."""
    torch.manual_seed(0)
    head = ELHSRModel.from_policy(policy, layers=[0, policy.config.num_hidden_layers // 2, -1]).eval()
    torch.nn.init.normal_(head.linear.weight, std=0.05)
    return head


@pytest.fixture(scope="module")
def llm(head, tmp_path_factory):
    folder = tmp_path_factory.mktemp("states")
    llm = vllm.LLM(MODEL, dtype="float32", **SMALL, **vllm_state_arguments(head.config.layers, folder))
    llm.folder, llm.layers = folder, head.config.layers
    yield llm
    llm.llm_engine.engine_core.shutdown()
    cleanup_dist_env_and_memory()  # for the next engine


def second_pass(policy, head, begin, candidate):
    ids = torch.tensor([[*begin, *candidate.token_ids]])
    with torch.no_grad():
        states = policy(ids, output_hidden_states=True).hidden_states
        return states, head(states, torch.arange(ids.shape[1])[None] >= len(begin))


def prompt_ids(prompt, tokenizer):
    if isinstance(prompt, str):
        return tokenizer(prompt)["input_ids"]
    return tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)


def test_states_and_rewards_are_those_of_transformers(llm, head, policy):
    """Prints the largest differences."""
    generator, tokenizer = VllmStateGenerator(llm), AutoTokenizer.from_pretrained(MODEL)
    groups = generator.generate_and_read(PROMPTS, 4, Sampling(max_new_tokens=12, temperature=0.8, seed=1), read=tuple)
    of_states, of_rewards, rewards = [], [], []
    for prompt, group in zip(PROMPTS, groups, strict=True):
        begin = prompt_ids(prompt, tokenizer)
        assert len({one.text for one, _ in group}) > 1
        for one, states in group:
            expected, reward = second_pass(policy, head, begin, one)
            assert [place for place, state in enumerate(states) if state is not None] == head.config.layers
            for layer in head.config.layers:
                assert states[layer].shape == (1, one.num_tokens, policy.config.hidden_size)
                scale = expected[layer].abs().max()
                of_states.append(float((states[layer] - expected[layer][:, len(begin) :]).abs().max() / scale))
            own = head(states, torch.ones((1, one.num_tokens), dtype=torch.bool))
            of_rewards.append(float((own - reward).abs()))
            rewards.append(float(reward))
    spread = max(rewards) - min(rewards)
    print(json.dumps({"states": max(of_states), "rewards": max(of_rewards), "spread of rewards": spread}))
    assert max(of_states) < 1e-4 and max(of_rewards) < 1e-3 * spread
    assert not list(llm.folder.iterdir())  # every file was read and deleted


def test_candidates_are_those_of_their_seeds(llm, policy):
    """The sampler of vLLM for CPUs, with the noise of its seeds, on the distributions of a forward without a cache."""
    generator, tokenizer, sampling = VllmStateGenerator(llm), AutoTokenizer.from_pretrained(MODEL), Sampling(8, 0.8)
    groups = generator.generate(PROMPTS, 4, sampling)
    assert generator.generate(PROMPTS[1:2], 2, sampling, first=2) == [groups[1][2:]]
    for prompt, group in zip(PROMPTS, groups, strict=True):
        begin = prompt_ids(prompt, tokenizer)
        for number, one in enumerate(group):
            with torch.no_grad():
                logits = policy(torch.tensor([[*begin, *one.token_ids]])).logits[0, len(begin) - 1 : -1] / 0.8
            noise, drawn = torch.Generator().manual_seed(derive_seed(0, prompt, 0) + number), []
            for row in logits:
                own = torch.randint(0, 2**31, (1,), generator=noise, dtype=torch.long)
                drawn.append(int(torch.ops._C.fused_gumbel_argmax(row[None].contiguous(), own)))
            assert drawn == one.token_ids


def test_best_of_n_with_a_head(llm, head, policy):
    settings = dict(num_candidates=4, max_new_tokens=8, temperature=0.8, seed=2)
    rows = EngineBestOfN(VllmStateGenerator(llm), head, **settings)(PROMPTS[0], return_all=True)
    [group] = VllmStateGenerator(llm).generate(PROMPTS[:1], 4, Sampling(8, 0.8, seed=2))
    begin = AutoTokenizer.from_pretrained(MODEL)(PROMPTS[0])["input_ids"]
    expected = sorted((float(second_pass(policy, head, begin, one)[1]) for one in group), reverse=True)
    assert [row["score"] for row in rows] == pytest.approx(expected, abs=1e-3)


def test_a_channel_reads_the_same_states(llm, policy):
    torch.manual_seed(0)
    model = RewardTransformer.from_base(policy, channel_size=8, layers=llm.layers)
    with torch.no_grad():
        [group] = VllmStateGenerator(llm).generate_and_read(
            PROMPTS[:1], 4, Sampling(max_new_tokens=8, temperature=0.8), read=model.reward_channel
        )
        begin = AutoTokenizer.from_pretrained(MODEL)(PROMPTS[0])["input_ids"]
        for one, rewards in group:
            expected = model(torch.tensor([[*begin, *one.token_ids]])).token_rewards[:, len(begin) :]
            torch.testing.assert_close(rewards, expected, atol=1e-3, rtol=1e-3)


def test_the_last_token_can_be_left_out(llm, head):
    sampling = Sampling(max_new_tokens=6, temperature=0.8, seed=1)
    whole = VllmStateGenerator(llm).generate_and_read(PROMPTS[:1], 4, sampling, read=lambda states: states[0])
    parts = VllmStateGenerator(llm, last_token="skip").generate_and_read(
        PROMPTS[:1], 4, sampling, read=lambda states: states[0]
    )
    for (one, state), (other, part) in zip(whole[0], parts[0], strict=True):
        assert one == other
        torch.testing.assert_close(part, state[:, : max(1, one.num_tokens - 1)])


def test_heads_that_the_engine_cannot_serve_are_refused(llm, policy):
    other = ELHSRModel.from_policy(policy, layers=[1])
    with pytest.raises(ValueError, match=r"hidden states \[1\] of the head, got an engine without \[1\]"):
        EngineBestOfN(VllmStateGenerator(llm), other)
    with pytest.raises(ValueError, match="Use `VllmStateGenerator`"):
        VllmGenerator(llm)
    named = ELHSRModel.from_policy(policy, layers=[0])
    named.config.num_layers = 7
    with pytest.raises(ValueError, match="num_layers"):
        EngineBestOfN(VllmStateGenerator(llm), named)


def test_time_against_a_second_pass(llm, head, policy):
    """Prints seconds of the processor for 8 candidates of a prompt of 150 tokens, medians of three rounds."""
    tokenizer, ways = AutoTokenizer.from_pretrained(MODEL), ("forward", "skip", "second pass")
    prompt = tokenizer.decode(tokenizer("The sea is blue and wide. " * 60)["input_ids"][:150])
    begin, seconds, group = tokenizer(prompt)["input_ids"], {way: [] for way in ways}, []

    def read(states):
        return float(head(states, torch.ones(states[0].shape[:2], dtype=torch.bool)))

    for number in range(4):
        for way in ways:
            start = time.process_time()
            if way == "second pass":
                for one, _ in group:
                    second_pass(policy, head, begin, one)
            else:
                generator, sampling = VllmStateGenerator(llm, last_token=way), Sampling(24, 0.8, seed=number)
                [group] = generator.generate_and_read([prompt], 8, sampling, read=read)
            if number:  # the first round warms up
                seconds[way].append(time.process_time() - start)
    found = {way: round(median(times), 2) for way, times in seconds.items()}
    print(json.dumps(found))
    assert found["forward"] - found["skip"] < found["second pass"]

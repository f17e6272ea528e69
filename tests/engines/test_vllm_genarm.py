"""GenARM in the worker of the real vLLM; run as tests/engines/test_vllm_llm.py."""

import os

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_reward_ext.engines import Sampling, VllmGenerator
from hf_reward_ext.genarm import GenARMLogitsProcessor, vllm_arguments
from hf_reward_ext.genarm.combine import guided_logps

vllm = pytest.importorskip("vllm")
from vllm.distributed import cleanup_dist_env_and_memory  # noqa: E402

MODEL = os.environ.get("VLLM_MODEL")
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.enable_socket,
    pytest.mark.skipif(not MODEL, reason="VLLM_MODEL is not set"),
]
PROMPTS = ["The capital of France is", "One, two, three,", "Write a sentence about the sea:", "In 1969"]
SMALL = dict(max_model_len=512, max_num_batched_tokens=4096, enforce_eager=True)
ALPHA, NEW = 1.0, 16


@pytest.fixture(scope="module")
def policy():
    return AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def guide(policy, tmp_path_factory):
    """The policy with noise: it prefers other tokens, and is not degenerate."""
    guide = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in guide.model.layers[-4:].parameters():
            weight.add_(torch.randn_like(weight) * weight.std() * 0.5)
    folder = tmp_path_factory.mktemp("guide")
    guide.save_pretrained(folder)
    guide.folder = str(folder)
    return guide


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(MODEL)


@pytest.fixture(scope="module")
def llm(guide):
    llm = vllm.LLM(MODEL, dtype="float32", **SMALL, **vllm_arguments(guide.folder, ALPHA, dtype="float32"),
                   logprobs_mode="processed_logprobs")  # fmt: skip
    yield llm
    llm.llm_engine.engine_core.shutdown()
    cleanup_dist_env_and_memory()  # for the next engine


def ask(llm, prompts, **settings):
    settings = {"max_tokens": NEW, "temperature": 0.0, "detokenize": False, **settings}
    seeds = settings.pop("seeds", [None] * len(prompts))
    params = [vllm.SamplingParams(**settings, seed=seed) for seed in seeds]
    outputs = llm.generate([{"prompt_token_ids": ids} for ids in prompts], params, use_tqdm=False)
    return [output.outputs[0] for output in outputs]


def greedy(policy, guide, ids, alpha=ALPHA):
    begin = torch.tensor([ids])
    processors = [GenARMLogitsProcessor(guide, alpha)] if alpha else []
    out = policy.generate(
        begin, attention_mask=torch.ones_like(begin), do_sample=False, max_new_tokens=NEW, logits_processor=processors
    )
    return out[0, len(ids) :].tolist()


@torch.no_grad()
def guided(policy, guide, begin, written):
    """Guided log-probabilities of every step, by two forwards without a cache."""
    ids = torch.tensor([[*begin, *written]])
    base, other = (model(ids, use_cache=False).logits[0, len(begin) - 1 : -1] for model in (policy, guide))
    return guided_logps(base, [other], torch.tensor([[ALPHA]]), base.shape[-1])


def test_greedy_tokens_are_those_of_our_processor_alone_and_in_a_batch(llm, policy, guide, tokenizer):
    prompts = [tokenizer(text)["input_ids"] for text in PROMPTS]
    expected = [greedy(policy, guide, ids) for ids in prompts]
    assert expected != [greedy(policy, guide, ids, alpha=0) for ids in prompts]
    assert [ask(llm, [ids])[0].token_ids for ids in prompts] == expected
    assert [one.token_ids for one in ask(llm, prompts)] == expected


def test_sampled_tokens_are_those_of_the_guided_distribution_and_its_seeds(llm, policy, guide, tokenizer):
    """The sampler of vLLM for CPUs, with the noise of its seeds, on distributions of two models without a cache."""
    prompts = [tokenizer(text)["input_ids"] for text in PROMPTS for _ in range(3)]
    seeds = list(range(len(prompts)))
    made = ask(llm, prompts, temperature=0.8, logprobs=0, seeds=seeds)
    assert len({tuple(one.token_ids) for one in made}) > len(PROMPTS)
    for ids, seed, one in zip(prompts, seeds, made, strict=True):
        scores = guided(policy, guide, ids, one.token_ids) / 0.8
        noise, drawn = torch.Generator().manual_seed(seed), []
        for row in scores:
            own = torch.randint(0, 2**31, (1,), generator=noise, dtype=torch.long)
            drawn.append(int(torch.ops._C.fused_gumbel_argmax(row[None].contiguous(), own)))
        assert drawn == list(one.token_ids)
        expected = scores.log_softmax(-1)[range(len(drawn)), drawn]
        found = [step[token].logprob for step, token in zip(one.logprobs, one.token_ids, strict=True)]
        assert found == pytest.approx(expected.tolist(), abs=1e-3)


def test_requests_that_join_and_leave_at_any_step(llm, policy, guide, tokenizer):
    """Other lengths, other weights, one without a guide: each as alone."""
    prompts = [tokenizer(text)["input_ids"] for text in PROMPTS]
    engine, asked = llm.llm_engine, {}
    plan = [(0, 0, 16, None), (0, 1, 3, 0.0), (2, 2, 9, 0.5), (5, 3, 12, None), (5, 0, 7, [2.0])]
    finished, step = {}, 0
    while plan or engine.has_unfinished_requests():
        for start, place, count, alpha in [one for one in plan if one[0] == step]:
            extra = None if alpha is None else {"genarm_alpha": alpha}
            name = f"{place}-{count}"
            params = vllm.SamplingParams(max_tokens=count, temperature=0.0, extra_args=extra, detokenize=False)
            engine.add_request(name, {"prompt_token_ids": prompts[place]}, params)
            asked[name] = (place, count, ALPHA if alpha is None else alpha)
            plan.remove((start, place, count, alpha))
        for output in engine.step():
            if output.finished:
                finished[output.request_id] = list(output.outputs[0].token_ids)
        step += 1
    for name, (place, count, alpha) in asked.items():
        weight = alpha[0] if isinstance(alpha, list) else alpha
        assert finished[name] == greedy(policy, guide, prompts[place], weight)[:count], name


def test_weights_of_a_request_that_are_no_numbers_are_refused(llm, tokenizer):
    with pytest.raises(vllm.exceptions.VLLMValidationError, match="`genarm_alpha` must be a number"):
        ask(llm, [tokenizer(PROMPTS[0])["input_ids"]], extra_args={"genarm_alpha": "much"})


def test_candidates_of_a_guided_engine(llm):
    generator = VllmGenerator(llm)
    assert generator.describe()["additional_config"]["genarm"]["alpha"] == [ALPHA]
    groups = generator.generate(PROMPTS, 4, Sampling(max_new_tokens=6, temperature=0.8))
    assert all(len({one.text for one in group}) > 1 for group in groups)

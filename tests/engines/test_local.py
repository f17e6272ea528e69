"""Candidates of a model in this process."""

import pytest
import torch
from tiny import EOS, tiny_causal_lm, tiny_tokenizer

from hf_reward_ext import LogitsReward
from hf_reward_ext.engines import ContinuousBatchingGenerator, Sampling, TransformersGenerator

PROMPTS = ["w3 w4", "w5 w6 w7 w8", "w9"]
CHATS = [[{"role": "user", "content": text}] for text in PROMPTS]


@pytest.fixture(scope="module")
def model():
    return tiny_causal_lm()


def of_distribution(model, prompt_ids, generated):
    """Log-probabilities by one forward over the whole text."""
    ids = torch.tensor([[*prompt_ids, *generated.token_ids]])
    with torch.no_grad():
        scored = model(ids).logits[0].log_softmax(-1)
    return [float(scored[len(prompt_ids) + place - 1, one]) for place, one in enumerate(generated.token_ids)]


@pytest.mark.parametrize(("kind", "prompts"), [
    (TransformersGenerator, PROMPTS),
    (TransformersGenerator, CHATS),
    (ContinuousBatchingGenerator, [PROMPTS[0], CHATS[1]]),
], ids=["text", "chat", "both"])  # fmt: skip
def test_candidates_with_ids_and_log_probabilities(kind, prompts, model):
    tokenizer = tiny_tokenizer()
    engine = kind(model, tokenizer, log_probabilities=True)
    sampling = Sampling(max_new_tokens=6, seed=1)
    groups = engine.generate(prompts, 4, sampling)
    assert engine.generate(prompts, 4, sampling) == groups
    assert engine.generate(prompts, 4, Sampling(max_new_tokens=6, seed=2)) != groups
    for prompt, group in zip(prompts, groups, strict=True):
        if isinstance(prompt, str):
            prompt_ids = tokenizer(prompt)["input_ids"]
        else:
            prompt_ids = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
        assert len({tuple(one.token_ids) for one in group}) > 1
        for one in group:
            assert one.num_tokens == len(one.token_ids) <= 6 and EOS not in one.token_ids[:-1]
            assert one.text == tokenizer.decode(one.token_ids, skip_special_tokens=True)
            assert one.log_probabilities == pytest.approx(of_distribution(model, prompt_ids, one), abs=1e-4)


def test_candidates_do_not_depend_on_batches_and_calls(model):
    sampling = Sampling(max_new_tokens=6, temperature=0.8, top_p=0.9, top_k=20)
    whole = TransformersGenerator(model, tiny_tokenizer()).generate(PROMPTS, 4, sampling)
    engine = TransformersGenerator(model, tiny_tokenizer(), batch_size=1)
    parts = [engine.generate(PROMPTS, 2, sampling, first=first) for first in (0, 2)]
    assert [begin + rest for begin, rest in zip(*parts, strict=True)] == whole


def test_mean_log_probability_is_that_of_the_reader(model):
    engine = TransformersGenerator(model, tiny_tokenizer(), log_probabilities=True)
    with LogitsReward(model, "mean_log_probability") as reader:
        [group] = engine.generate(PROMPTS[:1], 5, Sampling(max_new_tokens=8, temperature=0.7))
    means = [sum(one.log_probabilities) / one.num_tokens for one in group]
    assert means == pytest.approx(reader.rewards.tolist(), abs=1e-5)


@pytest.mark.parametrize("kind", [TransformersGenerator, ContinuousBatchingGenerator])
def test_greedy_candidates_are_those_of_generate(kind, model):
    tokenizer = tiny_tokenizer()
    groups = kind(model, tokenizer).generate(PROMPTS, 1, Sampling(max_new_tokens=6, temperature=0))
    for prompt, [one] in zip(PROMPTS, groups, strict=True):
        inputs = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
        out = model.generate(**inputs, do_sample=False, max_new_tokens=6)
        assert one.token_ids == out[0, inputs["input_ids"].shape[1] :].tolist()


def test_a_small_cache_gives_every_candidate(model):
    engine = ContinuousBatchingGenerator(model, tiny_tokenizer(), rows=2)
    groups = engine.generate(PROMPTS, 5, Sampling(max_new_tokens=20))
    assert [len(group) for group in groups] == [5, 5, 5]


def test_log_probabilities_of_another_distribution_are_refused(model):
    engine = ContinuousBatchingGenerator(model, tiny_tokenizer(), log_probabilities=True)
    for sampling in (Sampling(temperature=0.7), Sampling(top_p=0.9), Sampling(top_k=3), Sampling(temperature=0)):
        with pytest.raises(ValueError, match="`log_probabilities` must come with temperature 1"):
            engine.generate(PROMPTS, 1, sampling)


@pytest.mark.parametrize(("name", "value"), [
    ("repetition_penalty", 1.3), ("no_repeat_ngram_size", 2), ("bad_words_ids", [[3]]), ("min_new_tokens", 2),
    ("suppress_tokens", [3]), ("min_p", 0.1), ("stop_strings", ["w3"]), ("num_beams", 2),
])  # fmt: skip
def test_a_setting_that_continuous_batching_would_not_apply_is_refused(name, value):
    model = tiny_causal_lm()
    setattr(model.generation_config, name, value)
    with pytest.raises(ValueError, match=f"would not apply, got .*'{name}'"):
        ContinuousBatchingGenerator(model, tiny_tokenizer())


def test_what_is_no_prompt_or_model(model):
    with pytest.raises(TypeError, match="`model` must have `generate_batch`"):
        ContinuousBatchingGenerator(torch.nn.Linear(1, 1), tiny_tokenizer())
    for kind in (TransformersGenerator, ContinuousBatchingGenerator):
        with pytest.raises(ValueError, match="at least one token"):
            kind(model, tiny_tokenizer()).generate([""], 1, Sampling())
        with pytest.raises(ValueError, match="`temperature` must be positive"):
            kind(model, tiny_tokenizer()).generate(PROMPTS, 2, Sampling(temperature=0))

"""Best of N by an engine is best of N by the pipeline."""

import json

import pytest
import torch
from tiny import tiny_causal_lm, tiny_tokenizer
from transformers import pipeline, set_seed

from hf_reward_ext import ELHSRModel, Pruning, write_best_of_n
from hf_reward_ext.best_of_n import EngineBestOfN, ExpectedImprovement, preference_rows
from hf_reward_ext.confidence import GroupConfidence, Length
from hf_reward_ext.engines import Generated, TransformersGenerator
from hf_reward_ext.engines.generator import derive_seed

PROMPTS = [f"w{number} w{number + 1}" for number in range(3, 8)]
CHATS = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]


def text_of(completion):
    return completion if isinstance(completion, str) else completion[-1]["content"]


def variety(prompts, completions):
    return [float(len(set(text_of(one).split()))) for one in completions]


def last_word(completion):
    return (completion.split() or [None])[-1]


class Words:
    """An engine without a model, which records its calls."""

    def __init__(self, has_numbers=True):
        self.has_numbers, self.calls = has_numbers, []

    def describe(self):
        return {"engine": "words"}

    def generate(self, prompts, num_candidates, sampling, first=0):
        self.calls.append((list(prompts), num_candidates, sampling, first))
        return [[self._one(derive_seed(sampling.seed, prompt, first + number)) for number in range(num_candidates)]
                for prompt in prompts]  # fmt: skip

    def _one(self, seed):
        ids = [8 + (seed >> shift) % 6 for shift in range(0, 4 + seed % 7, 2)]
        text = " ".join(f"w{one - 8}" for one in ids)
        return Generated(text, len(ids), ids, [-float(one) for one in ids]) if self.has_numbers else Generated(text)


@pytest.fixture
def engine():
    return EngineBestOfN(Words(), variety, num_candidates=8, seed=0)


@pytest.mark.parametrize(
    "reward", [variety, "mean_log_probability", Length(per_token=-1)], ids=["function", "log-probability", "length"]
)
@pytest.mark.parametrize("prompts", [PROMPTS[:2], CHATS[:2]], ids=["text", "chat"])
@pytest.mark.parametrize("return_full_text", [True, False])
def test_the_same_candidates_give_the_results_of_the_pipeline(prompts, reward, return_full_text):
    model, tokenizer = tiny_causal_lm(), tiny_tokenizer()
    settings = dict(max_new_tokens=6, temperature=0.7, top_p=0.9, return_all=True, seed=4)
    pipe = pipeline("reward-bon", model=model, tokenizer=tokenizer, reward_model=reward)
    # A rule that never stops: the pipeline then draws every candidate from its own random numbers, as engines do.
    expected = pipe(
        prompts, num_candidates=(2, 6), stop=lambda drawn: None, return_full_text=return_full_text, top_k=0, **settings
    )
    generator = TransformersGenerator(model, tokenizer, log_probabilities=True)
    found = EngineBestOfN(generator, reward)(
        prompts, num_candidates=(2, 6), stop=lambda drawn: None, return_full_text=return_full_text, **settings
    )
    for group, records in zip(found, expected, strict=True):
        assert [one.keys() for one in group] == [one.keys() for one in records]
        assert [one["score"] for one in group] == pytest.approx([one["score"] for one in records], abs=1e-5)
        key = lambda one: (str(one["generated_text"]), one["num_tokens"])  # noqa: E731
        assert sorted(map(key, group)) == sorted(map(key, records))


def test_one_prompt_and_many(engine):
    [best] = engine(PROMPTS[0])
    assert engine(PROMPTS[:1]) == [[best]] and best["generated_text"].startswith(PROMPTS[0])
    [chat] = engine(CHATS[0])
    assert chat["generated_text"][:-1] == CHATS[0] and chat["generated_text"][-1]["role"] == "assistant"
    assert len(engine(PROMPTS, return_all=True, num_candidates=3)[4]) == 3


def test_without_a_seed_calls_differ_and_follow_that_of_torch():
    engine = EngineBestOfN(Words(), variety, return_all=True)
    before = torch.get_rng_state()
    EngineBestOfN(Words(), variety)
    assert torch.equal(before, torch.get_rng_state())
    assert engine(PROMPTS) != engine(PROMPTS)
    results = []
    for _ in range(2):
        set_seed(3)
        results.append(engine(PROMPTS))
    assert results[0] == results[1]


def test_candidates_in_chunks_are_the_same(engine):
    whole = engine(PROMPTS, return_all=True)
    assert engine(PROMPTS, return_all=True, candidates_per_batch=3) == whole
    assert [call[1:] [::2] for call in engine.generator.calls[1:]] == [(3, 0), (3, 3), (2, 6)]  # fmt: skip


def test_votes_and_a_second_reward(engine):
    records = engine(PROMPTS[0], vote="majority", extract_answer=last_word, return_all=True)
    answers = [one["answer"] for one in records]
    assert answers.count(answers[0]) == max(map(answers.count, answers))
    both = EngineBestOfN(Words(), variety, second_reward_model=lambda p, c: [-len(one) for one in c], seed=0)
    assert both(PROMPTS[0], combine="max_rank", return_all=True, num_candidates=4)[0]["score"] <= 0


def test_a_rule_stops_each_prompt_on_its_own(engine):
    seen = []

    def rule(drawn):
        seen.append(len(drawn.scores))
        return "enough" if max(drawn.scores) >= 4 else None

    groups = engine(PROMPTS, num_candidates=(2, 12), stop=rule, return_all=True)
    for group in groups:
        is_enough = max(one["score"] for one in group) >= 4
        assert {one["stop_reason"] for one in group} == {"enough" if is_enough else "num_candidates"}
        assert {one["num_drawn"] for one in group} == {len(group)} and (is_enough or len(group) == 12)
    asked = [len(prompts) for prompts, *_ in engine.generator.calls]
    assert asked[0] == 5 and asked == sorted(asked, reverse=True) and asked[-1] < 5


@pytest.mark.parametrize("prompts", [PROMPTS, CHATS], ids=["text", "chat"])
def test_rows_for_trainers_resume(prompts, tmp_path):
    class Ended(Exception):
        pass

    def fragile(prompts, completions):
        if failing and str(prompts[0]) == str(PROMPTS[3] if isinstance(prompts[0], str) else CHATS[3]):
            raise Ended
        return variety(prompts, completions)

    settings = dict(num_candidates=8, prompts_per_part=2)
    failing = False
    expected = write_best_of_n(EngineBestOfN(Words(), fragile), prompts, tmp_path / "whole.jsonl", **settings)
    failing = True
    with pytest.raises(Ended):
        write_best_of_n(EngineBestOfN(Words(), fragile), prompts, tmp_path / "rows.jsonl", **settings)
    assert not (tmp_path / "rows.jsonl").exists()
    failing = False
    words = Words()
    path = write_best_of_n(EngineBestOfN(words, fragile), prompts, tmp_path / "rows.jsonl", **settings)
    assert path.read_bytes() == expected.read_bytes() and len(words.calls) == 2  # of three parts
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    results = EngineBestOfN(Words(), variety)(prompts[:2], num_candidates=8, seed=0, return_all=True)
    assert rows[:1] == preference_rows(prompts[0], results[0])


def test_another_engine_does_not_complete_a_file(tmp_path):
    class Others(Words):
        def describe(self):
            return {"engine": "others"}

    write_best_of_n(EngineBestOfN(Words(), variety), PROMPTS, tmp_path / "rows.jsonl", num_candidates=4)
    with pytest.raises(ValueError, match="other settings"):
        write_best_of_n(EngineBestOfN(Others(), variety), PROMPTS, tmp_path / "rows.jsonl", num_candidates=4)


@pytest.mark.parametrize(("error", "message", "kwargs"), [
    (TypeError, "`generator` must have the methods", dict(generator=object())),
    (ValueError, "ELHSR head, which reads hidden states", dict(reward_model=ELHSRModel.from_policy(tiny_causal_lm()))),
    (ValueError, "computable from the log-probabilities", dict(reward_model=GroupConfidence(window=4))),
    (ValueError, "computable from the log-probabilities", dict(reward_model="self_certainty")),
    (TypeError, "must score text", dict(reward_model=3)),
    (TypeError, r"got \['num_beams'\]", dict(num_beams=2)),
    (ValueError, "`prune` was given", dict(prune=Pruning((4,)))),
    (ValueError, "`show_progress` must be False", dict(show_progress=True)),
    (ValueError, "needs a `second_reward_model`", dict(combine="min_max")),
    (ValueError, "price of a token", dict(stop="expected_improvement", num_candidates=(2, 4))),
    (ValueError, "`temperature` must be positive", dict(temperature=0.0)),
    (ValueError, "`top_p`", dict(top_p=2.0)),
    (TypeError, "`num_candidates` must be an integer", dict(num_candidates=2.5)),
    (ValueError, "`extract_answer` must be given", dict(vote="majority")),
], ids=lambda value: next(iter(value)) if isinstance(value, dict) else str(value)[:40])  # fmt: skip
def test_wrong_arguments(error, message, kwargs):
    with pytest.raises(error, match=message):
        EngineBestOfN(**{"generator": Words(), "reward_model": variety, **kwargs})


@pytest.mark.parametrize(("error", "message", "prompts"), [
    (ValueError, "empty list", []),
    (ValueError, "prompt", ""),
    (ValueError, r"prompts\[1\]", ["w3", ""]),
    (ValueError, r"prompts\[1\]", ["w3", 5]),
    (ValueError, "all be text or all be chats", ["w3", CHATS[0]]),
])  # fmt: skip
def test_wrong_prompts_are_errors_before_a_request(error, message, prompts, engine):
    with pytest.raises(error, match=message):
        engine(prompts)
    assert not engine.generator.calls


@pytest.mark.parametrize(("message", "reward", "kwargs"), [
    ("needs log-probabilities", "mean_log_probability", {}),
    ("needs the number of tokens", "length", {}),
    ("`stop` needs the number of tokens", variety, dict(num_candidates=(2, 4), stop=ExpectedImprovement(0.1))),
])  # fmt: skip
def test_numbers_that_an_engine_lacks(message, reward, kwargs):
    with pytest.raises(RuntimeError, match=message):
        EngineBestOfN(Words(has_numbers=False), reward, **kwargs)(PROMPTS[0])


def test_token_ids_reach_functions_that_need_them():
    def needs(completions, completion_ids):
        return [float(len(ids)) for ids in completion_ids]

    [best] = EngineBestOfN(Words(), needs)(PROMPTS[0])
    assert best["score"] == best["num_tokens"]
    with pytest.raises(TypeError, match="completion_ids"):
        EngineBestOfN(Words(has_numbers=False), needs)(PROMPTS[0])


def test_an_engine_that_returns_too_few_candidates():
    class Few(Words):
        def generate(self, prompts, num_candidates, sampling, first=0):
            return super().generate(prompts, num_candidates - 1, sampling, first)

    with pytest.raises(RuntimeError, match="`Few` must return 16 candidates of each prompt, got 15"):
        EngineBestOfN(Few(), variety)(PROMPTS)

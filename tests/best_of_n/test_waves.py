"""Adaptive N: candidates in waves, a rule for each prompt, the same candidates whatever the waves."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from tiny import tiny_causal_lm, tiny_tokenizer
from transformers import pipeline

from hf_reward_ext.base.lm.draws import Draws, candidate_generator, drawing
from hf_reward_ext.best_of_n import BetaVotes, Drawn, ExpectedImprovement, Pruning
from hf_reward_ext.elhsr import ELHSRModel

SAMPLING = dict(max_new_tokens=6, temperature=1.3, seed=5, return_all=True)
PROMPTS = ["w1 w2 w3", "w4", "w5 w6"]


def length(prompts, completions):
    return [len(completion) for completion in completions]


def first_word(text):
    return (text.split() or [None])[0]


def bon(reward=length, **kwargs):
    torch.manual_seed(0)
    policy, tokenizer = tiny_causal_lm(), tiny_tokenizer()
    reward = ELHSRModel.from_policy(policy, tokenizer) if reward == "head" else reward
    return pipeline("reward-bon", model=policy, tokenizer=tokenizer, reward_model=reward, **kwargs)


def never(drawn):
    return False


@pytest.mark.stack
@pytest.mark.parametrize("reward", ["head", "confidence", length], ids=["head", "confidence", "text"])
@pytest.mark.parametrize(("least", "wave", "batch_size"), [(1, 1, 3), (4, None, 3), (2, 6, 1)])
def test_candidates_do_not_depend_on_waves_and_batches(reward, least, wave, batch_size):
    def texts(**settings):
        results = bon(reward)(PROMPTS, stop=never, **settings, **SAMPLING)
        return [sorted((one["generated_text"], one["score"]) for one in group) for group in results]

    whole = texts(num_candidates=(8, 8))
    parts = texts(num_candidates=(least, 8), candidates_per_batch=wave, batch_size=batch_size)
    for part, group in zip(parts, whole, strict=True):
        assert [text for text, _ in part] == [text for text, _ in group]
        assert [score for _, score in part] == pytest.approx([score for _, score in group], abs=1e-4)
    assert len({text for text, _ in whole[0]}) > 4


def test_the_first_candidates_are_the_same_when_fewer_are_drawn():
    everyone = bon()(PROMPTS, num_candidates=(8, 8), stop=never, **SAMPLING)
    few = bon()(PROMPTS, num_candidates=(2, 8), stop=lambda drawn: len(drawn.scores) >= 4, **SAMPLING)
    for all_of_it, part in zip(everyone, few, strict=True):
        assert len(part) == 4
        assert {one["generated_text"] for one in part} <= {one["generated_text"] for one in all_of_it}


def test_prompts_of_a_batch_stop_on_their_own():
    seen = []

    def enough(drawn):
        seen.append(len(drawn.scores))
        return max(drawn.scores) >= 27

    results = bon()(PROMPTS, num_candidates=(2, 12), stop=enough, batch_size=3, **SAMPLING)
    counts = [len(group) for group in results]
    assert len(set(counts)) > 1 and all(count % 2 == 0 for count in counts)
    for group, count in zip(results, counts, strict=True):
        assert {one["num_drawn"] for one in group} == {count}
        found = {one["stop_reason"] for one in group}
        assert found == ({"enough"} if max(one["score"] for one in group) >= 27 else {"num_candidates"})
        assert found == {"enough"} or count == 12
        assert all(one["num_tokens"] >= 1 for one in group)
    alone = [bon()(prompt, num_candidates=(2, 12), stop=enough, **SAMPLING) for prompt in PROMPTS]
    assert alone == results


def test_votes_stop_by_the_beta_posterior():
    settings = dict(vote="weighted", extract_answer=first_word, num_candidates=(2, 20), **SAMPLING)
    results = bon()(PROMPTS, stop=BetaVotes(0.7), **settings)
    for group in results:
        votes = sorted(
            (sum(one["answer"] == a for one in group) for a in {one["answer"] for one in group}), reverse=True
        )
        surely = stats.beta(votes[0] + 1, (votes[1] if len(votes) > 1 else 0) + 1).sf(0.5) >= 0.7
        assert (group[0]["stop_reason"] == "beta") == surely
        assert surely or len(group) == 20
    assert any(group[0]["stop_reason"] == "beta" for group in results)


def test_the_beta_rule_is_the_probability_of_the_lead():
    for first in range(1, 12):
        for second in range(0, first + 1):
            drawn = Drawn([0.0] * (first + second), [1] * (first + second), [], ["a"] * first + ["b"] * second + [None])
            probability = stats.beta(first + 1, second + 1).sf(0.5)
            assert (BetaVotes(0.95)(drawn) == "beta") == (probability >= 0.95)
    assert BetaVotes()(Drawn([], [], [], [None, None])) is None


@pytest.mark.parametrize("calibration", [None, (1.5, -0.5)])
def test_expected_improvement_is_that_of_the_fitted_distribution(calibration):
    rewards = np.random.default_rng(0).normal(size=7).tolist()
    rule = ExpectedImprovement(0.01, calibration)
    scale = np.std(rewards, ddof=1) * math.sqrt(1 + 1 / 7)
    next_rewards = stats.t(6, np.mean(rewards), scale).rvs(400_000, random_state=1)
    worth = (lambda r: r) if calibration is None else (lambda r: 1 / (1 + np.exp(-(1.5 * r - 0.5))))
    expected = np.maximum(worth(next_rewards) - worth(max(rewards)), 0).mean()
    assert rule.expected(rewards) == pytest.approx(expected, rel=0.03)
    for tokens in (1, 1000):
        found = rule(Drawn(rewards, [tokens] * 7, [""] * 7))
        assert (found is not None) == (expected <= 0.01 * tokens)


def test_expected_improvement_waits_for_three_rewards_and_sees_when_all_are_alike():
    rule = ExpectedImprovement(1e9)
    assert rule(Drawn([1.0, None, 2.0], [5] * 3, [""] * 3)) is None
    assert rule(Drawn([1.0, None, 2.0, 3.0], [5] * 4, [""] * 4)) == "expected_improvement"
    assert ExpectedImprovement(0.0)(Drawn([2.0] * 3, [5] * 3, [""] * 3)) == "expected_improvement"


def test_a_calibrated_head_has_a_price():
    pipe = bon("head")
    with pytest.raises(ValueError, match="needs the price of a token"):
        pipe("w1", num_candidates=(2, 8), stop="expected_improvement")
    pipe.head.config.calibration = [1.0, 0.0]
    group = pipe("w1", num_candidates=(4, 30), stop="expected_improvement", **SAMPLING)
    assert group[0]["num_drawn"] == len(group) and group[0]["stop_reason"] in ("expected_improvement", "num_candidates")


def test_waves_may_be_pruned():
    settings = dict(prune=Pruning((2, 4)), num_candidates=(4, 12), batch_size=2, **SAMPLING)
    pipe = bon("head")
    results = pipe(PROMPTS, stop=lambda drawn: len(drawn.scores) >= 8, **settings)
    assert [len(group) for group in results] == [8, 8, 8]
    assert all(any(one["pruned"] for one in group) and not group[0]["pruned"] for group in results)
    assert pipe(PROMPTS, stop=lambda drawn: len(drawn.scores) >= 8, **settings) == results


def test_rewards_may_have_no_answer_and_be_combined():
    def odd(prompts, completions):
        return [len(text) if len(text.split()) % 2 else None for text in completions]

    pipe = bon(odd, second_reward_model=length)
    group = pipe(["w1 w2"], num_candidates=(3, 9), stop=never, combine="max_rank", **SAMPLING)[0]
    plain = bon(odd, second_reward_model=length)(
        ["w1 w2"], num_candidates=(9, 9), stop=never, combine="max_rank", **SAMPLING
    )[0]
    assert group == plain and {one["score"] is None for one in group} == {True, False}


def test_draws_follow_the_distribution():
    policy = tiny_causal_lm()
    ids = torch.tensor([[5, 6, 7]])
    draws = Draws([candidate_generator(3, [5, 6, 7], number) for number in range(4000)])
    with drawing(policy, draws):
        out = policy.generate(ids.repeat(4000, 1), do_sample=True, max_new_tokens=1, temperature=0.7, top_k=6)
    with torch.no_grad():
        probs = (policy(ids).logits[0, -1] / 0.7).topk(6)
    expected = probs.values.double().softmax(-1).numpy() * 4000
    counts = torch.tensor([(out[:, 3] == token).sum() for token in probs.indices])
    assert counts.sum() == 4000
    assert stats.chisquare(counts.numpy(), expected).pvalue > 1e-3
    assert "_get_logits_processor" not in vars(policy)
    with pytest.raises(ValueError, match="must write 4000 rows, one for each candidate, got 1"), drawing(policy, draws):
        policy.generate(ids, do_sample=True, max_new_tokens=1)


def test_a_greedy_candidate_is_greedy():
    settings = dict(max_new_tokens=6, do_sample=False)
    [one] = bon()("w1 w2 w3", num_candidates=(1, 1), stop=never, **settings)
    [plain] = bon()("w1 w2 w3", num_candidates=1, **settings)
    assert one["generated_text"] == plain["generated_text"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BetaVotes(1.0), "`probability` must be a number above 0 and below 1, got 1"),
        (lambda: BetaVotes("0.9"), "`probability` must be a number"),
        (lambda: ExpectedImprovement(-1), "`price_per_token` must be a number of at least 0"),
        (lambda: ExpectedImprovement(1, (0, 1)), "`calibration` must be a number above 0"),
    ],
)
def test_rules_are_checked(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()

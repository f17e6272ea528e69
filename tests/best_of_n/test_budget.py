import itertools

import numpy as np
import pytest
from scipy import stats
from tiny import tiny_causal_lm, tiny_tokenizer
from transformers import pipeline

from hf_reward_ext.best_of_n import allocate_candidates, best_within_budget
from hf_reward_ext.best_of_n.budget import _gains

REWARDS = [[0.0, 1.0, 0.5], [2.0, 2.1, 1.9], [0.0, 4.0, -3.0], [1.0, 1.0, 1.0]]


def expected_best(rewards, count):
    """Monte Carlo mean of the best after `count` further draws from the kernel estimate."""
    rng = np.random.default_rng(0)
    width = np.std(rewards, ddof=1) * len(rewards) ** -0.2
    draws = rng.choice(rewards, (200_000, count)) + width * rng.normal(size=(200_000, count))
    return np.maximum(draws.max(-1, initial=-np.inf), max(rewards)).mean()


def test_gains_are_those_of_the_kernel_estimate():
    for rewards in REWARDS[:3]:
        total = max(rewards) + np.cumsum(_gains(np.array(rewards), 6))
        for count in (1, 3, 6):
            assert total[count - 1] == pytest.approx(expected_best(rewards, count), rel=0.02)
    kernel = stats.gaussian_kde(REWARDS[2])  # Scott's rule too
    grid = np.linspace(4, 40, 4000)
    mean = np.trapezoid((grid - 4) * kernel(grid), grid)
    assert _gains(np.array(REWARDS[2]), 1)[0] == pytest.approx(mean, rel=1e-3)


@pytest.mark.parametrize("costs", [None, [1.0, 2.0, 3.0, 1.0]])
def test_no_other_allocation_is_better(costs):
    budget = 6
    price = costs or [1.0] * 4
    counts = allocate_candidates(REWARDS, budget, costs)
    gains = [np.append(0, np.cumsum(_gains(np.array(values), budget))) for values in REWARDS]

    def worth(counts):
        return sum(gain[count] for gain, count in zip(gains, counts, strict=True))

    spent = sum(map(np.multiply, counts, price))
    others = (c for c in itertools.product(range(budget + 1), repeat=4) if sum(map(np.multiply, c, price)) <= budget)
    assert spent <= budget and counts[3] == 0
    best = max(worth(one) for one in others)
    # With unequal costs filling the budget is a knapsack, whose greedy solution may leave a rest.
    assert worth(counts) == pytest.approx(best) if costs is None else worth(counts) >= 0.9 * best


def test_prompts_share_their_candidates():
    def reward(prompts, completions):
        return [float(len(text)) if prompt == "w1" else 1.0 for prompt, text in zip(prompts, completions, strict=True)]

    pipe = pipeline("reward-bon", model=tiny_causal_lm(), tokenizer=tiny_tokenizer(), reward_model=reward)
    settings = dict(num_candidates=6, min_candidates=4, max_new_tokens=6, seed=1, temperature=2.0)
    groups = best_within_budget(pipe, ["w1", "w2", "w3"], **settings)
    assert [len(group) for group in groups] == [10, 4, 4]
    for group in groups:
        assert [one["score"] for one in group] == sorted((one["score"] for one in group), reverse=True)
    assert best_within_budget(pipe, ["w1", "w2", "w3"], **settings) == groups


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],  1), "at least one prompt, got none"),
        (([[1.0]], 1), r"`rewards\[0\]` must hold at least two rewards"),
        (([[1.0, None]], 1), r"`rewards\[0\]` must be a number"),
        (([[1.0, 2.0]], -1), "`budget` must be a number of at least 0"),
        (([[1.0, 2.0]], 1, [0.0]), "`costs` must be a number above 0"),
        (([[1.0, 2.0]], 1, [1.0, 1.0]), "one value for each of 1 prompts"),
    ],
)  # fmt: skip
def test_bad_allocations_are_refused(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        allocate_candidates(*arguments)


def test_a_prompt_without_rewards_gets_no_more():
    def reward(prompts, completions):
        rewards = [
            float(len(text)) if prompt != "w2" else None for prompt, text in zip(prompts, completions, strict=True)
        ]
        return [1.0, *rewards[1:]]

    pipe = pipeline("reward-bon", model=tiny_causal_lm(), tokenizer=tiny_tokenizer(), reward_model=reward)
    groups = best_within_budget(pipe, ["w1", "w2"], num_candidates=6, min_candidates=4, max_new_tokens=6)
    assert [len(group) for group in groups] == [8, 4]
    with pytest.raises(TypeError, match="must be a list of prompts, got text"):
        best_within_budget(pipe, "w1", num_candidates=6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(num_candidates=3), "`min_candidates` must be at most the mean of 3, got 4"),
        (dict(num_candidates=4, min_candidates=1), "`min_candidates` must be an integer of at least 2"),
        (dict(num_candidates=0), "`num_candidates` must be an integer of at least 1"),
        (dict(num_candidates=8, vote="majority"), "ranked by one reward, once they are finished, got `vote`"),
    ],
)
def test_bad_budgets_are_refused_before_anything_is_sampled(given, message, monkeypatch):
    pipe = pipeline("reward-bon", model=tiny_causal_lm(), tokenizer=tiny_tokenizer(), reward_model="length")
    monkeypatch.setattr(type(pipe.model), "forward", lambda *_, **__: pytest.fail("work began"))
    with pytest.raises(ValueError, match=message):
        best_within_budget(pipe, ["w1"], **given)

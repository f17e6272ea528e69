import asyncio
import pickle
import re

import pytest
from tiny import tiny_causal_lm, tiny_tokenizer

from hf_reward_ext.rewards import GroupwiseReward
from hf_reward_ext.rewards.ranking import rank_rewards, read_ranking

PROMPTS, ANSWERS = ["x"] * 4 + ["y"] * 2, ["a", "bbb", "cc", "a", "d", "d"]


def longest_first(requests):
    """A judge that ranks answers by their length."""
    judgments = []
    for request in requests:
        answers = sorted(re.findall(r"Answer (\d+):\n(\w+)", request), key=lambda one: -len(one[1]))
        judgments.append("Ranking: " + " > ".join(number for number, _ in answers))
    return judgments


def silent(requests):
    return ["I cannot decide.\nRanking: 1 > 2"] * len(requests)


class Broken:
    def __init__(self, returned):
        self.returned = returned

    def __call__(self, requests):
        return self.returned


@pytest.mark.parametrize(
    ("text", "ranking"),
    [
        ("Ranking: 2 > 1 > 3", [[1], [0], [2]]),
        ("so\nRanking: 3, 1 = 2.", [[2], [0, 1]]),
        ("Ranking: 1 > 2 > 3\nNo.\nRanking: 3>2>1", [[2], [1], [0]]),  # the last one counts
        ("Ranking: 2=1=3", [[1, 0, 2]]),
        ("Ranking: 1 > 2", None),  # cut
        ("Ranking: 1 > 2 > 2", None),
        ("Ranking: 1 > 2 > 4", None),
        ("Ranking: 1 > 2 > 3 > 4", None),
        ("Ranking: A > B > C", None),
        ("Ranking:", None),
        ("1 > 2 > 3", None),
        ("", None),
    ],
)
def test_a_ranking_has_every_number_once(text, ranking):
    assert read_ranking(text, 3) == ranking


def test_rewards_of_ranks_have_the_mean_one_half():
    assert rank_rewards([[1], [0], [2]]) == [0.5, 1.0, 0.0]
    assert rank_rewards([[1], [0, 2]]) == [0.25, 1.0, 0.25]
    assert rank_rewards([[0, 1, 2]]) == [0.5] * 3 and rank_rewards([[0]]) == [0.5]
    for ranking in ([[2], [0, 1], [3]], [[3, 2], [1, 0]]):
        assert sum(rank_rewards(ranking)) / 4 == 0.5


def test_one_judgment_ranks_the_different_completions_of_a_prompt():
    logged, extra = {}, {}
    reward = GroupwiseReward(longest_first)
    found = asyncio.run(reward(PROMPTS, ANSWERS, log_metric=logged.__setitem__, log_extra=extra.__setitem__))
    assert found == [0.0, 1.0, 0.5, 0.0, 0.5, 0.5]  # the group of y is all equal: no judgment
    assert logged["groupwise/judgments"] == 1 and reward.cost.judgments == 1
    assert extra["groupwise/judgment"][0].startswith("Ranking:") and extra["groupwise/judgment"][4] is None
    assert reward.score(PROMPTS[::-1], ANSWERS[::-1], log_metric=logged.__setitem__) == found[::-1]
    assert logged["groupwise/judgments"] == 0 and logged["groupwise/cached_rate"] == 1


def test_a_group_without_a_complete_ranking_has_no_reward():
    logged = {}
    assert GroupwiseReward(silent).score(PROMPTS, ANSWERS, log_metric=logged.__setitem__) == [None] * 4 + [0.5] * 2
    assert logged["groupwise/answered_rate"] == pytest.approx(1 / 3)


def test_the_cost_is_that_of_the_tokens_read_and_written():
    model, tokenizer = tiny_causal_lm(), tiny_tokenizer()
    template = "w4 {prompt} {answers} w5"
    reward = GroupwiseReward(model, tokenizer, template=template, max_new_tokens=6, batch_size=2)
    logged = {}
    found = reward.score(["w7"] * 2 + ["w8"] * 2, ["w9", "w10", "w9", "w11 w12"], log_metric=logged.__setitem__)
    assert found == [None] * 4  # a random model ranks nothing
    requests = [reward._request(prompt, answers) for prompt, answers in reward._cache._values]
    read = [
        tokenizer.apply_chat_template([{"role": "user", "content": one}], add_generation_prompt=True)["input_ids"]
        for one in requests
    ]
    assert reward.cost.prompt_tokens == logged["groupwise/prompt_tokens"] == sum(map(len, read))
    written = [one.new_tokens for one in reward._cache._values.values()]
    assert reward.cost.new_tokens == sum(written) and all(0 < count <= 6 for count in written)
    alone = GroupwiseReward(model, tokenizer, template=template, max_new_tokens=6, batch_size=1)
    alone.score(["w7"] * 2 + ["w8"] * 2, ["w9", "w10", "w9", "w11 w12"])
    assert list(alone._cache._values.values()) == list(reward._cache._values.values())
    assert pickle.loads(pickle.dumps(reward)).cost == reward.cost


def test_tokens_of_a_function_are_counted_by_its_tokenizer():
    reward = GroupwiseReward(silent, tiny_tokenizer(), template="w4 {prompt} {answers}")
    reward.score(["w7"] * 2, ["w9", "w10"])
    assert (reward.cost.prompt_tokens, reward.cost.new_tokens) == (8, 7)


def test_the_order_of_answers_depends_on_nothing_but_the_texts():
    seen = []
    for prompts, answers in ((["x"] * 3, ["a", "b", "c"]), (["x"] * 4, ["c", "a", "b", "a"])):
        reward = GroupwiseReward(lambda requests: seen.extend(requests) or longest_first(requests))
        reward.score(prompts, answers)
    assert seen[0] == seen[1]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: GroupwiseReward(tiny_causal_lm()), TypeError, "without its tokenizer"),
        (lambda: GroupwiseReward("judge"), TypeError, "must be a causal language model or a function, got a `str`"),
        (lambda: GroupwiseReward(silent, template="{prompt}"), ValueError, r"lacks \['answers'\]"),
        (lambda: GroupwiseReward(silent, template="{prompt}{answers}{x}"), ValueError, "KeyError"),
        (lambda: GroupwiseReward(silent, max_new_tokens=0), ValueError, "`max_new_tokens` must be"),
        (lambda: GroupwiseReward(Broken(["a", "b"])).score(PROMPTS, ANSWERS), ValueError, "got 2 for 1"),
        (lambda: GroupwiseReward(Broken([1.0])).score(PROMPTS, ANSWERS), TypeError, "must return texts, got a `float`"),
        (lambda: GroupwiseReward(silent, num_generations=4).score(PROMPTS, ANSWERS), ValueError, "got 2 of 'y'"),
    ],
)
def test_what_it_cannot_use_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("reward", [GroupwiseReward(silent)], ids=["groupwise"])
def test_several_processes_need_the_size_of_groups(reward, monkeypatch):
    monkeypatch.setattr("hf_reward_ext.rewards.groups.PartialState", lambda: type("Two", (), {"num_processes": 2}))
    with pytest.raises(RuntimeError, match="`num_generations` must be given to `groupwise` with 2 processes"):
        reward.score(PROMPTS, ANSWERS)

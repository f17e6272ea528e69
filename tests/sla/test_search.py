import random
import statistics

import pytest
from sla_reference import reference_search, toy_model

from hf_reward_ext.sla.search import LookAheadSearch, SearchSettings

EOS = 0


def run(search, next_top, reward, prompt, max_new):
    """Drives the state machine with one sequence per row; returns rounds and the largest number of rows."""
    rows, rounds, most, first = [prompt], 0, 1, None
    while search.live:
        proposals = [
            [(token, token == EOS or len(row) + 1 - len(prompt) >= max_new) for token in next_top(row, count)]
            for row, count in zip(rows, [search.num_proposals] * len(rows), strict=True)
        ]
        origins = search.advance([reward(row) for row in rows], proposals)
        rows = [rows[row] + [proposals[row][choice][0]] for row, choice in origins]
        rounds, most = rounds + 1, max(most, len(rows))
        first = rounds if first is None and search.confirmed else first
    return rounds, most, first


def test_equals_the_reference_on_random_toys():
    rng = random.Random(0)
    finished_early = 0
    for case in range(1000):
        width, step, depth = rng.randint(1, 3), rng.randint(1, 5), rng.randint(0, 2)
        max_new, eos_share = rng.randint(1, 24), rng.choice([0.0, 0.1, 0.3])
        next_top, reward = toy_model(case, vocabulary=6, eos_share=eos_share)
        prompt = [rng.randrange(1, 6) for _ in range(rng.randint(1, 4))]
        search = LookAheadSearch(SearchSettings(width, step, depth))
        run(search, next_top, reward, prompt, max_new)
        expected = list(reference_search(next_top, reward, prompt, width, step, depth, max_new, {EOS}))
        assert search.confirmed == expected, (case, width, step, depth)
        assert search.is_finished
        finished_early += expected[-1][-1] == EOS
    assert finished_early > 150


@pytest.mark.parametrize(
    ("option", "reference"),
    [
        (dict(aggregate="mean"), dict(value=statistics.fmean)),
        (dict(score_prompt=False), dict(score_prompt=False)),
        (dict(stop_when_finished_leads=True), dict(stops_early=True)),
    ],
    ids=["mean of leaves", "without the prompt", "a finished leader ends"],
)
def test_options_equal_the_reference_and_change_something(option, reference):
    rng = random.Random(1)
    differs = 0
    for case in range(300):
        shape = rng.randint(2, 3), rng.randint(1, 4), rng.randint(0, 2)
        next_top, reward = toy_model(case, vocabulary=6, eos_share=0.2)
        search = LookAheadSearch(SearchSettings(*shape, **option))
        run(search, next_top, reward, [1, 2], 16)
        expected = list(reference_search(next_top, reward, [1, 2], *shape, 16, {EOS}, **reference))
        assert search.confirmed == expected, (case, shape)
        differs += expected != list(reference_search(next_top, reward, [1, 2], *shape, 16, {EOS}))
    assert differs > 10


@pytest.mark.parametrize(("width", "step", "depth"), [(2, 4, 0), (2, 4, 1), (2, 4, 2), (3, 2, 1), (1, 3, 2)])
def test_rows_and_time_to_the_first_chunk_follow_the_formula(width, step, depth):
    next_top, reward = toy_model(1, vocabulary=6)
    settings = SearchSettings(width, step, depth)
    search = LookAheadSearch(settings)
    rounds, most, first = run(search, next_top, reward, [1], max_new=30)
    assert most == settings.max_leaves == width ** (depth + 1)
    assert first == (depth + 1) * step + 1
    assert rounds == 30
    assert all(len(chunk) == step for chunk in search.confirmed[:-1])
    assert sum(map(len, search.confirmed)) == 30


def greedy(next_top, prompt, max_new):
    tokens = []
    while len(tokens) < max_new and EOS not in tokens:
        tokens += next_top(prompt + tokens, 1)
    return tokens


@pytest.mark.parametrize(
    ("settings", "constant"),
    [(SearchSettings(1, 3, 2), False), (SearchSettings(3, 2, 1), True), (SearchSettings(2, 50, 2), False)],
    ids=["width 1", "constant reward", "step beyond the length"],
)
def test_degenerate_settings_are_greedy(settings, constant):
    for seed in range(50):
        next_top, reward = toy_model(seed, vocabulary=6)
        search = LookAheadSearch(settings)
        run(search, next_top, (lambda _: 0.0) if constant else reward, [1, 2], max_new=20)
        assert sum(search.confirmed, []) == greedy(next_top, [1, 2], 20)


def drive(settings, rewards_of, max_new=8, width=2, keep_tree=False):
    """Tokens say which branch they are: the first proposal is 1, the second 2."""
    search = LookAheadSearch(settings, keep_tree=keep_tree)
    run(search, lambda prefix, n: list(range(1, n + 1)), rewards_of, [9], max_new)
    return search


def test_the_larger_mean_wins_and_the_tree_says_why():
    search = drive(SearchSettings(2, 2, 0), lambda row: float(row.count(2)), max_new=5, keep_tree=True)
    assert search.confirmed == [[1, 1], [2, 1], [1]]  # the last token is never read: a tie
    tree = search.tree()
    assert tree["tokens"] == [1, 1] and tree["is_confirmed"] and tree["score"] == 0.0
    first, second = tree["children"]
    assert (first["tokens"], second["tokens"]) == ([1, 1], [2, 1])
    assert (first["is_confirmed"], second["is_confirmed"]) == (False, True)
    assert first["score"] == 0.0 and second["score"] == pytest.approx(2 / 5)  # prompt, 1, 1, 2, 1 were read


def test_tree_is_dropped_unless_asked_for():
    with pytest.raises(RuntimeError, match="keep_tree=True"):
        drive(SearchSettings(2, 2, 0), lambda row: 0.0).tree()


def test_mean_and_max_of_leaves_may_disagree():
    # Below branch 1 one leaf is very good and one very bad; both below branch 2 are good.
    def reward(row):
        return {(1, 1): 4.0, (1, 2): -4.0, (2, 1): 3.0, (2, 2): 3.0}.get(tuple(row[2:]), 0.0)

    chosen = {
        aggregate: drive(SearchSettings(2, 1, 1, aggregate=aggregate), reward, max_new=6).confirmed[1]
        for aggregate in ("max", "mean")
    }
    assert chosen == {"max": [1], "mean": [2]}


def test_reward_at_the_prompt_is_left_out_on_request():
    def reward(row):
        return 10.0 if row == [9] else 1.0

    scores = [drive(SearchSettings(1, 2, 0, score_prompt=counts), reward, max_new=5).score for counts in (True, False)]
    assert scores == [pytest.approx(14 / 5), pytest.approx(1.0)]  # the fifth token is never read


def test_weights_make_a_weighted_mean():
    search = LookAheadSearch(SearchSettings(1, 5, 0))
    search.advance([1.0], [[(1, False)]], weights=[3.0])
    search.advance([5.0], [[(1, True)]], weights=[1.0])
    assert search.score == pytest.approx(2.0)


def test_token_budget_ends_with_the_best_leaf_so_far():
    settings = SearchSettings(2, 2, 1, token_budget=9)
    search = drive(settings, lambda row: float(row.count(2)), max_new=100)
    assert search.is_finished and 9 <= search.num_read < 9 + settings.max_leaves
    assert sum(search.confirmed, [])[:2] == [1, 1] and 2 in sum(search.confirmed, [])


def test_a_finished_leader_ends_the_search_on_request():
    # Branch 2 ends at once and keeps the good score of its beginning; going on makes every other leaf worse.
    def proposals(prefix, n):
        return [1, EOS][:n]

    def reward(row):
        return 1.0 if len(row) <= 3 else -1.0

    results = []
    for stops in (False, True):
        search = LookAheadSearch(SearchSettings(2, 2, 2, stop_when_finished_leads=stops))
        rounds, _, _ = run(search, proposals, reward, [9], 30)
        results.append((sum(search.confirmed, []), rounds))
    (waited, long), (stopped, short) = results
    assert waited == stopped == [1, 1, EOS]
    assert short < long


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(width=0), r"`width` must be .*at least 1, got 0"),
        (dict(step=1.5), r"`step` must be an integer.*got 1.5"),
        (dict(depth=-1), r"`depth` must be .*at least 0, got -1"),
        (dict(token_budget=0), "`token_budget` must be .*got 0"),
        (dict(aggregate="sum"), "'max' or 'mean'"),
    ],
)
def test_settings_refuse(change, message):
    with pytest.raises(ValueError, match=message):
        SearchSettings(**change)

"""The look-ahead search and the selection of candidates, for random settings, rewards with ties and uneven forks."""

import math
import random

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from sla_reference import reference_search

from hf_reward_ext.best_of_n.pruning import Pruning
from hf_reward_ext.best_of_n.ranking import rank_by_vote, rank_candidates
from hf_reward_ext.best_of_n.resampling import Resampling
from hf_reward_ext.sla.search import LookAheadSearch, SearchSettings

EOS, PROMPT = 0, [4]


def enumerated_model(seed, uneven, weighted):
    """Every prefix of a vocabulary of 4 has an order of next tokens, a number of forks, a reward and a weight."""

    def draw(prefix, what):
        return random.Random(f"{seed}-{what}-{prefix}")

    def next_top(prefix, count):
        rng = draw(prefix, "order")
        order = rng.sample(range(4), 4)
        return order[: min(count, rng.randint(1, 3)) if uneven else count]

    def reward(prefix):
        rng = draw(prefix, "reward")
        value = rng.choice([-1.0, 0.0, 0.5, 1.0])  # few values, so that leaves tie
        return value, rng.choice([0.0, 0.5, 2.0]) if weighted else 1.0

    return next_top, reward


def run(search, next_top, reward, max_new):
    """Drive a search with a sequence per row; return the sequences that were read, in order."""
    rows, read = [PROMPT], []
    while search.live:
        ends = [len(row) + 1 - len(PROMPT) >= max_new for row in rows]
        proposals = [
            [(token, token == EOS or end) for token in next_top(row, search.num_proposals)]
            for row, end in zip(rows, ends, strict=True)
        ]
        read += rows
        values, weights = zip(*map(reward, rows), strict=True)
        origins = search.advance(values, proposals, weights)
        rows = [[*rows[row], proposals[row][choice][0]] for row, choice in origins]
    return read


SHAPES = dict(
    seed=st.integers(0, 10_000), width=st.integers(1, 3), step=st.integers(1, 4), depth=st.integers(0, 2),
    max_new=st.integers(1, 12), uneven=st.booleans(), weighted=st.booleans(), score_prompt=st.booleans(),
    stops_early=st.booleans(),
)  # fmt: skip


@given(**SHAPES, aggregate=st.sampled_from(["max", "mean"]))
def test_any_settings_confirm_what_brute_force_confirms(
    seed, width, step, depth, max_new, uneven, weighted, score_prompt, stops_early, aggregate
):
    next_top, reward = enumerated_model(seed, uneven, weighted)
    search = LookAheadSearch(SearchSettings(width, step, depth, aggregate, score_prompt, stops_early))
    run(search, next_top, reward, max_new)
    value = max if aggregate == "max" else lambda scores: sum(scores) / len(scores)
    expected = reference_search(
        next_top, reward, PROMPT, width, step, depth, max_new, {EOS}, value, score_prompt, stops_early
    )
    assert search.confirmed == list(expected)


def nodes(tree, prefix=()):
    """Every node with the tokens up to its end."""
    prefix = (*prefix, *tree["tokens"])
    yield tree, prefix
    for child in tree["children"]:
        yield from nodes(child, prefix)


def leaves(tree):
    return [node for node, _ in nodes(tree) if not node["children"]]


@given(**SHAPES, budget=st.one_of(st.none(), st.integers(1, 40)))
def test_every_score_of_the_tree_is_the_mean_of_its_tokens_rewards(
    seed, width, step, depth, max_new, uneven, weighted, score_prompt, stops_early, budget
):
    next_top, reward = enumerated_model(seed, uneven, weighted)
    settings = SearchSettings(width, step, depth, "max", score_prompt, stops_early, budget)
    search = LookAheadSearch(settings, keep_tree=True)
    read = run(search, next_top, reward, max_new)
    assert search.num_read == len(read) - 1 and len({*map(tuple, read)}) == len(read)  # no prefix is read twice
    assert budget is None or search.num_read < budget + settings.max_leaves
    tree = search.tree()
    for node, tokens in nodes(tree):
        last = len(tokens) - (not node["children"])  # the last token of a leaf is never read
        prefixes = [[*PROMPT, *tokens[:length]] for length in range(0 if score_prompt else 1, last + 1)]
        pairs = [reward(prefix) for prefix in prefixes]
        total = sum(weight for _, weight in pairs)
        mean = sum(value * weight for value, weight in pairs) / total if total else 0.0
        assert node["score"] == pytest.approx(mean)
    answer = tuple(sum(search.confirmed, []))
    confirmed = [(node, tokens) for node, tokens in nodes(tree) if node["is_confirmed"]]
    assert all(answer[: len(tokens)] == tokens for _, tokens in confirmed) and confirmed[-1][1] == answer
    before = [node for node, _ in confirmed][: len(search.confirmed) - 1]
    rivals = [leaf for child in before[-1]["children"] for leaf in leaves(child)] if before else leaves(tree)
    assert search.score == max(leaf["score"] for leaf in rivals) == confirmed[-1][0]["score"]


REWARDS = st.one_of(st.sampled_from([-1.0, 0.0, 1.0]), st.floats(-1e6, 1e6, width=32))
TABLE = st.integers(1, 8).flatmap(
    lambda width: st.lists(st.lists(REWARDS, min_size=width, max_size=width), min_size=1, max_size=4)
)


@given(
    table=TABLE, keep=st.floats(0.01, 1.0), max_gap=st.one_of(st.none(), st.floats(0, 10, width=32)),
    min_reward=st.one_of(st.none(), st.floats(-10, 10, width=32)), finished=st.sets(st.integers(0, 7)),
)  # fmt: skip
def test_pruning_keeps_the_best_of_those_that_are_left(table, keep, max_gap, min_reward, finished):
    if keep == 1 and max_gap is None and min_reward is None:
        max_gap = 1.0
    pruning = Pruning((1, 2, 3), keep=keep, max_gap=max_gap, min_reward=min_reward)
    rewards = torch.tensor(table, dtype=torch.float64)
    for rung in range(3):
        stay = pruning.leaders(rung, rewards)
        for row, kept in zip(rewards.tolist(), stay.tolist(), strict=True):
            order = sorted(range(len(row)), key=lambda index: -row[index])[: pruning.survivors(rung, len(row))]
            assert kept == [
                index in order
                and (max_gap is None or row[index] >= max(row) - max_gap)
                and (min_reward is None or row[index] >= min_reward or row[index] == max(row))
                for index in range(len(row))
            ]
            assert kept[row.index(max(row))]
        rewards = rewards.masked_fill(~stay, -torch.inf)


@given(
    table=TABLE, temperature=st.one_of(st.floats(1e-3, 1e3), st.sampled_from([5e-324, 1e-300, 1e300])),
    offset=st.floats(0, 1, exclude_max=True),
)  # fmt: skip
def test_resampling_copies_by_weight_within_each_prompt(table, temperature, offset):
    gains = torch.tensor(table)
    ancestors = Resampling((1,), temperature).ancestors(gains, torch.full((len(table),), offset))
    assert ancestors.shape == gains.shape
    weights = ((gains.double() - gains.double().max(-1, keepdim=True).values) / temperature).softmax(-1)
    for row, own, found in zip(table, weights.tolist(), ancestors.tolist(), strict=True):
        count = len(row)
        assert found == sorted(found) and 0 <= found[0] and found[-1] < count
        for index, weight in enumerate(own):
            assert count * weight - 1 - 1e-6 < found.count(index) < count * weight + 1 + 1e-6
        alone = Resampling((1,), temperature).ancestors(torch.tensor([row]), torch.tensor([offset]))
        assert alone[0].tolist() == found


RECORDS = st.lists(
    st.tuples(st.one_of(st.none(), REWARDS), st.booleans(), st.sampled_from("ab-")), min_size=1, max_size=6
)


def log_weight(answer, rows):
    scores = [score for score, pruned, text in rows if text == answer and not pruned and score is not None]
    return torch.tensor(scores, dtype=torch.float64).logsumexp(0).item() if scores else -math.inf


@example([(None, False, "a"), (None, False, "b")], "weighted")
@example([(0.0, False, "a"), (1.0, False, "b"), (2e3, True, "a")], "weighted")
@example([(0.0, False, "a"), (1.0, False, "b"), (2e3, False, "-")], "weighted")
@given(rows=RECORDS, vote=st.sampled_from(["majority", "weighted"]))
@pytest.mark.filterwarnings("error")
def test_ranking_and_votes(rows, vote):
    records = [{"score": score, "pruned": pruned, "number": number} for number, (score, pruned, _) in enumerate(rows)]
    ranked = rank_candidates(records)
    assert sorted(record["number"] for record in ranked) == list(range(len(rows)))
    for before, after in zip(ranked, ranked[1:], strict=False):
        if before["score"] is None:
            assert after["score"] is None
        elif after["score"] is not None:
            assert (before["pruned"], -before["score"]) <= (after["pruned"], -after["score"])
    texts = [text for _, _, text in rows]
    voted = rank_by_vote(records, texts, vote, lambda text: None if text == "-" else text)
    counted = {text for _, pruned, text in rows if not pruned} - {"-"}
    if vote == "majority" and counted:
        votes = {answer: sum(text == answer and not pruned for _, pruned, text in rows) for answer in counted}
        assert votes[voted[0]["answer"]] == max(votes.values())
    if vote == "weighted" and counted:
        logs = {answer: log_weight(answer, rows) for answer in counted}
        assert logs[voted[0]["answer"]] >= max(logs.values()) - 1e-6
    if counted:
        winner = voted[0]["answer"]
        assert winner in counted
        flags = [record["answer"] == winner for record in voted]
        assert flags == sorted(flags, reverse=True)
    else:
        assert voted == ranked

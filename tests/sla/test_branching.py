import pytest
import torch

from hf_reward_ext.sla.branching import Branching

SCORES = torch.tensor([[0.0, 3.0, 2.0, 1.0], [5.0, 0.0, -torch.inf, 1.0]])


def chosen(branching, scores, counts):
    """Tokens of each row."""
    rows, tokens = branching(scores, counts)
    return [tokens[rows == row].tolist() for row in range(len(scores))]


def test_the_most_probable_tokens_first_and_as_many_as_each_row_wants():
    assert chosen(Branching(), SCORES, [1, 1]) == [[1], [0]]
    assert chosen(Branching(), SCORES, [3, 2]) == [[1, 2, 3], [0, 3]]
    assert chosen(Branching(), SCORES, [1, 4]) == [[1], [0, 3, 1]]  # what is impossible is no branch


def test_equal_scores_go_by_their_number():
    assert chosen(Branching(), torch.zeros(1, 4), [3]) == [[0, 1, 2]]


def test_a_row_that_is_sure_does_not_fork():
    scores = torch.stack([torch.zeros(4), torch.tensor([20.0, 0.0, 0.0, 0.0])])
    assert chosen(Branching(branch_entropy=1.0), scores, [2, 2]) == [[0, 1], [0]]
    assert chosen(Branching(branch_entropy=1.4), scores, [2, 2]) == [[0], [0]]  # log 4 = 1.386
    masked = torch.tensor([[0.0, 0.0, -torch.inf, -torch.inf]])  # log 2 = 0.693
    assert chosen(Branching(branch_entropy=0.69), masked, [2]) == [[0, 1]]
    assert chosen(Branching(branch_entropy=0.70), masked, [2]) == [[0]]


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_tokens_are_drawn_without_replacement(temperature):
    torch.manual_seed(0)
    draws = 40_000
    probabilities = (SCORES[0] / temperature).softmax(-1)
    _, tokens = Branching(branch_temperature=temperature)(SCORES[:1].expand(draws, -1), [2] * draws)
    first, second = tokens.view(draws, 2).T
    assert (first != second).all()
    torch.testing.assert_close(first.bincount(minlength=4) / draws, probabilities, atol=0.01, rtol=0)
    after_the_best = second[first == 1].bincount(minlength=4) / (first == 1).sum()
    expected = probabilities.clone()
    expected[1] = 0
    torch.testing.assert_close(after_the_best, expected / expected.sum(), atol=0.015, rtol=0)


def test_drawing_leaves_rows_alone_that_do_not_fork():
    torch.manual_seed(0)
    found = [chosen(Branching(branch_temperature=50.0), SCORES, [1, 2]) for _ in range(50)]
    assert all(rows[0] == [1] for rows in found)
    assert len({tuple(rows[1]) for rows in found}) > 1 and all(2 not in rows[1] for rows in found)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(branch_temperature=0), "`branch_temperature` must be a number above 0, got 0"),
        (dict(branch_temperature=float("nan")), "`branch_temperature` must be a number above 0, got nan"),
        (dict(branch_entropy=-1.0), "`branch_entropy` must be a number of at least 0 nats, got -1.0"),
        (dict(branch_entropy=float("nan")), "`branch_entropy` must be a number of at least 0 nats, got nan"),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(ValueError, match=message):
        Branching(**settings)

import pytest

from hf_reward_ext.base.scoring.votes import majority_vote


def test_by_hand():
    assert majority_vote(["a", "b", None, "b"]) == (1, {"a": 1.0, "b": 2.0})
    assert majority_vote(["a", "b", "b"], [0.7, 0.1, 0.1])[0] == 0
    assert majority_vote(["b", "a", "a", "b"])[0] == 0  # a tie goes to the first
    assert majority_vote([None, None]) == (None, {})


@pytest.mark.parametrize("weights", [[1.0], [1.0, -0.5]])
def test_refuses_bad_weights(weights):
    with pytest.raises(ValueError, match="at least 0 for each of the 2 answers"):
        majority_vote(["a", "b"], weights)

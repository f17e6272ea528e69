import math

import pytest
from transformers import TrainerState

from hf_reward_ext.callbacks.reference import Reference, win_rate


def test_the_win_rate_counts_pairs_and_halves_ties():
    # Prompt 1: 1 > 0, 1 < 2, 3 > 0, 3 > 2 -> 3 of 4. Prompt 2: a tie.
    assert win_rate([[1.0, 3.0], [2.0]], [[0.0, 2.0], [2.0]]) == (0.75 + 0.5) / 2
    # Without the pairs in the same place: 1 < 2, 3 > 0.
    assert win_rate([[1.0, 3.0]], [[0.0, 2.0]], same_seed=True) == 0.5
    unchanged = [[0.3, 0.1, 0.2], [1.0, 1.0, 5.0]]
    assert win_rate(unchanged, unchanged, same_seed=True) == 0.5
    assert win_rate([[2.0]], [[1.0]], same_seed=True) == 1.0
    # No answer: 1 > 0 alone is compared; the second prompt has no pair.
    assert win_rate([[1.0, None], [None]], [[0.0, None], [2.0]]) == 1.0
    assert math.isnan(win_rate([[None]], [[1.0]]))


def test_rewards_travel_in_the_state(tmp_path):
    first, state = Reference(None, "bon_reference"), TrainerState()
    assert not first.is_known("given", 2, state)
    first.keep("given", [[1.0], [2.0]], state)
    state.global_step = 3
    state.save_to_json(tmp_path / "trainer_state.json")
    resumed, state = Reference(None, "bon_reference"), TrainerState.load_from_json(tmp_path / "trainer_state.json")
    assert resumed.is_known("given", 2, state)
    assert resumed["given"] == [[1.0], [2.0]]
    with pytest.raises(ValueError, match="rewards of 2 prompts, but the callback has 3"):
        resumed.is_known("given", 3, state)


def test_an_initial_policy_that_is_gone_is_not_replaced():
    state = TrainerState(global_step=3)
    with pytest.raises(ValueError, match="at step 3"):
        Reference(None, "bon_reference").is_known("given", 2, state)
    assert not Reference(["a", "b"], "bon_reference").is_known("given", 2, state)


def test_completions_that_were_given():
    assert Reference(["a", ["b", "c"]], "").completions(2) == [["a"], ["b", "c"]]
    assert Reference(None, "").completions(2) is None
    with pytest.raises(ValueError, match="completions of 1 prompts, but there are 2"):
        Reference(["a"], "").completions(2)


def test_a_reference_without_an_answer_is_refused():
    with pytest.raises(ValueError, match="got `None` for all"):
        Reference(None, "bon_reference").keep("given", [[None, None], [None]], TrainerState())


def test_a_reference_may_be_met_after_the_beginning_of_the_same_run():
    assert not Reference(None, "").is_known("eval", 2, TrainerState(global_step=3), first_step=0)
    with pytest.raises(ValueError, match="at step 2"):
        Reference(None, "").is_known("eval", 2, TrainerState(global_step=3), first_step=2)

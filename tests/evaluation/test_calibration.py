import numpy as np
import pytest

from hf_reward_ext.evaluation import bradley_terry_calibration


def simulated(count, overconfidence, seed=0):
    """Margins of a scorer whose log-odds are the true ones times a factor."""
    rng = np.random.default_rng(seed)
    true = rng.normal(0, 2, count)
    first_is_chosen = rng.random(count) < 1 / (1 + np.exp(-true))
    return overconfidence * np.where(first_is_chosen, true, -true)


def test_a_calibrated_scorer_errs_no_more_than_by_chance():
    found = bradley_terry_calibration(simulated(4000, 1.0))
    assert found.ece < 2 * found.chance < 0.04
    assert found.temperature == pytest.approx(1, abs=0.08)


def test_overconfidence_is_seen_and_corrected():
    found = bradley_terry_calibration(simulated(4000, 3.0))
    assert found.ece > 5 * found.chance
    assert found.temperature == pytest.approx(3, abs=0.25)
    assert found.ece_after < 0.03 < found.ece


def test_numbers_worked_out_by_hand():
    # Confidences .731 (right) and .881 (wrong) fall into bins 4 and 7 of 10.
    found = bradley_terry_calibration(np.array([1.0, -2.0]))
    sigmoid = 1 / (1 + np.exp(-np.array([1.0, 2.0])))
    assert found.ece == pytest.approx(((1 - sigmoid[0]) + sigmoid[1]) / 2)
    assert found.nll == pytest.approx((-np.log(sigmoid[0]) - np.log(1 - sigmoid[1])) / 2)
    assert found.bins == [(pytest.approx(sigmoid[0]), 1.0, 0.5), (pytest.approx(sigmoid[1]), 0.0, 0.5)]


def test_the_reliability_plot_is_written(tmp_path):
    bradley_terry_calibration(simulated(200, 1.0)).plot(tmp_path / "reliability.png")
    assert (tmp_path / "reliability.png").stat().st_size > 5000


def test_refusals():
    with pytest.raises(ValueError, match=r"shape \(1,\)"):
        bradley_terry_calibration(np.zeros(1))
    with pytest.raises(ValueError, match="with 1 NaN"):
        bradley_terry_calibration(np.array([0.0, np.nan]))

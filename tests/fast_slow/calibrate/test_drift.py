import warnings

import numpy as np
import pytest
from tiny_judges import outcome_judgment as judgment

from hf_reward_ext.fast_slow.calibrate.drift import DriftMonitor

CALIBRATED = {"num_pairs": 500, "escalation_rate": 0.3, "mass_mean": 0.95, "mass_std": 0.03}


def judgments(count, rate, mass, seed=0):
    rng = np.random.default_rng(seed)
    return [
        judgment(mode="slow" if slow else "fast", mass=float(value))
        for slow, value in zip(rng.random(count) < rate, rng.normal(mass, 0.03, count), strict=True)
    ]


def test_the_same_kind_of_input_is_quiet():
    monitor = DriftMonitor(CALIBRATED)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(20):
            report = monitor.update(judgments(100, 0.3, 0.95, seed))
    assert report["rate_p"] > 1e-4 and report["mass_p"] > 1e-4


@pytest.mark.parametrize(("rate", "mass"), [(0.5, 0.95), (0.1, 0.95), (0.3, 0.9)])
def test_another_rate_or_mass_warns_once(rate, mass):
    monitor = DriftMonitor(CALIBRATED)
    with pytest.warns(UserWarning, match="its inputs have changed, so thresholds and bounds may not hold"):
        monitor.update(judgments(300, rate, mass))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = monitor.update(judgments(300, rate, mass))
    assert min(report["rate_p"], report["mass_p"]) < 1e-4


def test_a_few_judgments_are_no_evidence():
    report = DriftMonitor(CALIBRATED).update(judgments(99, 1.0, 0.1))
    assert report == {**report, "rate_p": 1.0, "mass_p": 1.0, "escalation_rate": 1.0}


def test_old_judgments_leave_the_window():
    monitor = DriftMonitor(CALIBRATED, window=200)
    with pytest.warns(UserWarning, match="100.0% and|escalated"):
        monitor.update(judgments(200, 1.0, 0.95))
    assert monitor.update(judgments(200, 0.3, 0.95))["rate_p"] > 1e-4


def test_a_calibrated_rate_of_zero_allows_the_odd_escalation():
    monitor = DriftMonitor({**CALIBRATED, "escalation_rate": 0.0})
    one = [*judgments(199, 0.0, 0.95), judgment(mode="slow", mass=0.95)]
    assert monitor.update(one)["rate_p"] > 1e-4

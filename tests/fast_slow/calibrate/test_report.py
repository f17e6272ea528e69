import json

import numpy as np
import pytest
from tiny_judges import pair_judge, simulated

from hf_reward_ext.base.stats.calibration import expected_calibration_error
from hf_reward_ext.fast_slow.calibrate.calibrate import alternating_pairs, rescored
from hf_reward_ext.fast_slow.calibrate.report import BUDGETS, accuracy_token_curves
from hf_reward_ext.fast_slow.calibrate.thresholds import escalated
from hf_reward_ext.fast_slow.judge.gate import Gate
from hf_reward_ext.fast_slow.judge.judgment import position_bias

# The random judges here are no better than chance; test_quality.py is about that warning.
pytestmark = pytest.mark.filterwarnings("ignore:This judge may be unreliable")
WORDS = [f"w{number}" for number in range(4, 22)]


def pairs(count=60, seed=0):
    rng = np.random.default_rng(seed)
    words = lambda: " ".join(rng.choice(WORDS, rng.integers(1, 4)))  # noqa: E731
    return [{"prompt": words(), "chosen": words(), "rejected": words()} for _ in range(count)]


def test_the_chosen_response_is_first_in_half_of_the_pairs():
    (prompts, first, second), truth = alternating_pairs(pairs(4))
    rows = pairs(4)
    assert truth.tolist() == [True, False, True, False]
    assert first == [rows[0]["chosen"], rows[1]["rejected"], rows[2]["chosen"], rows[3]["rejected"]]
    assert second == [rows[0]["rejected"], rows[1]["chosen"], rows[2]["rejected"], rows[3]["chosen"]]
    assert prompts == [row["prompt"] for row in rows]
    with pytest.raises(ValueError, match=r"Row 0 of the held-out pairs lacks \['rejected'\]"):
        alternating_pairs([{"prompt": "w4", "chosen": "w5"}])


def test_calibration_sets_gate_and_temperature_and_is_saved(tmp_path):
    judge = pair_judge()
    found = judge.calibrate(pairs(), budget=0.5)
    assert found["position_bias"] == position_bias(judge.judge(*alternating_pairs(pairs())[0], mode="fast"))
    assert judge.gate.temperature == found["temperature"] != 1.0
    assert found["escalation_rate"] <= 0.5 and found["num_pairs"] == 60
    assert found["ece_after"] < found["ece_before"]
    judge.save_pretrained(tmp_path)
    loaded = type(judge).from_pretrained(tmp_path)
    assert loaded.gate == judge.gate and loaded.config.calibration == found
    rate = np.mean([one.mode == "slow" for one in loaded.judge(*alternating_pairs(pairs())[0])])
    assert rate == found["escalation_rate"]


def test_calibration_with_written_judgments_counts_their_tokens():
    judge = pair_judge(max_new_tokens=12)
    found = judge.calibrate(pairs(24), budget=0.6, slow=True, fuse=True)
    assert found["token_share"] <= 0.6 and 0 <= found["fast_vote_weight"] <= 1
    assert judge.config.slow_temperature == found["slow_temperature"]
    assert found["gated_accuracy"] >= found["fast_accuracy"]
    everyone = judge.judge(*alternating_pairs(pairs(24))[0], mode="slow")
    assert sum(one.num_tokens for one in everyone) > 24 * 2


def test_calibration_for_a_risk():
    judge = pair_judge()
    found = judge.calibrate(pairs(), risk=0.9)
    assert found["kept_error_bound"] <= 0.9 and found["escalation_rate"] < 1
    for wrong in ({}, {"budget": 0.4, "risk": 0.1}):
        with pytest.raises(ValueError, match="exactly one of `budget` and `risk`"):
            judge.calibrate(pairs(), **wrong)


def test_a_judgment_at_other_temperatures_is_the_one_the_judge_gives():
    judge = pair_judge()
    rows, _ = alternating_pairs(pairs(6))
    before = judge.judge(*rows, mode="fast")
    judge.gate = Gate(**{**judge.gate.to_dict(), "temperature": 3.0})
    for one, other in zip(before, judge.judge(*rows, mode="fast"), strict=True):
        moved = rescored(one, judge.score_calibration)
        assert moved.probability == pytest.approx(other.probability, abs=1e-6)
        assert moved.intuition == pytest.approx(other.intuition, abs=1e-6)
        assert moved.fast_probability == pytest.approx(other.fast_probability, abs=1e-6)


def test_curves_end_at_always_fast_and_always_slow():
    chosen_on, measured_on = simulated(written=True), simulated(seed=1)
    curves = accuracy_token_curves(Gate(), chosen_on, measured_on)
    assert set(curves) == {"both", "intuition", "distribution", "random"}
    assert all(len(points) == len(BUDGETS) for points in curves.values())
    first, last = curves["both"][0], curves["both"][-1]
    assert first["rate"] == 0 and first["accuracy"] == measured_on.fast_right.mean()
    assert last["accuracy"] > measured_on.slow_right.mean() - 0.01
    middle = {name: points[4]["accuracy"] for name, points in curves.items()}
    assert middle["both"] > max(middle["intuition"], middle["distribution"]) > middle["random"]


def test_one_call_writes_numbers_and_plots(tmp_path):
    judge = pair_judge(max_new_tokens=12)
    judge.calibrate(pairs(20), budget=0.5, slow=True)
    report = judge.calibration_report(pairs(20, seed=1), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "reliability.png", "accuracy_tokens.png"}
    assert json.loads((tmp_path / "report.json").read_text()) == report
    rows, truth = alternating_pairs(pairs(20, seed=1))
    fast = np.array([one.probability for one in judge.judge(*rows, mode="fast")])
    assert report["ece"]["fast"] == pytest.approx(expected_calibration_error(fast, truth))
    gated = judge.judge(*rows)
    assert report["gate"]["rate"] == np.mean([one.mode == "slow" for one in gated])
    right = np.array([one.score > 0 for one in gated]) == truth
    assert report["gate"]["accuracy"] == pytest.approx(right.mean())


def test_the_gate_at_budget_one_is_always_slow():
    judge = pair_judge(max_new_tokens=12)
    rows, _ = alternating_pairs(pairs(10))
    judge.gate = judge.gate.with_thresholds(1.01, 1.01)
    assert judge.judge(*rows) == judge.judge(*rows, mode="slow")
    judge.gate = judge.gate.with_thresholds(0.0, 0.0)
    assert judge.judge(*rows) == judge.judge(*rows, mode="fast")
    assert not escalated(judge.gate, simulated()).any()

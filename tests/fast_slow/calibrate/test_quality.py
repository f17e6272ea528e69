import re

import numpy as np
import pytest
from tiny_judges import outcome_judgment as judgment
from tiny_judges import pair_judge

from hf_reward_ext.fast_slow.calibrate.quality import judge_quality

COUNT = 40


def quality(right=0.9, written=None, both_orders=True, **fields):
    fast = [judgment(**{"fast_scores": [1.0, -1.0], **fields}) for _ in range(COUNT)]
    return judge_quality(fast, (np.arange(COUNT) < right * COUNT).astype(float), written, both_orders)


def test_a_judge_that_judges_has_no_problems():
    written = [judgment(mode="slow")] * 36 + [judgment(mode="slow", parsed=False)] * 4
    found = quality(written=written)
    assert found["problems"] == [] and found["unparsed"] == 0.1 and found["cut"] == 0
    assert found["fast_accuracy_interval"][0] < 0.9 < found["fast_accuracy_interval"][1]
    assert found["position_bias"]["disagreement"] == 0
    assert "position_bias" not in quality(both_orders=False, fast_scores=[1.0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(right=0.5), r"right in 50.0% \[3\d.*6\d.*\] of 40 pairs, which may be chance \(p = 0.56\)"),
        (dict(right=0.1), r"right in 10.0%.*may be chance \(p = 1.00\)"),
        (dict(mass=2.1e-12), "puts 2.1e-12 of its probability on the verdicts"),
        (
            dict(consistent=False, fast_scores=[1.0, 1.0]),
            "prefer different responses in 100.0%, and 100.0% of the verdicts prefer the response shown first",
        ),
        (
            dict(written=[judgment(mode="slow", parsed=False, is_cut=index < 10) for index in range(COUNT)]),
            "100.0% of the written judgments have no verdict, 25.0% were cut at `max_new_tokens`",
        ),
    ],
)
def test_each_problem_is_named_with_its_numbers(settings, message):
    (problem,) = quality(**settings)["problems"]
    assert re.search(message, problem), problem


def test_calibration_warns_with_the_numbers_and_stores_them():
    judge = pair_judge(max_new_tokens=4)
    pairs = [{"prompt": f"w{4 + n}", "chosen": f"w{n} w5", "rejected": f"w{n + 7}"} for n in range(10)]
    with pytest.warns(UserWarning, match=r"may be unreliable: .* of its probability on the verdicts.*were cut at"):
        found = judge.calibrate(pairs, budget=0.5, slow=True)
    assert found["unparsed"] == found["cut"] == 1.0 and len(found["problems"]) >= 2
    assert judge.config.calibration == found


def test_a_judgment_is_cut_where_its_tokens_ran_out():
    judge = pair_judge(max_new_tokens=20, sampling_temperature=5.0)
    words = [f"w{number}" for number in range(4, 16)]
    judged = judge.judge(words, words[::-1], words, mode="slow")
    assert {one.is_cut for one in judged} == {True, False}
    assert all(one.is_cut or max(one.row_tokens) <= 20 for one in judged)
    assert all(max(one.row_tokens) == 20 for one in judged if one.is_cut)
    assert not judge.judge(["w4"], ["w5"], ["w6"], mode="fast")[0].is_cut

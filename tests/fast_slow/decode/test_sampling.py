import pytest
from tiny_judges import pair_judge, point_judge

from hf_reward_ext.fast_slow import sample_judgments
from hf_reward_ext.fast_slow.decode.sampling import judgment_row
from hf_reward_ext.fast_slow.decode.written_judgment import WrittenJudgment
from hf_reward_ext.fast_slow.judge.verdicts import favors
from hf_reward_ext.fast_slow.train.preference_pairs import encode_pair

ROWS = [{"prompt": f"w4 w{n}", "chosen": "w12 w13", "rejected": f"w{n + 3} w15"} for n in range(5, 13)]


@pytest.mark.parametrize("make", [pair_judge, point_judge, lambda: point_judge("rating", ("w10", "w11", "w12", "w13"))])
def test_only_right_judgments_are_kept_half_of_them_overturned(make):
    judge = make()
    data = sample_judgments(judge, ROWS, num_samples=32, temperature=5.0, max_new_tokens=40)
    found = [one for row in data for one in row["judgments"]]
    assert len(found) >= 2 and len(data) == len(ROWS)
    prompt = judge.judge_prompt
    overturned = 0
    for one in found:
        assert favors(prompt.verdict_index(one["verdict"]), prompt.values) == (one["about"] == "chosen")
        overturned += favors(prompt.verdict_index(one["first_verdict"]), prompt.values) != (one["about"] == "chosen")
    assert overturned * 2 == len(found)
    for row in data:
        encode_pair(row, prompt)  # what stage 1 reads


def test_the_text_is_what_the_judge_wrote():
    judge = pair_judge()
    data = sample_judgments(judge, ROWS, num_samples=16, temperature=5.0, max_new_tokens=60, balance=False)
    for row in data:
        encoded = encode_pair(row, judge.judge_prompt)
        for side in ("chosen", "rejected"):
            for ids in encoded[f"{side}_judgments"]:
                tokens = judge.tokenizer.convert_ids_to_tokens(ids)
                assert tokens[1] == "w2" and tokens[-3] == "w3" and "w3" not in tokens[2:-3]


def test_an_odd_number_of_samples_is_refused():
    with pytest.raises(ValueError, match="`num_samples` must be even, got 3"):
        sample_judgments(pair_judge(), ROWS, num_samples=3)


def test_a_judgment_without_analysis_has_no_text():
    judge = pair_judge()
    ids = judge.tokenizer("w10 w2 w3 w11")["input_ids"]
    row = judgment_row(WrittenJudgment(ids, 1), "rejected", judge.judge_prompt)
    assert row == {"about": "rejected", "first_verdict": "w10", "text": "", "verdict": "w11"}

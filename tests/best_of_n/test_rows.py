import pytest

from hf_reward_ext.best_of_n import preference_rows, sft_rows

PROMPT = "2+2="
RECORDS = [
    {"generated_text": "2+2=4", "score": 2.0, "num_tokens": 1, "pruned": False},
    {"generated_text": "2+2=five", "score": 0.5, "num_tokens": 1, "pruned": False},
    {"generated_text": "2+2=5", "score": -1.0, "num_tokens": 1, "pruned": False},
    {"generated_text": "2+2=55", "score": -9.0, "num_tokens": 2, "pruned": True},  # unfinished
]
CHAT = [{"role": "user", "content": "2+2?"}]
CHAT_RECORDS = [
    {"generated_text": [*CHAT, {"role": "assistant", "content": "4"}], "score": 1.0},
    {"generated_text": [*CHAT, {"role": "assistant", "content": "5"}], "score": 0.25},
]


def scores(*values, text="2+2={}"):
    return [{"generated_text": text.format(number), "score": value} for number, value in enumerate(values)]


def test_best_over_worst():
    assert preference_rows(PROMPT, RECORDS) == [{"prompt": "2+2=", "chosen": "4", "rejected": "5", "margin": 3.0}]
    assert preference_rows(PROMPT, RECORDS[::-1]) == preference_rows(PROMPT, RECORDS)


def test_chats_become_messages():
    expected = {
        "prompt": CHAT,
        "chosen": [{"role": "assistant", "content": "4"}],
        "rejected": [{"role": "assistant", "content": "5"}],
        "margin": 0.75,
    }
    assert preference_rows(CHAT, CHAT_RECORDS) == [expected]
    short = [{"generated_text": text, "score": score} for text, score in (("4", 1.0), ("5", 0.25))]
    assert preference_rows(CHAT, short) == [expected]  # `return_full_text=False`


def test_ties_and_equal_texts_give_no_row():
    assert preference_rows(PROMPT, scores(1.0, 1.0)) == []
    same = [{"generated_text": "2+2=4", "score": score} for score in (1.0, 0.5)]
    assert preference_rows(PROMPT, same) == []
    assert preference_rows(PROMPT, RECORDS[:1]) == [] == preference_rows(PROMPT, RECORDS[3:])
    # The best text is also among the worst: only other texts can lose.
    mixed = [*scores(1.0, 0.2), {"generated_text": "2+2=0", "score": -5.0}]
    assert preference_rows(PROMPT, mixed)[0]["rejected"] == "1"


def test_small_margins_can_be_left_out():
    assert preference_rows(PROMPT, scores(1.0, 0.5), min_margin=0.5) == []
    assert preference_rows(PROMPT, scores(1.0, 0.25), min_margin=0.5)[0]["margin"] == 0.75


def test_a_random_loser_depends_on_seed_and_prompt_alone():
    records = scores(*(-float(number) for number in range(20)))
    losers = {preference_rows(PROMPT, records, rejected="random", seed=seed)[0]["rejected"] for seed in range(30)}
    assert len(losers) > 5 and "0" not in losers
    again = preference_rows(PROMPT, records, rejected="random", seed=3)
    assert again == preference_rows(PROMPT, records, rejected="random", seed=3)


def test_after_a_vote_the_winner_is_chosen_and_other_answers_lose():
    records = [
        {"generated_text": "2+2=4", "score": 0.5, "answer": "4"},
        {"generated_text": "2+2=four", "score": 0.1, "answer": "4"},
        {"generated_text": "2+2=5", "score": 3.0, "answer": "5"},
        {"generated_text": "2+2=6", "score": 0.2, "answer": "6"},
    ]
    assert preference_rows(PROMPT, records) == [
        {"prompt": "2+2=", "chosen": "4", "rejected": "6", "margin": pytest.approx(0.3)}
    ]
    assert sft_rows(PROMPT, records)[0]["completion"] == "4"


def test_rejection_sampling_keeps_the_best():
    assert sft_rows(PROMPT, RECORDS) == [{"prompt": "2+2=", "completion": "4", "score": 2.0}]
    assert [row["completion"] for row in sft_rows(PROMPT, RECORDS, keep=9)] == ["4", "five", "5"]
    assert [row["completion"] for row in sft_rows(PROMPT, RECORDS, keep=9, min_score=0.5)] == ["4", "five"]
    assert sft_rows(PROMPT, RECORDS, accept=lambda prompt, text: text.isalpha())[0]["completion"] == "five"
    assert sft_rows(CHAT, CHAT_RECORDS)[0]["completion"] == [{"role": "assistant", "content": "4"}]


def test_refusals():
    with pytest.raises(ValueError, match="begins with 'x', but the completion is what follows"):
        preference_rows(PROMPT, [{"generated_text": "x", "score": 0.0}])
    with pytest.raises(ValueError, match="has the score NaN"):
        sft_rows(PROMPT, [{"generated_text": "2+2=4", "score": float("nan")}])
    with pytest.raises(ValueError, match="`rejected` must be .*got 'middle'"):
        preference_rows(PROMPT, RECORDS, rejected="middle")

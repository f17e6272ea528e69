"""The judge task of the demo."""

import re

from hf_reward_ext.demo import arithmetic
from hf_reward_ext.demo.judge import TEMPLATE, VERDICTS, analysis, claim, pairs
from hf_reward_ext.demo.tokenizer import build_tokenizer
from hf_reward_ext.fast_slow import JudgePrompt
from hf_reward_ext.fast_slow.train.preference_pairs import encode_pair


def read(prompt: str, response: str) -> tuple[tuple[int, ...], int, list[str], int, int]:
    """Numbers and target of the problem; operators, claimed and computed result of the claim."""
    left, target = prompt.rstrip("|").split("=")
    body, result = response.split("=")
    operators = [symbol for symbol in body if symbol in arithmetic.OPERATORS]
    for symbol in arithmetic.OPERATORS:
        body = body.replace(symbol, " ")
    numbers = tuple(map(int, body.split()))
    steps = arithmetic.evaluate(numbers, "".join(operators))
    return tuple(map(int, left.split())), int(target), numbers, int(result), steps[-1]


def test_chosen_claims_are_right_and_rejected_ones_wrong_as_they_say():
    rows = pairs("dev", 300)
    for row in rows:
        given, target, numbers, result, computed = read(row["prompt"], row["chosen"])
        assert numbers == given and result == target == computed
        given, target, numbers, result, computed = read(row["prompt"], row["rejected"])
        visible = {"result": result != target, "number": numbers != given}
        assert visible.get(row["error"], computed != target and numbers == given and result == target)
        assert computed != target or row["error"] == "result"
    shares = {error: rows["error"].count(error) / 300 for error in ("result", "number", "steps")}
    assert 0.3 < shares["steps"] < 0.5 and 0.1 < shares["number"] < shares["result"]


def test_judgments_recompute_the_claim_from_right_and_wrong_first_verdicts():
    rows = pairs("dev", 200)
    overturned = 0
    for row in rows:
        for one, response in zip(row["judgments"], (row["chosen"], row["rejected"]), strict=True):
            last = int(re.split("[.x]", one["text"].split("=")[-1])[0])
            assert last == read(row["prompt"], response)[-1]
            assert ("x" in one["text"]) == (one["about"] == "rejected")
            assert one["verdict"] == VERDICTS[one["about"] == "rejected"]
            overturned += one["first_verdict"] != one["verdict"]
    assert 150 < overturned < 250


def test_marks_say_what_is_wrong():
    problem = arithmetic.Problem((6, 1, 3, 3), 12, ("-*-",))
    assert analysis(problem, (6, 1, 3, 3), "-*-", 12) == "6-1=5;5*3=15;15-3=12.12."
    assert analysis(problem, (6, 1, 4, 3), "-*-", 12) == "6-1=5;5*4=20;20-3=17x12."
    assert analysis(problem, (7, 1, 3, 3), "-*-", 15) == "7-1=6;6*3=18;18-3=15x15x"
    assert analysis(problem, (6, 1, 3, 3), "-*-", 13).endswith("15-3=12.13x")


def test_splits_are_disjoint_and_seeds_differ():
    one, other = pairs("dev", 50), pairs("test", 50)
    assert not set(one["prompt"]) & set(other["prompt"])
    assert pairs("dev", 50)["rejected"] == one["rejected"] != pairs("dev", 50, seed=1)["rejected"]


def test_prompts_and_judgments_are_a_token_a_piece():
    prompt = JudgePrompt(build_tokenizer(), VERDICTS, TEMPLATE)
    problem = arithmetic.problems("dev")[0]
    row = pairs("dev", 1)[0]
    encoded = encode_pair(row, prompt)
    shown = prompt.tokenizer.decode(encoded["chosen_prompt_ids"] + encoded["chosen_judgments"][0])
    first, text = row["judgments"][0]["first_verdict"], row["judgments"][0]["text"]
    assert shown == f"{row['prompt']}{row['chosen']}?{first}:{text}#Yes<eos>"
    assert len(encoded["chosen_judgments"][0]) == 2 + 20 + 3
    assert claim(problem.numbers, "+-*", 5).endswith("=5")

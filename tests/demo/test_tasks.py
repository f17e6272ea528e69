import random

import pytest

from hf_reward_ext.demo import arithmetic, walk
from hf_reward_ext.demo.corpus import Corpus
from hf_reward_ext.demo.tokenizer import build_tokenizer


def test_splits_of_arithmetic_share_no_problem_and_hold_all():
    parts = {split: {problem.prompt for problem in arithmetic.problems(split)} for split in ("train", "dev", "test")}
    assert sum(map(len, parts.values())) == len(set().union(*parts.values())) == 93_395
    assert len(parts["test"]) > 4000


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_walks_stay_in_their_split_and_can_be_walked(split):
    walks = walk.random_walks(split, 50)
    assert len({one.prompt for one in walks}) == 50
    assert all(walk.split_of(one.prompt) == split for one in walks)
    rng = random.Random(0)
    assert all(walk.is_correct(one.prompt, walk.write(one, rng, foresight=walk.STEPS)) for one in walks)


def test_every_solution_is_right_and_every_failed_attempt_is_honest_but_wrong():
    rng = random.Random(0)
    for problem in arithmetic.problems("dev")[:100]:
        for solution in problem.solutions:
            text = arithmetic.write(problem.numbers, solution)
            assert arithmetic.is_correct(problem.prompt, text)
            assert arithmetic.extract_answer(text) == solution
        miss = arithmetic.failed_attempt(problem, rng)
        assert not arithmetic.is_correct(problem.prompt, miss)
        assert arithmetic.extract_answer(miss) not in (None, *problem.solutions)


@pytest.mark.parametrize(
    ("completion", "right"),
    [
        ("6-1=5;5*3=15;15-3=12", True),
        ("6+1=7;7*3=21;21+3=24/6-1=5;5*3=15;15-3=12", True),  # the last attempt counts
        ("6-1=5;5*3=15;15-3=12/6+1=7;7*3=21;21+3=24", False),
        ("6-1=5;5*3=15;15-3=11", False),  # false arithmetic
        ("6-1=5;5*3=15;15+3=12", False),
        ("6*2=12;12+0=12;12+0=12", False),  # other numbers
        ("6-1=5;5*3=15", False),
        ("", False),
    ],
)
def test_arithmetic_is_verified_step_by_step(completion, right):
    assert arithmetic.is_correct("6 1 3 3=12|", completion) is right


@pytest.mark.parametrize(
    ("completion", "right"),
    [("1+2.3+5x", False), ("1+2.3-5x", False), ("1-0x3-3x", False), ("1+2.", False), ("2+2.3+5x", False)],
)
def test_walks_that_end_on_forbidden_cells_or_lie_are_wrong(completion, right):
    assert walk.is_correct("w1 1 3|", completion) is right


def test_a_safe_walk_is_right():
    assert walk.is_correct("w1 1 5|", "1+2.5+7.")
    assert walk.extract_answer("1+2.5+7.") is None  # six steps are a whole answer


def test_texts_of_the_corpus_survive_the_tokenizer_and_train_the_completion_only():
    tokenizer = build_tokenizer()
    assert len(tokenizer) == 128
    rows = list(Corpus(tokenizer, num_batches=8, batch_size=16, seed=0, clean=0.0))
    assert len(rows) == 128
    texts = [tokenizer.decode(row["input_ids"], skip_special_tokens=True) for row in rows]
    assert all(tokenizer.unk_token_id not in row["input_ids"] for row in rows)
    assert any("/" in text for text in texts) and any(text.startswith("w") for text in texts)
    for row, text in zip(rows, texts, strict=True):
        shown = tokenizer.decode([token for token in row["labels"] if token != -100], skip_special_tokens=True)
        assert text.split("|")[1] == shown
        assert row["labels"][-1] == tokenizer.eos_token_id


def test_the_corpus_is_the_same_for_one_seed_and_another_for_another():
    tokenizer = build_tokenizer()
    first, again, other = (list(Corpus(tokenizer, 2, 4, seed=seed)) for seed in (0, 0, 1))
    assert first == again != other


def test_without_retries_no_attempt_is_followed_by_another():
    tokenizer = build_tokenizer()
    rows = Corpus(tokenizer, num_batches=8, batch_size=16, seed=0, clean=0.0, retry=0.0, walk_share=0.0)
    assert not any("/" in tokenizer.decode(row["input_ids"]) for row in rows)

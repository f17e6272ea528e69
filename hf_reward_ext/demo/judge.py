"""
Judge of the demo, which decides whether a claimed solution of an arithmetic problem is correct.

Prompt `6 1 3 3=12|`, response `6-1*3-3=12` (left to right), judge prompt `6 1 3 3=12|6-1*3-3=12?`, verdict `Yes` or
`No`. The written judgment `Yes:6-1=5;5*3=15;15-3=12.12.#Yes` recomputes the claim and repeats its result, both
marked with `.` if they are the target and `x` otherwise. Some wrong claims are obvious (another result, a wrong
number), others only after computing the steps.
"""

import random
from pathlib import Path
from typing import Literal

import torch
from datasets import Dataset

from hf_reward_ext.demo import arithmetic
from hf_reward_ext.demo.arithmetic import OPERATORS, Problem
from hf_reward_ext.fast_slow import FastSlowConfig, FastSlowRewardModel, FastSlowTrainer, JudgeTemplate

VERDICTS = ("Yes", "No")
TEMPLATE = JudgeTemplate(user="{prompt}{response_a}?", base_suffix="", analysis_prefix=":", final_marker="#")
MAX_NEW_TOKENS = 40
Error = Literal["result", "number", "steps"]
_NO_COMPARISON: dict = dict(bradley_terry_weight=0.0, verdict_weight=0.0, center_rewards_coefficient=0.0)


def claim(numbers: tuple[int, ...], operators: str, result: int) -> str:
    """Return the response `6-1*3-3=12`."""
    return f"{numbers[0]}{''.join(f'{o}{n}' for o, n in zip(operators, numbers[1:], strict=True))}={result}"


def analysis(problem: Problem, numbers: tuple[int, ...], operators: str, result: int) -> str:
    """Return the claim's steps and result, each with a mark."""
    last = arithmetic.evaluate(numbers, operators)[-1]
    steps = arithmetic.write(numbers, operators)
    return f"{steps}{_mark(last == problem.target)}{result}{_mark(result == problem.target)}"


def _mark(fits: bool) -> str:
    return "." if fits else "x"


def pairs(split: str, count: int, seed: int = 0, glance: float = 0.6) -> Dataset:
    """
    Return correct and wrong claims about different problems, with judgments that recompute them.

    Args:
        split (`str`): `"train"`, `"dev"` or `"test"`, see [`arithmetic.problems`].
        count, seed (`int`): Number of pairs, and random seed.
        glance (`float`): Share of pairs with an obviously wrong claim: two thirds of them by the result, one third by
            a number.

    Returns:
        `Dataset` with `prompt`, `chosen`, `rejected`, `error` (`"result"`, `"number"` or `"steps"`) and `judgments`,
        one about each claim, from a correct or a wrong first verdict with equal probability.
    """
    rng = random.Random(f"{split} {seed}")
    found = arithmetic.problems(split)
    problems = rng.sample(found, count) if count <= len(found) else rng.choices(found, k=count)
    return Dataset.from_list([_pair(problem, rng, glance) for problem in problems])


def _pair(problem: Problem, rng: random.Random, glance: float) -> dict:
    error: Error = "steps" if rng.random() >= glance else rng.choice(["result", "result", "number"])
    right = rng.choice(problem.solutions)
    numbers, operators, result = wrong_claim(problem, right, error, rng)
    return {
        "prompt": problem.prompt,
        "chosen": claim(problem.numbers, right, problem.target),
        "rejected": claim(numbers, operators, result),
        "error": error,
        "judgments": [
            _judgment("chosen", analysis(problem, problem.numbers, right, problem.target), rng),
            _judgment("rejected", analysis(problem, numbers, operators, result), rng),
        ],
    }


def wrong_claim(problem: Problem, right: str, error: Error, rng: random.Random) -> tuple[tuple[int, ...], str, int]:
    """Return the numbers, operators and claimed result of a wrong claim whose steps can be computed."""
    while True:
        numbers, operators, result = problem.numbers, right, problem.target
        if error == "result":
            result = rng.randrange(100)
        elif error == "number":
            changed = list(numbers)
            changed[rng.randrange(len(changed))] = rng.randint(1, 9)
            numbers = tuple(changed)
        else:
            operators = "".join(rng.choices(list(OPERATORS), k=len(right)))
        steps = arithmetic.evaluate(numbers, operators)
        if steps is None:
            continue
        missed = steps[-1] != problem.target
        wrong = {"result": result != problem.target, "number": numbers != problem.numbers and missed}
        if wrong.get(error, missed):
            return numbers, operators, result


def _judgment(about: str, text: str, rng: random.Random) -> dict:
    verdict = VERDICTS[0] if about == "chosen" else VERDICTS[1]
    return {"about": about, "first_verdict": rng.choice(VERDICTS), "text": text, "verdict": verdict}


def train_judge(
    policy,
    tokenizer,
    folder: str | Path,
    num_pairs: int = 14000,
    rounds: int = 3,
    writing_rounds: int = 1,
    learning_rate: float = 2e-3,
    batch_size: int = 16,
    seed: int = 0,
) -> FastSlowRewardModel:
    """
    Train the demo policy as a judge (stage 1), in place.

    Args:
        policy, tokenizer: Policy, whose weights are trained further, and tokenizer.
        folder (`str` or `Path`): Output folder of the trainer.
        num_pairs (`int`): Number of training pairs per round.
        rounds (`int`): Number of rounds, each with new pairs and its own learning rate schedule.
        writing_rounds (`int`): Number of preceding rounds on judgments only, after which comparisons are learned
            better.
        learning_rate, batch_size, seed: Training settings; a batch counts pairs.

    Returns:
        [`FastSlowRewardModel`], not calibrated.

    Raises:
        ValueError: If there are no rounds.
    """
    if rounds < 1:
        raise ValueError(f"`rounds` must be at least 1, got {rounds}. Pass 1 or more.")
    settings = (policy, tokenizer, folder, num_pairs, learning_rate, batch_size)
    for number in range(writing_rounds):
        _one_round(*settings, seed + 100 * (rounds + number), judgment_weight=1.0, **_NO_COMPARISON)
    for number in range(rounds - 1):
        _one_round(*settings, seed + 100 * number)
    return _one_round(*settings, seed + 100 * (rounds - 1))


def _one_round(
    policy, tokenizer, folder, num_pairs, learning_rate, batch_size, seed, judgment_weight=3.0, **weights
) -> FastSlowRewardModel:
    args = FastSlowConfig(
        str(folder),
        verdicts=list(VERDICTS),
        judgment_weight=judgment_weight,  # 3 because the mean is over tokens that are mostly certain
        **weights,
        adam_beta2=0.98,
        learning_rate=learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=50,
        num_train_epochs=1,
        per_device_train_batch_size=batch_size,
        activation_checkpointing=False,
        report_to="none",
        logging_steps=100,
        save_strategy="no",
        disable_tqdm=True,
        seed=seed,
        use_cpu=not torch.cuda.is_available(),
    )
    rows = pairs("train", num_pairs, seed)
    trainer = FastSlowTrainer(policy, args, train_dataset=rows, processing_class=tokenizer, template=TEMPLATE)
    trainer.train()
    judge = trainer.judge
    judge.config.max_new_tokens = MAX_NEW_TOKENS
    judge.batch_size = 128
    return judge

"""ELHSR on the demo policy, compared with other ways to choose among 16 candidates."""

import time

import numpy as np

from hf_reward_ext.demo import arithmetic, walk
from hf_reward_ext.demo.comparison import Comparison, Example, SampleText, Way, make_way
from hf_reward_ext.demo.elhsr import (
    CANDIDATES,
    PRUNING,
    TEMPERATURE,
    choose,
    choose_by_vote,
    prompts_of,
    rollouts_of,
    sample_pruned,
    train_head,
    with_prefixes,
)
from hf_reward_ext.demo.sampling import Rollouts
from hf_reward_ext.demo.setup import Setup
from hf_reward_ext.demo.text_reward_model import train_text_reward_model

METHOD = "ELHSR"
POOL = f"{CANDIDATES} samples at T = {TEMPERATURE}"


def compare(setup: Setup) -> Comparison:
    """Compare ways to choose among the same 16 samples of each held-out problem, on both tasks."""
    ways, examples = compare_choices(setup)
    return Comparison(
        METHOD,
        f"Which of {CANDIDATES} candidates is right? A linear head on the hidden states of the policy scores them "
        "while they are generated. On walks, whose failures show early, weak candidates are also stopped.",
        {},
        [*ways, *compare_pruning(setup)],
        examples,
    )


def compare_choices(setup: Setup) -> tuple[list[Way], list[Example]]:
    """Return the rows of the arithmetic task, and examples."""
    policy, tokenizer, count, seed = setup.policy, setup.tokenizer, setup.size.num_train, setup.seed
    prompts = prompts_of(arithmetic, "test", setup.size.num_test, seed)
    labeled = rollouts_of(policy, tokenizer, arithmetic, count, seed)
    scorer, text_seconds = train_text_reward_model(policy, tokenizer, labeled, setup.folder / f"text-{count}", seed)
    epochs = setup.size.head_epochs
    train = (policy, tokenizer, labeled.rows)
    head, seconds = train_head(*train, setup.folder / f"elhsr-{count}", seed, num_train_epochs=epochs)
    on_logits, logits_seconds = train_head(
        *train, setup.folder / f"elhsr-logits-{count}", seed, num_train_epochs=epochs, features="logits"
    )

    def candidates(head, name: str) -> Rollouts:  # the same candidates for every head
        return setup.sample(prompts, arithmetic, CANDIDATES, TEMPERATURE, head=head, name=name)

    started = time.perf_counter()
    tests = candidates(head, f"{CANDIDATES} candidates")
    sampling = time.perf_counter() - started
    greedy = setup.sample(prompts, arithmetic, 1, 0.0, name="greedy")
    flat = [text for group in tests.completions for text in group]
    text_scores = scorer([prompt for prompt in prompts for _ in range(CANDIDATES)], flat).numpy()
    logit_rewards = candidates(on_logits, f"{CANDIDATES} candidates, logits").rewards
    tokens, correct = float(tests.num_tokens.sum(1).mean()), tests.correct.astype(float)

    def choice(name: str, what: str, right, needed: float, **values) -> Way:
        return make_way("arithmetic", name, what, right, tokens, seconds=needed, candidates=POOL, **values)

    ways = [
        make_way("arithmetic", "greedy", "no choice", greedy.correct[:, 0], greedy.num_tokens.mean()),
        make_way("arithmetic", "one sample", "no choice", correct.mean(1), tokens / CANDIDATES),
        choice("majority", "most frequent of 16", choose_by_vote(tests, arithmetic), sampling),
        choice("log-probability", "most likely of 16", choose(tests, tests.mean_logps), sampling),
        choice(
            "text reward model",
            f"copy of the policy fine-tuned on {count} labels",
            choose(tests, text_scores.reshape(correct.shape)),
            text_seconds,
        ),
        choice("ELHSR, logits", f"linear head on logits, {count} labels", choose(tests, logit_rewards), logits_seconds),
        choice("ELHSR", f"linear head on hidden states, {count} labels", choose(tests, tests.rewards), seconds),
        choice("any of 16", "oracle", correct.max(1), sampling, is_oracle=True),
    ]
    return ways, _examples(tests)


def compare_pruning(setup: Setup) -> list[Way]:
    """Return the rows of the walk task: best-of-N with and without pruning, from the same candidates."""
    count, seed = setup.size.num_train // 2, setup.seed
    labeled = rollouts_of(setup.policy, setup.tokenizer, walk, count, seed)
    rows = with_prefixes(labeled.rows, PRUNING.steps)
    epochs = max(1, setup.size.head_epochs // 4)  # of seven times as many rows
    head, seconds = train_head(
        setup.policy, setup.tokenizer, rows, setup.folder / "elhsr-walk", seed, num_train_epochs=epochs
    )
    prompts = setup.test_walks()
    started = time.perf_counter()
    plain = setup.sample(prompts, walk, CANDIDATES, TEMPERATURE, head=head, name=f"{CANDIDATES} walks")
    plain_seconds = time.perf_counter() - started
    started = time.perf_counter()
    right, pruned_tokens = sample_pruned(setup.policy, setup.tokenizer, head, prompts, walk, PRUNING, seed=seed)
    pruned_seconds = time.perf_counter() - started
    tokens, correct = float(plain.num_tokens.sum(1).mean()), plain.correct.astype(float)
    what = f"linear head, {count} labels ({seconds:.0f} s)"
    pruned_what = f"the same; checked after {', '.join(map(str, PRUNING.steps))} tokens"

    def choice(name: str, what: str, right, tokens: float, needed: float = plain_seconds, **values) -> Way:
        return make_way("walk", name, what, right, tokens, seconds=needed, candidates=POOL, **values)

    return [
        make_way("walk", "one sample", "no choice", correct.mean(1), tokens / CANDIDATES),
        choice("log-probability", "most likely of 16", choose(plain, plain.mean_logps), tokens),
        choice("ELHSR", what, choose(plain, plain.rewards), tokens),
        choice("ELHSR, pruned", pruned_what, right, pruned_tokens.mean(), pruned_seconds),
        choice("any of 16", "oracle", correct.max(1), tokens, is_oracle=True),
    ]


def _examples(tests: Rollouts, count: int = 3) -> list[Example]:
    """Return the best and the worst candidate of the first problems with right and wrong candidates."""
    mixed = np.flatnonzero((tests.correct.max(1) == 1) & (tests.correct.min(1) == 0))
    found = []
    for row in mixed[:count]:
        ends = {"best of 16": int(tests.rewards[row].argmax()), "worst of 16": int(tests.rewards[row].argmin())}
        texts = [
            SampleText(
                name, tests.completions[row][place], bool(tests.correct[row, place]),
                f"reward {tests.rewards[row, place]:.2f}",
            )
            for name, place in ends.items()
        ]  # fmt: skip
        found.append(Example(tests.prompts[row], texts))
    return found

"""Fast-Slow on the demo policy: a judge of claimed solutions, fast, gated and always slow."""

import time
from typing import Any

import numpy as np
import torch

from hf_reward_ext.demo.comparison import Comparison, Example, SampleText, make_way
from hf_reward_ext.demo.judge import pairs, train_judge
from hf_reward_ext.demo.setup import Setup
from hf_reward_ext.fast_slow.calibrate.calibrate import alternating_pairs
from hf_reward_ext.fast_slow.calibrate.calibration import outcomes
from hf_reward_ext.fast_slow.calibrate.thresholds import escalated
from hf_reward_ext.fast_slow.judge.judgment import Judgment

METHOD = "Fast-Slow"
TASK = "pairs of claims"
BUDGET = 0.57  # share of the tokens of always slow
POOL = "verdicts of both paths"


def compare(setup: Setup) -> Comparison:
    """
    Compare fast, gated and written judgments on held-out pairs.

    The gate is fitted on development pairs. The oracle escalates exactly the pairs that the written judgment decides
    better; the random gate escalates as many as the gate does.
    """
    started = time.perf_counter()
    judge = train_judge(
        setup.policy_copy(), setup.tokenizer, setup.folder / "judge", setup.size.judge_pairs, rounds=1, seed=setup.seed
    )
    development = pairs("dev", 3 * setup.size.num_test // 5, setup.seed)
    judge.calibrate(development, budget=BUDGET, slow=True)
    seconds = time.perf_counter() - started
    judge.save_pretrained(setup.folder / "judge")
    setup.tokenizer.save_pretrained(setup.folder / "judge")
    rows: Any = pairs("test", setup.size.num_test, setup.seed)
    columns, truth = alternating_pairs(rows)
    torch.manual_seed(setup.seed)
    fast = judge.judge(*columns, mode="fast")
    slow = judge.judge(*columns, mode="slow")
    data = outcomes(fast, truth, slow)
    chosen = escalated(judge.gate, data)
    rate = float(chosen.mean())

    def mixed(share) -> tuple[np.ndarray, float]:
        right = (1 - share) * data.fast_right + share * data.slow_right
        return right, float(((1 - share) * data.fast_tokens + share * data.slow_tokens).mean())

    paths = [
        ("fast", "first token only", mixed(0.0), "always, gated"),
        ("gated", f"written if unsure: {rate:.0%} of the pairs", mixed(chosen.astype(float)), "always, gated"),
        ("always slow", "written judgment of every pair", mixed(1.0), "always, gated"),
        ("random gate", "as many written judgments, drawn at random", mixed(rate), "random gate"),
    ]
    ways = [
        make_way(TASK, name, what, right, tokens, seconds=seconds, candidates=POOL, series=series, x=tokens)
        for name, what, (right, tokens), series in paths
    ]
    best, tokens = mixed((data.slow_right > data.fast_right).astype(float))
    ways.append(
        make_way(TASK, "best gate", "oracle: written where that helps", best, tokens, candidates=POOL, is_oracle=True)
    )
    return Comparison(
        METHOD,
        "Two claimed solutions, of which only one is right. Where is a written judgment needed? A judge decides by its "
        "first token, and writes only if that verdict is unsure.",
        {TASK: "tokens per pair"},
        ways,
        _examples(columns, truth, fast, slow, chosen),
    )


def _examples(columns, truth, fast: list[Judgment], slow: list[Judgment], chosen: np.ndarray) -> list[Example]:
    """Return a pair that is decided at once, and two whose wrong fast verdict is corrected in writing."""
    right_fast, right_slow = (np.array([one.score > 0 for one in part]) == truth for part in (fast, slow))
    rows = [*np.flatnonzero(right_fast & ~chosen)[:1], *np.flatnonzero(~right_fast & right_slow & chosen)[:2]]
    found = []
    for row in rows:
        prompt, first, second = (column[row] for column in columns)
        verdict = SampleText("fast", _better(fast[row]), bool(right_fast[row]), f"intuition {fast[row].intuition:.2f}")
        texts = [verdict]
        if chosen[row]:
            written = [f"{side}: {votes[0]}" for side, votes in zip("ab", slow[row].texts, strict=True)]
            texts.append(SampleText("written", "  ".join([*written, _better(slow[row])]), bool(right_slow[row])))
        found.append(Example(f"{prompt} a: {first}  b: {second}", texts))
    return found


def _better(judgment: Judgment) -> str:
    side = "a" if judgment.score > 0 else "b"
    return f"prefers {side} with probability {max(judgment.probability, 1 - judgment.probability):.2f}"

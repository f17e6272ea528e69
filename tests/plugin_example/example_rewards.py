"""A whole package that adds a reward, a benchmark and a generator, by the entry points in its metadata."""

import numpy as np

from hf_reward_ext.base.stats.intervals import share_with_interval
from hf_reward_ext.engines import Generated
from hf_reward_ext.evaluation.benchmarks.rows import PreferenceRow

COLUMNS = ("question", "good", "bad")
WHAT = "example"


def shortest(prompts, completions):
    return [-len(text) for text in completions]


def read(row):
    return PreferenceRow(row["question"], [row["good"]], [row["bad"]])


def correct(scored):
    return [float(one.margins[0, 0, 0] > 0) for one in scored]


def summarize(scored, confidence, **_):
    return {"accuracy": share_with_interval(np.array(correct(scored)), confidence)}


class Echo:
    def generate(self, prompts, num_candidates, sampling, first=0):
        return [
            [Generated(prompt[: number + 1]) for number in range(first, first + num_candidates)] for prompt in prompts
        ]

    def describe(self):
        return {"engine": "echo"}

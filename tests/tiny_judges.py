"""Tiny judges for the tests."""

from contextlib import contextmanager

import numpy as np
import torch
from tiny import tiny_causal_lm, tiny_tokenizer

from hf_reward_ext.fast_slow import FastSlowRewardModel, Judgment
from hf_reward_ext.fast_slow.calibrate.calibration import Outcomes
from hf_reward_ext.fast_slow.judge.prompt import JudgePrompt
from hf_reward_ext.fast_slow.judge.template import JudgeTemplate

TEMPLATE = JudgeTemplate(
    user="{prompt} w0 {response_a} w1 {response_b}", base_suffix="", analysis_prefix=" w2", final_marker=" w3"
)
POINTWISE = JudgeTemplate(user="{prompt} w0 {response_a}", base_suffix="", analysis_prefix=" w2", final_marker=" w3")
VERDICTS = ("w10", "w11")


def pair_prompt(template=TEMPLATE):
    return JudgePrompt(tiny_tokenizer(), VERDICTS, template)


def random_rows(lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, 32, (length,), generator=generator).tolist() for length in lengths]


@contextmanager
def counted(model):
    """List of the `(rows, new tokens)` of every forward inside."""
    shapes = []
    handle = model.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    try:
        yield shapes
    finally:
        handle.remove()


def pair_judge(model=None, **kwargs):
    """A random judge of pairs."""
    settings = dict(template=TEMPLATE, max_new_tokens=8)
    return FastSlowRewardModel(model or tiny_causal_lm(), tiny_tokenizer(), VERDICTS, **{**settings, **kwargs})


def point_judge(kind="binary", verdicts=VERDICTS, **kwargs):
    """A random judge of single responses."""
    settings = dict(template=POINTWISE, kind=kind, max_new_tokens=8)
    return FastSlowRewardModel(tiny_causal_lm(), tiny_tokenizer(), verdicts, **{**settings, **kwargs})


def outcome_judgment(**fields):
    """A judgment of which a test sets what it looks at."""
    given = dict(
        probability=0.5, mode="fast", intuition=0.5, distribution=0.5, num_tokens=2, text="A", score=0.0,
        fast_probability=0.5, mass=0.9, consistent=True, parsed=True, first_verdicts=["A"], final_verdicts=[[]],
        fast_scores=[0.0], vote_scores=[[]], texts=[[]], row_tokens=[1],
    )  # fmt: skip
    return Judgment(**{**given, **fields})


def simulated(count=2000, seed=0, written=True):
    """Fast verdicts that may be wrong where either of two confidences is low."""
    rng = np.random.default_rng(seed)
    intuition, distribution = rng.random(count), rng.random(count)
    fast_right = rng.random(count) < np.where(np.minimum(intuition, distribution) < 0.2, 0.5, 0.97)
    return Outcomes(
        intuition,
        distribution,
        fast_right.astype(float),
        np.full(count, 2),
        (rng.random(count) < 0.98).astype(float) if written else None,
        np.full(count, 50) if written else None,
    )


def point_prompt():
    return JudgePrompt(tiny_tokenizer(), VERDICTS, POINTWISE, "binary")


def scale_prompt():
    return JudgePrompt(tiny_tokenizer(), ("w10", "w11", "w12"), POINTWISE, "rating")

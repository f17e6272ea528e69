"""Tiny judges for the tests."""

from contextlib import contextmanager

import torch
from tiny import tiny_tokenizer

from hf_reward_ext.fast_slow.prompt import JudgePrompt, JudgeTemplate

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

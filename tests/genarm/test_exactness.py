"""Every way of decoding against the reference; `examples/benchmarks/genarm_exactness.py` does it for 30 draws."""

import pytest
import torch
from guided_reference import MODES, Draw
from tiny import ARCHITECTURES


@pytest.mark.parametrize("num_guides", [1, 2])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_tokens_equal_those_of_the_reference(architecture, num_guides):
    for seed in range(2):
        draw = Draw(architecture, num_guides, seed)
        for mode in MODES:
            expected = draw.reference(mode)
            assert torch.equal(draw.processor(mode), expected), (mode, seed, "processor")
            assert torch.equal(draw.composite(mode), expected), (mode, seed, "composite")

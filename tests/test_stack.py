"""The quick selection that runs on the newest versions leaves out no trainer, way of decoding or pipeline."""

import pytest
from versions import ROOT

import hf_reward_ext

ENDS = ("Trainer", "LogitsProcessor", "CausalLM", "CustomGenerate", "Callback", "Mixin", "StoppingCriteria")
NAMES = [name for name in hf_reward_ext.__all__ if name.endswith((*ENDS, "sla_generate", "HiddenStateReward"))]
PIPELINES = ["reward-bon", "text-classification"]
MARKED = [text for path in ROOT.glob("tests/**/test_*.py") if "pytest.mark.stack" in (text := path.read_text())]


@pytest.mark.parametrize("name", [*NAMES, *PIPELINES])
def test_a_marked_file_uses(name):
    assert len(NAMES) > 10
    assert any(name in text for text in MARKED)

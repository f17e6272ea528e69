import random

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import GradientState
from accelerate.utils import GradientAccumulationPlugin
from tiny import tiny_causal_lm
from transformers import TrainingArguments

from hf_reward_ext.callbacks.evaluation_mode import evaluation_mode


def draws():
    return random.random(), np.random.rand(), torch.rand(()).item()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_modes_checkpointing_randomness_and_accumulation_come_back(tmp_path):
    args = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    Accelerator(cpu=True, gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=3))
    model = tiny_causal_lm().train()
    model.model.layers[0].eval()  # a frozen part, say
    model.gradient_checkpointing_enable()
    modes = [module.training for module in model.modules()]
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    expected = draws()
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    for failure in (None, RuntimeError("inside")):
        state = torch.get_rng_state()
        try:
            with evaluation_mode(model, args) as policy:
                assert policy is model and not any(module.training for module in policy.modules())
                assert not torch.is_grad_enabled() and not policy.is_gradient_checkpointing
                draws()
                if failure:
                    raise failure
        except RuntimeError as error:
            assert error is failure
        assert [module.training for module in model.modules()] == modes
        assert torch.equal(torch.get_rng_state(), state) and torch.is_grad_enabled()
        if failure is None:
            assert model.is_gradient_checkpointing
            assert draws() == expected
    assert GradientState().num_steps == 3

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny import ARCHITECTURES, tiny_causal_lm

from hf_reward_ext.base.private_api import supports_logits_to_keep


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_models_that_support_it_return_the_last_logits_alone(arch):
    model = tiny_causal_lm(arch)
    assert supports_logits_to_keep(model)
    assert model(torch.tensor([[3, 4, 5]]), logits_to_keep=1).logits.shape[1] == 1


def test_adapters_do_not_hide_it():
    model = get_peft_model(tiny_causal_lm(), LoraConfig(target_modules="all-linear"))
    assert supports_logits_to_keep(model)

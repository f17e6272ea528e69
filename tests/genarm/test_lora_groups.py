import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny import tiny_causal_lm

from hf_reward_ext import GuidedCausalLM
from hf_reward_ext.genarm.lora_groups import GroupedAdapters


def adapted(**kwargs):
    torch.manual_seed(0)
    config = LoraConfig(r=4, init_lora_weights=False, **kwargs)
    model = get_peft_model(tiny_causal_lm(), config, adapter_name="one")
    model.add_adapter("two", config)
    return model.eval()


@pytest.mark.parametrize("target_modules", ["all-linear", ["q_proj", "embed_tokens"]])
def test_groups_of_rows_use_their_own_adapter(target_modules):
    model = adapted(target_modules=target_modules)
    ids = torch.tensor([[4, 5, 6], [7, 8, 9]])
    with GroupedAdapters(model.get_base_model(), ["one", "two"]).groups_of(2):
        together = model.get_base_model()(torch.cat([ids] * 3)).logits.chunk(3)
    with model.disable_adapter():
        torch.testing.assert_close(together[0], model(ids).logits)
    for name, logits in zip(["one", "two"], together[1:], strict=True):
        model.set_adapter(name)
        torch.testing.assert_close(logits, model(ids).logits)


def test_layers_that_are_not_linear_are_mixed_too():
    torch.manual_seed(0)
    config = LoraConfig(r=2, target_modules=["0"], init_lora_weights=False)
    model = get_peft_model(torch.nn.Sequential(torch.nn.Conv1d(3, 4, 2)), config, adapter_name="one").eval()
    values = torch.randn(2, 3, 5)
    with GroupedAdapters(model.base_model, ["one"]).groups_of(2):
        bare, adapted_values = model.base_model(torch.cat([values] * 2)).chunk(2)
    torch.testing.assert_close(adapted_values, model(values))
    with model.disable_adapter():
        torch.testing.assert_close(bare, model(values))


def test_groups_follow_weights_that_change_and_adapters_of_other_ranks():
    model = adapted(target_modules="all-linear")
    model.add_adapter("wide", LoraConfig(r=6, init_lora_weights=False, target_modules=["q_proj"], lora_alpha=3))
    model.eval()
    ids, names = torch.tensor([[4, 5, 6]]), ["two", "wide", "one"]
    grouped = GroupedAdapters(model.get_base_model(), names)
    for _ in range(2):
        with grouped.groups_of(1), torch.no_grad():
            together = model.get_base_model()(torch.cat([ids] * 4)).logits.chunk(4)[1:]
        for name, logits in zip(names, together, strict=True):
            model.set_adapter(name)
            torch.testing.assert_close(logits, model(ids).logits)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight.mul_(-2)


def test_no_forward_is_replaced_after_it_even_after_an_error():
    model = adapted(target_modules="all-linear")
    layer = model.get_base_model().model.layers[0].self_attn.q_proj
    own = layer.forward
    layer.forward = own  # as accelerate leaves it
    ids = torch.tensor([[4, 5, 6]])
    before = model(ids).logits
    with pytest.raises(RuntimeError, match="stop"), GroupedAdapters(model, ["one"]).groups_of(1):
        raise RuntimeError("stop")
    assert vars(layer)["forward"] == own
    assert not any("forward" in vars(module) for module in model.modules() if module is not layer)
    assert torch.equal(model(ids).logits, before)


def test_layers_that_see_other_rows_than_the_batch_are_refused():
    model = adapted(target_modules="all-linear")
    with pytest.raises(ValueError, match="got 3 rows where the batch has 4"):
        with GroupedAdapters(model, ["one"]).groups_of(2):
            model.get_base_model()(torch.tensor([[4, 5, 6]] * 3))


def test_disabled_adapters_guide_all_the_same_or_are_refused():
    ids = torch.tensor([[4, 5, 6]])
    for target_modules in ("all-linear", ["q_proj", "embed_tokens"]):
        model = adapted(target_modules=target_modules)
        grouped, base = GroupedAdapters(model.get_base_model(), ["one"]), model.get_base_model()
        with grouped.groups_of(1):
            expected = base(torch.cat([ids] * 2)).logits
        with model.disable_adapter():
            if target_modules == "all-linear":
                with grouped.groups_of(1):
                    assert torch.equal(base(torch.cat([ids] * 2)).logits, expected)
            else:
                with pytest.raises(ValueError, match=r"must be switched on.*Generate outside of `disable_adapter"):
                    with grouped.groups_of(1):
                        pass
        assert not any("forward" in vars(module) for module in model.modules())


def test_a_copy_has_groups_of_its_own():
    guided = GuidedCausalLM.from_peft(adapted(target_modules="all-linear"), ["one"])
    ids = torch.tensor([[4, 5, 6]])
    before = guided(ids).logits
    other = copy.deepcopy(guided)
    with torch.no_grad():
        for parameter in other.base.parameters():
            parameter.mul_(0.5)
    assert torch.equal(guided(ids).logits, before) and not torch.equal(other(ids).logits, before)

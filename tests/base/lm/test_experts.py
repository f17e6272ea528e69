import pytest
import torch
from architectures.build import tiny_model
from peft import LoraConfig, get_peft_model

from hf_reward_ext.base.lm.experts import optimized_for_decode
from hf_reward_ext.genarm import GuidedCausalLM
from hf_reward_ext.sla import RewardTransformer

IDS = torch.tensor([[3, 4, 5]])


def experts(seed=0, model_type="qwen3_moe"):
    """With the experts that transformers prefers."""
    return tiny_model(model_type, seed=seed, dtype=torch.float32)


def composite(base):
    return GuidedCausalLM(base, experts(seed=1), alpha=0.0)


def adapters(base):
    peft_model = get_peft_model(base, LoraConfig(target_modules=["o_proj"]), adapter_name="arm")
    return GuidedCausalLM.from_peft(peft_model, ["arm"], alpha=0.0)


def channel(base):
    return RewardTransformer.from_base(base, channel_size=4)


@pytest.mark.parametrize("wrap", [composite, adapters, channel])
@pytest.mark.parametrize("model_type", ["qwen3_moe", "mixtral", "gpt_oss", "glm4_moe", "deepseek_v3", "qwen3_vl_moe"])
def test_mixtures_of_experts_are_wrapped_as_they_are_loaded(wrap, model_type):
    base = experts(model_type=model_type)
    config = base.config.get_text_config(decoder=True)
    assert config._experts_implementation == "grouped_mm"
    with torch.no_grad():
        expected = base(IDS).logits.log_softmax(-1)
        torch.testing.assert_close(wrap(base)(IDS).logits.log_softmax(-1), expected)
    assert config._experts_implementation == "grouped_mm"


@pytest.mark.parametrize("wrap", [composite, channel])
def test_each_model_inside_chooses_its_experts_for_decoding(wrap, monkeypatch):
    base = experts()
    wrapped = wrap(base)
    models = [base, *getattr(wrapped, "guides", [])]
    seen = []
    monkeypatch.setattr(type(base), "device", torch.device("cuda"))  # where transformers changes experts to decode
    with wrapped._optimize_model_for_decode():
        seen = [model.config._experts_implementation for model in models]
    assert seen == ["batched_mm"] * len(models)
    assert [model.config._experts_implementation for model in models] == ["grouped_mm"] * len(models)
    with optimized_for_decode([]):
        assert base.config._experts_implementation == "grouped_mm"


@pytest.mark.parametrize(
    "target",
    [dict(target_parameters=["mlp.experts.gate_up_proj"]), dict(target_modules=["q_proj", "gate"])],
)
@pytest.mark.parametrize("length", [1, 3])
def test_adapters_on_experts_are_refused_for_prompts_of_any_length(target, length):
    peft_model = get_peft_model(experts(), LoraConfig(**target), adapter_name="arm").eval()
    with pytest.raises(ValueError, match="Use `GenARMLogitsProcessor` with a copy of the model"):
        GuidedCausalLM.from_peft(peft_model, ["arm"])(IDS[:, :length])


@pytest.mark.parametrize("wrap", [composite, adapters, channel])
@pytest.mark.parametrize("model_type", ["qwen3_moe", "qwen3_vl_moe"])
def test_implementations_are_set_on_the_models_inside(wrap, model_type):
    base = experts(model_type=model_type)
    wrapped = wrap(base)
    models = [base, *getattr(wrapped, "guides", [])]
    with torch.no_grad():
        before = wrapped(IDS).logits
        wrapped.set_experts_implementation("eager")
        wrapped.set_attn_implementation("eager")
        after = wrapped(IDS).logits
    torch.testing.assert_close(before, after)
    for model in (wrapped, *models):
        config = model.config.get_text_config(decoder=True)
        assert (config._experts_implementation, config._attn_implementation) == ("eager", "eager")

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny import tiny_causal_lm

from hf_reward_ext import ELHSRModel, GenARMRewardModel
from hf_reward_ext.base.saving.merging import merge_models

IDS = torch.tensor([[4, 5, 6, 7]])


def head(seed, **kwargs):
    torch.manual_seed(seed)
    return ELHSRModel.from_policy(tiny_causal_lm(), **kwargs)


def test_weights_are_added_and_the_models_stay():
    models = [tiny_causal_lm(seed=seed) for seed in range(3)]
    before = [model.state_dict()["lm_head.weight"].clone() for model in models]
    merged = merge_models(models, [0.5, 0.2, 0.3])
    for name, values in merged.state_dict().items():
        expected = sum(w * model.state_dict()[name] for w, model in zip((0.5, 0.2, 0.3), models, strict=True))
        torch.testing.assert_close(values, expected)
    assert all(torch.equal(model.lm_head.weight, old) for model, old in zip(models, before, strict=True))
    assert merged.config.name_or_path == ""


def test_merging_a_model_with_itself_changes_nothing_in_half_precision_too():
    model = tiny_causal_lm(dtype=torch.bfloat16)
    merged = merge_models([model] * 3)
    assert all(torch.equal(values, model.state_dict()[name]) for name, values in merged.state_dict().items())
    assert merged.dtype == torch.bfloat16


def test_tied_weights_stay_tied():
    models = [tiny_causal_lm(seed=seed, tie_word_embeddings=True) for seed in range(2)]
    merged = merge_models(models)
    expected = (models[0].lm_head.weight + models[1].lm_head.weight) / 2
    torch.testing.assert_close(merged.lm_head.weight, expected)
    assert merged.lm_head.weight is merged.model.embed_tokens.weight


def test_heads_without_a_gate_give_the_mean_of_their_rewards():
    heads = [head(seed, gate=False) for seed in range(2)]
    features, mask = torch.randn(2, 5, heads[0].config.num_features), torch.ones(2, 5).bool()
    expected = 0.25 * heads[0](features, mask) + 0.75 * heads[1](features, mask)
    torch.testing.assert_close(merge_models(heads, [0.25, 0.75])(features, mask), expected)


def test_a_reward_model_is_merged_and_saved(tmp_path):
    models = [GenARMRewardModel.from_causal_lm(tiny_causal_lm(seed=seed)) for seed in range(2)]
    merged = merge_models(models)
    merged.save_pretrained(tmp_path)
    loaded = GenARMRewardModel.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(IDS).logits, merged(IDS).logits)


def test_models_that_do_not_add_up_are_refused():
    model = tiny_causal_lm()
    with pytest.raises(ValueError, match=r"each of the 2 models.*got \[0.5, 0.2\].*Divide them"):
        merge_models([model, model], [0.5, 0.2])
    with pytest.raises(ValueError, match=r"each of the 2 models.*got \[1.0\]"):
        merge_models([model, model], [1.0])
    with pytest.raises(ValueError, match="each of the 0 models"):
        merge_models([])
    with pytest.raises(ValueError, match="other weights.*one checkpoint"):
        merge_models([model, tiny_causal_lm(num_hidden_layers=2)])
    with pytest.raises(TypeError, match="Use `merge_adapters`"):
        merge_models([get_peft_model(tiny_causal_lm(), LoraConfig(target_modules=["q_proj"]))])
    one, other = head(0), head(0)
    one.config.base_model_name_or_path, other.config.base_model_name_or_path = "a", "b"
    with pytest.raises(ValueError, match="one base model, got .*base_model_name_or_path='b'`"):
        merge_models([one, other])
    with pytest.raises(ValueError, match=r"one base model, got .*layers=\[1\]`"):
        merge_models([head(0, layers=[0]), head(0, layers=[1])])

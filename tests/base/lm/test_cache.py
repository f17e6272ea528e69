import pytest
import torch
from architectures.build import tiny_model
from peft import LoraConfig, get_peft_model
from tiny import tiny_causal_lm
from transformers import DynamicCache, StaticCache

from hf_reward_ext.base.lm.cache import can_select_rows, new_cache
from hf_reward_ext.base.lm.guide import CachedGuide
from hf_reward_ext.base.lm.prefill import SharedPrefill

# A cache of their own, or none; what `generate` itself gives them is no `DynamicCache`.
WITHOUT_DYNAMIC_CACHE = ("openai-gpt", "xlstm", "minimax", "reformer")


@pytest.mark.parametrize("model_type", WITHOUT_DYNAMIC_CACHE)
def test_models_with_a_cache_of_their_own_get_none_from_us(model_type):
    model = tiny_model(model_type, dtype=torch.float32)
    assert new_cache(model) is None and not can_select_rows(None)
    ids = torch.tensor([[3, 4, 5, 6]])
    assert SharedPrefill(model, ids, torch.ones_like(ids)).expanded_cache(2) is None
    with pytest.warns(UserWarning, match="cannot follow rows"):
        guide = CachedGuide(model)
    fresh = model(input_ids=ids).logits[:, -1]
    torch.testing.assert_close(guide.next_token_logits(ids), fresh)


@pytest.mark.parametrize("model_type", ["llama", "qwen3_moe", "gemma3_text", "gemma3n_text", "mamba", "qwen2_vl"])
def test_the_cache_is_the_one_that_generate_makes(model_type):
    model = tiny_model(model_type, dtype=torch.float32)
    made = model.generate(torch.tensor([[3, 4]]), max_new_tokens=1, return_dict_in_generate=True).past_key_values
    ours = new_cache(model)
    assert [type(layer) for layer in ours.layers] == [type(layer) for layer in made.layers]


def test_an_adapter_does_not_change_the_cache():
    model = get_peft_model(tiny_causal_lm(), LoraConfig(target_modules="all-linear"))
    assert len(new_cache(model).layers) == 3


def test_layers_that_keep_nothing_follow_rows_and_static_ones_do_not():
    model = tiny_model("gemma3n_text", dtype=torch.float32)
    assert {type(layer).__name__ for layer in new_cache(model).layers} >= {"DummyLayer"}
    assert can_select_rows(new_cache(model))
    assert not can_select_rows(StaticCache(config=model.config, max_cache_len=8))
    assert not can_select_rows(DynamicCache())

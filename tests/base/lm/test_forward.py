import inspect

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny import ARCHITECTURES, left_padded_batch, tiny_causal_lm
from transformers import DynamicCache

from hf_reward_ext.base.lm.forward import (
    CACHE_NAMES,
    as_index,
    cache_name,
    cache_of,
    forward_parameters,
    generate_cache_name,
    last_positions,
    positions_of,
    run_forward,
    supports_logits_to_keep,
    take_cache,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_positions_give_the_logits_of_a_slice(arch):
    model, ids = tiny_causal_lm(arch), torch.arange(3, 15).reshape(2, 6)
    everything = model(ids).logits
    for count in (0, 1, 4, 6, 9):
        kept = last_positions(count, 6, CPU)
        torch.testing.assert_close(model(ids, logits_to_keep=kept).logits, everything[:, as_index(count)])
        assert torch.equal(everything[:, as_index(kept)], everything[:, as_index(count)])


def test_picked_states_are_contiguous_where_a_slice_is_not():
    states = torch.zeros(3, 6, 4)
    assert states[:, last_positions(1, 6, CPU)].is_contiguous()
    assert not states[:, -1:].is_contiguous()


def test_accelerators_keep_the_slice():
    assert last_positions(1, 6, torch.device("cuda")) == 1


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_models_that_support_it_return_the_last_logits_alone(arch):
    model = tiny_causal_lm(arch)
    assert supports_logits_to_keep(model)
    assert model(torch.tensor([[3, 4, 5]]), logits_to_keep=1).logits.shape[1] == 1


def test_adapters_do_not_hide_what_a_forward_takes():
    plain = tiny_causal_lm()
    model = get_peft_model(tiny_causal_lm(), LoraConfig(target_modules="all-linear"))
    assert supports_logits_to_keep(model) and cache_name(model) == cache_name(plain) == generate_cache_name()
    assert forward_parameters(model) == forward_parameters(plain)


def named(*names):
    """A model whose forward declares these names."""

    def forward(self, input_ids, **kwargs): ...

    parameters = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in ("input_ids", *names)]
    forward.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
    return type("Model", (torch.nn.Module,), {"forward": forward})()


@pytest.mark.parametrize("name", CACHE_NAMES)
def test_a_cache_goes_by_the_name_that_a_model_declares(name):
    assert cache_name(named("attention_mask", name)) == name
    assert take_cache({name: 1, "use_cache": True}) == 1


def test_caches_without_a_known_name_and_with_two_are_refused():
    with pytest.raises(ValueError, match=r"Model.forward` must take its cache as one of .*declares .*'kv_store'"):
        cache_name(named("kv_store"))
    with pytest.raises(ValueError, match="One cache must be given, got"):
        take_cache({"cache": 1, "past_key_values": 2})


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_reading_in_two_steps_equals_one_forward(arch):
    model = tiny_causal_lm(arch)
    ids, mask = left_padded_batch()
    expected = model(ids, attention_mask=mask, position_ids=positions_of(mask), use_cache=False).logits[:, -1]
    cache = DynamicCache(config=model.config)
    first = run_forward(model, ids[:, :5], mask[:, :5], cache=cache)
    assert cache_of(first) is cache
    last = run_forward(model, ids[:, 5:], mask, cache=cache, logits_to_keep=1)
    torch.testing.assert_close(last.logits[:, -1], expected)


def test_keywords_that_a_forward_would_ignore_are_refused():
    with pytest.raises(ValueError, match="LlamaForCausalLM.forward` must get keywords that it handles, got `kv_store`"):
        run_forward(tiny_causal_lm(), torch.tensor([[3]]), kv_store=1)


def test_rows_cannot_be_padded_where_a_forward_takes_no_mask():
    with pytest.raises(ValueError, match="has no attention mask"):
        run_forward(named("use_cache"), torch.tensor([[0, 3]]), torch.tensor([[0, 1]]))

import copy

import pytest
import torch
from architectures.build import tiny_model
from peft import LoraConfig, get_peft_model
from tiny import VOCAB, left_padded_batch, tiny_causal_lm

from hf_reward_ext.genarm import GenARMLogitsProcessor, GuidedCausalLM

MODES = {
    "greedy": dict(do_sample=False),
    "8 samples": dict(do_sample=True, top_k=0, num_return_sequences=8),
    "beams": dict(do_sample=False, num_beams=4, num_return_sequences=3),
    "static cache": dict(do_sample=False, cache_implementation="static"),
    "static beams": dict(do_sample=False, num_beams=3, cache_implementation="static"),
    "prompt lookup": dict(do_sample=False, prompt_lookup_num_tokens=3),
}


def adapted(seed=0, names=("arm", "other"), **kwargs):
    torch.manual_seed(seed)
    config = LoraConfig(target_modules="all-linear", init_lora_weights=False, r=4, **kwargs)
    model = get_peft_model(tiny_causal_lm("llama", seed=seed), config, adapter_name=names[0])
    for name in names[1:]:
        model.add_adapter(name, config)
    return model.eval()


def alone(model, name):
    """A copy of the model in which one adapter is always on."""
    model = copy.deepcopy(model)
    model.set_adapter(name)
    return model.eval()


def run(model, ids, mask, mode, seed=0):
    kwargs = MODES[mode]
    if "prompt_lookup_num_tokens" in kwargs:
        ids, mask = ids[:1, mask[0].argmax() :], mask[:1, mask[0].argmax() :]
    torch.manual_seed(seed)
    return model.generate(ids, attention_mask=mask, max_new_tokens=10, **kwargs)


@pytest.mark.stack
@pytest.mark.parametrize("mode", MODES)
def test_adapters_in_one_forward_equal_guides_of_their_own(mode):
    for seed in range(3):
        model = adapted(seed)
        guides = [alone(model, "arm"), alone(model, "other")]
        ids, mask = left_padded_batch(seed=seed)
        ours = run(GuidedCausalLM.from_peft(model, ["arm", "other"], [1.0, 0.5]), ids, mask, mode, seed)
        if mode == "prompt lookup":
            ids, mask = ids[:1, mask[0].argmax() :], mask[:1, mask[0].argmax() :]
        kwargs = {**MODES[mode], "cache_implementation": None, "prompt_lookup_num_tokens": None}
        torch.manual_seed(seed)
        theirs = tiny_causal_lm("llama", seed=seed).generate(
            ids,
            attention_mask=mask,
            max_new_tokens=10,
            logits_processor=[GenARMLogitsProcessor(guides, [1.0, 0.5])],
            **kwargs,
        )
        assert torch.equal(ours, theirs), seed


def test_weights_are_shared_and_the_bare_model_is_the_policy():
    model = adapted()
    guided = GuidedCausalLM.from_peft(model, ["arm"])
    assert guided.base is model.get_base_model()
    own, shared = list(guided.parameters()), list(model.parameters())
    assert len(own) == len(shared) and all(a is b for a, b in zip(own, shared, strict=True))
    guided.alpha = 0.0
    ids = torch.randint(3, VOCAB, (2, 5))
    torch.testing.assert_close(guided(ids).logits, tiny_causal_lm("llama")(ids).logits.log_softmax(-1))


def test_one_forward_serves_policy_and_guides():
    model = adapted()
    guided = GuidedCausalLM.from_peft(model, ["arm", "other"])
    sizes = []
    handle = model.get_base_model().register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    guided.generate(torch.tensor([[4, 5, 6], [7, 8, 9]]), max_new_tokens=3, min_new_tokens=3)
    handle.remove()
    assert sizes == [(6, 3), (6, 1), (6, 1)]


def test_an_error_in_a_forward_leaves_no_hooks():
    model = adapted()
    guided = GuidedCausalLM.from_peft(model, ["arm"])
    ids = torch.tensor([[4, 5, 6]])
    before = model(ids).logits
    with pytest.raises(IndexError):
        guided(torch.tensor([[4, VOCAB + 5]]))
    assert not any(module._forward_pre_hooks for module in model.modules())
    torch.testing.assert_close(model(ids).logits, before)


def test_adapters_that_cannot_be_mixed_are_refused():
    with pytest.raises(ValueError, match=r"got \['missing'\] for a model that has \['arm', 'other'\]"):
        GuidedCausalLM.from_peft(adapted(), ["missing"])
    with pytest.raises(TypeError, match="`PeftModel` with LoRA, got a `LlamaForCausalLM`"):
        GuidedCausalLM.from_peft(tiny_causal_lm("llama"), ["arm"])
    with pytest.raises(ValueError, match="use_dora=True"):
        GuidedCausalLM.from_peft(adapted(use_dora=True), ["arm"])
    with pytest.raises(ValueError, match=r"modules_to_save=\['lm_head'\]"):
        GuidedCausalLM.from_peft(adapted(names=("arm",), modules_to_save=["lm_head"]), ["arm"])
    late = adapted()
    guided = GuidedCausalLM.from_peft(late, ["arm"])
    late.merge_adapter(["arm"])
    with pytest.raises(ValueError, match=r"\['arm'\] were merged.*unmerge_adapter"):
        guided(torch.tensor([[4, 5]]))
    merged = adapted()
    merged.merge_adapter(["arm"])
    with pytest.raises(ValueError, match="merged"):
        GuidedCausalLM.from_peft(merged, ["arm"])


@pytest.mark.parametrize("model_type", ["gemma3n_text", "gemma4_text"])
def test_layers_that_reuse_keys_of_others_are_grouped(model_type):
    target = ["q_proj", "o_proj"]
    torch.manual_seed(1)
    config = LoraConfig(r=2, target_modules=target, init_lora_weights=False)
    model = get_peft_model(tiny_model(model_type, dtype=torch.float32), config, adapter_name="arm").eval()
    ids, mask = left_padded_batch((3, 5))
    written = GuidedCausalLM.from_peft(model, ["arm"]).generate(ids, attention_mask=mask, num_beams=2, max_new_tokens=3)
    torch.manual_seed(1)
    guide = get_peft_model(tiny_model(model_type, dtype=torch.float32), config).merge_and_unload().eval()
    plain = GuidedCausalLM(tiny_model(model_type, dtype=torch.float32), guide)
    assert torch.equal(written, plain.generate(ids, attention_mask=mask, num_beams=2, max_new_tokens=3))

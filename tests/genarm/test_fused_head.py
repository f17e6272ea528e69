"""Fused log-probabilities are those of the model's logits, whatever head the model has."""

import copy

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from tiny import EOS, PAD, VOCAB, tiny_causal_lm, tiny_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

from hf_reward_ext.genarm import GenARMConfig, GenARMRewardModel, GenARMTrainer
from hf_reward_ext.genarm.fused_head import add_fused_lm_head, token_logps

COMMON = dict(
    vocab_size=VOCAB, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=64, pad_token_id=PAD, eos_token_id=EOS, bos_token_id=1,
)  # fmt: skip
# Each has something of its own between the last state and the logits; `False` where only the model's logits serve.
HEADS = {
    "llama": ({}, True),
    "gemma2": (dict(num_key_value_heads=2, head_dim=8, final_logit_softcapping=2.0, query_pre_attn_scalar=8), True),
    "cohere": (dict(num_key_value_heads=2, logit_scale=0.25), True),
    "granite": (dict(num_key_value_heads=2, logits_scaling=4.0), True),
    "phi": ({}, True),  # a bias
    "modernbert-decoder": (dict(initializer_range=0.3), False),  # a dense layer, an activation and a norm
    "llama4_text": (
        dict(num_key_value_heads=2, head_dim=8, intermediate_size_mlp=32, num_local_experts=2), False
    ),  # no backbone by the usual name
    "bloom": (dict(hidden_size=16, n_layer=2, n_head=4), True),  # no position ids
}  # fmt: skip


def model_of(kind):
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **{**COMMON, **HEADS[kind][0]})
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()


def logps_of_logits(model, ids):
    return model(input_ids=ids).logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]


@pytest.mark.parametrize("kind", HEADS)
def test_log_probabilities_are_those_of_the_logits(kind):
    model = model_of(kind)
    ids = torch.randint(3, VOCAB, (2, 6))
    with torch.no_grad():
        expected = logps_of_logits(model, ids)
        rewards = GenARMRewardModel.from_causal_lm(model)(input_ids=ids).logits[:, 0]
    torch.testing.assert_close(rewards, expected.sum(-1), atol=1e-4, rtol=1e-4)
    found, _ = token_logps(model, ids, labels=ids)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert model._compared_head[1] if HEADS[kind][1] else not vars(model).get("_compared_head", (None, False))[1]


ADAPTERS = {
    "by regular expression": dict(target_modules=r".*(q_proj|lm_head)"),
    "by name": dict(target_modules=["q_proj", "lm_head"]),
    "by parameter": dict(target_modules=["q_proj"], target_parameters=["lm_head.weight"]),
    "tied embeddings": dict(target_modules=["q_proj", "embed_tokens"], ensure_weight_tying=True),
    "trained whole": dict(target_modules=["q_proj"], modules_to_save=["lm_head"]),
    "embeddings and head whole": dict(target_modules=["q_proj"], modules_to_save=["lm_head", "embed_tokens"]),
    "added tokens": dict(target_modules=["q_proj"], trainable_token_indices={"embed_tokens": [8, 9]}),
    "added tokens of the head": dict(target_modules=["q_proj"], trainable_token_indices={"lm_head": [8, 9]}),
    "rank-stabilized": dict(target_modules=["q_proj", "lm_head"], use_rslora=True),
}


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings:UserWarning")
@pytest.mark.filterwarnings("ignore:You have requested `ensure_weight_tying`:UserWarning")
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("name", ADAPTERS)
def test_adapters_that_reach_the_head_are_trained_for_the_model_that_is_saved(name, tied, tmp_path):
    rows = [{"prompt": f"w{i} w2 ", "chosen": "w3 w5", "rejected": f"w{i} w9"} for i in range(1, 5)]
    trainer = GenARMTrainer(
        tiny_causal_lm(tie_word_embeddings=tied),
        GenARMConfig(
            str(tmp_path), max_steps=2, learning_rate=5e-2, report_to="none", use_cpu=True, disable_tqdm=True,
            save_strategy="no",
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tiny_tokenizer(),
        peft_config=LoraConfig(task_type="CAUSAL_LM", r=4, **ADAPTERS[name]),
    )  # fmt: skip
    before = {n: p.detach().clone() for n, p in trainer.model.named_parameters() if p.requires_grad}
    trainer.train()
    still = [n for n, p in trainer.model.named_parameters() if n in before and torch.equal(before[n], p)]
    assert not still
    ids = torch.tensor([[8, 9, 10, 11, 12]])
    trainer.model.eval()
    with torch.no_grad():
        found, _ = token_logps(trainer.model, ids, labels=ids)
        torch.testing.assert_close(found, logps_of_logits(trainer.model, ids), atol=1e-5, rtol=1e-5)


def test_a_head_that_an_adapter_wraps_later_is_compared_again():
    model = tiny_causal_lm()
    ids = torch.randint(3, VOCAB, (1, 5))
    add_fused_lm_head(model)
    token_logps(model, ids, labels=ids)
    assert model._compared_head[1]
    adapted = get_peft_model(model, LoraConfig(target_modules=["lm_head"], init_lora_weights=False))
    torch.testing.assert_close(
        token_logps(adapted, ids, labels=ids)[0], logps_of_logits(adapted, ids), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_heads_stay_fused(dtype):
    model = tiny_causal_lm(dtype=dtype)
    add_fused_lm_head(model)
    ids = torch.randint(3, VOCAB, (1, 9))
    token_logps(model, ids, labels=ids)
    assert model._compared_head[1]


def test_the_comparison_leaves_no_trace():
    model = tiny_causal_lm().train()
    model.model.layers[0].eval()
    add_fused_lm_head(model)
    state = torch.get_rng_state()
    ids = torch.randint(3, VOCAB, (1, 1))
    torch.set_rng_state(state)
    token_logps(model, ids, labels=ids)  # one token says nothing about a head
    assert not hasattr(model, "_compared_head")
    ids = torch.tensor([[3, 4, 5]])
    token_logps(model, ids, labels=ids)[0].sum().backward()
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training and not model.model.layers[0].training
    assert "_compared_head" not in dict(model.named_modules())


def test_a_copy_has_its_own_weights():
    model = tiny_causal_lm()
    add_fused_lm_head(model)
    ids = torch.randint(3, VOCAB, (1, 4))
    token_logps(model, ids, labels=ids)
    other = copy.deepcopy(model)
    for parameter in model.parameters():
        parameter.data.zero_()
    torch.testing.assert_close(other(ids).logits, tiny_causal_lm()(ids).logits)
    expected = logps_of_logits(tiny_causal_lm(), ids)
    torch.testing.assert_close(token_logps(other, ids, labels=ids)[0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.stack
def test_contract_of_trls_fused_head():
    model = tiny_causal_lm()
    add_fused_lm_head(model)
    ids = torch.randint(3, VOCAB, (2, 5))
    labels = ids.clone()
    labels[:, :2] = -100
    out = model(input_ids=ids, labels=labels, fused_lm_head=True)
    expected = logps_of_logits(tiny_causal_lm(), ids)
    expected[:, 0] = 0
    torch.testing.assert_close(out.log_probs, expected, atol=1e-5, rtol=1e-5)
    assert out.get("logits") is None
    head = model.forward
    add_fused_lm_head(model)  # once is enough
    assert model.forward == head
    torch.testing.assert_close(model(ids).logits, tiny_causal_lm()(ids).logits)
    torch.testing.assert_close(model(ids, labels=ids).loss, tiny_causal_lm()(ids, labels=ids).loss)


@pytest.mark.stack
def test_the_fused_head_goes_on_top_of_a_device_maps_hooks():
    model = tiny_causal_lm()
    add_hook_to_module(model, ModelHook())
    add_fused_lm_head(model)
    ids = torch.randint(3, VOCAB, (1, 4))
    assert model(input_ids=ids, labels=ids, fused_lm_head=True).log_probs.shape == (1, 3)
    torch.testing.assert_close(model(ids).logits, tiny_causal_lm()(ids).logits)


@pytest.mark.stack
def test_contract_of_the_width_of_its_tiles(monkeypatch):
    from trl.trainer import utils

    widths = []
    apply = utils._ChunkedLogProbFunction.apply
    monkeypatch.setattr(utils._ChunkedLogProbFunction, "apply", lambda *args: widths.append(args[5]) or apply(*args))
    wide = utils._CHUNKED_LOGPROB_CHUNK_SIZE
    model = tiny_causal_lm()
    add_fused_lm_head(model)
    ids = torch.randint(3, VOCAB, (1, 4))
    token_logps(model, ids, labels=ids)
    assert set(widths) == {8192} and utils._CHUNKED_LOGPROB_CHUNK_SIZE == wide
    with torch.no_grad():
        token_logps(model, ids, labels=ids)
    assert set(widths) == {8192, 1024} and utils._CHUNKED_LOGPROB_CHUNK_SIZE == wide

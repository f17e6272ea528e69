"""Reward models by name: what would score with a random head is refused."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tiny import tiny_causal_lm, tiny_tokenizer
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForSequenceClassification,
)

from hf_reward_ext import ELHSRModel, TextScorer
from hf_reward_ext.base.scoring.scorer import as_scorer
from hf_reward_ext.rewards import ModelReward

SMALL = dict(vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)


def classifier(**kwargs):
    return LlamaForSequenceClassification(LlamaConfig(**{**SMALL, "num_labels": 1, "pad_token_id": 0, **kwargs})).eval()


def saved(model, folder):
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def test_a_causal_lm_is_no_reward_model(tmp_path):
    with pytest.raises(ValueError, match="got the causal LM .*which has no reward head"):
        as_scorer(str(saved(tiny_causal_lm(), tmp_path)))


def test_a_model_without_a_head_is_no_reward_model(tmp_path):
    saved(BertModel(BertConfig(**SMALL, num_labels=1)), tmp_path)
    with pytest.raises(ValueError, match=r"its weights lack \['classifier.bias', 'classifier.weight'"):
        as_scorer(tmp_path)


def test_a_checkpoint_without_its_head_is_refused(tmp_path):
    weights = load_file(saved(classifier(), tmp_path) / "model.safetensors")
    del weights["score.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"its weights lack \['score.weight'\]"):
        TextScorer.from_pretrained(tmp_path)


def test_a_classifier_of_several_labels_is_refused(tmp_path):
    with pytest.raises(ValueError, match="one label, got `num_labels=3`"):
        as_scorer(saved(classifier(num_labels=3), tmp_path))
    with pytest.raises(ValueError, match="got `LlamaForSequenceClassification` with `num_labels=3`"):
        as_scorer(classifier(num_labels=3), tiny_tokenizer())


def test_an_adapter_on_a_classifier(tmp_path):
    saved(classifier(), tmp_path / "base")
    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=1)
    config = LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["q_proj"], init_lora_weights=False)
    adapted = get_peft_model(base, config).eval()
    saved(adapted, tmp_path / "adapter")
    by_object = as_scorer(adapted, tiny_tokenizer())(["w3"], [" w4 w5"])
    assert as_scorer(tmp_path / "adapter")(["w3"], [" w4 w5"]) == pytest.approx(by_object, abs=1e-5)


def test_a_head_without_a_tokenizer_has_that_of_its_policy(tmp_path):
    saved(tiny_causal_lm(), tmp_path / "policy")
    head = ELHSRModel.from_policy(AutoModelForCausalLM.from_pretrained(tmp_path / "policy"))
    head.save_pretrained(tmp_path / "head")
    expected = as_scorer(head, tiny_tokenizer())(["w3"], [" w4"])
    assert as_scorer(str(tmp_path / "head"))(["w3"], [" w4"]) == expected == as_scorer(head)(["w3"], [" w4"])


def test_half_precision_and_other_arguments_reach_the_model(tmp_path):
    scorer = TextScorer.from_pretrained(saved(classifier(), tmp_path), batch_size=2, dtype=torch.bfloat16)
    assert scorer.model.dtype == torch.bfloat16 and scorer.batch_size == 2


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    """Folder with an adapter of each task type on a causal LM, saved as PEFT saves it."""
    folder = tmp_path_factory.mktemp("adapters")
    base = saved(tiny_causal_lm(), folder / "base")
    for task, loader in {"CAUSAL_LM": AutoModelForCausalLM, "SEQ_CLS": AutoModelForSequenceClassification}.items():
        lora = LoraConfig(task_type=task, target_modules=["q_proj"], r=2)
        kwargs = {"num_labels": 1} if task == "SEQ_CLS" else {}
        saved(get_peft_model(loader.from_pretrained(base, **kwargs), lora), folder / task)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
    saved(get_peft_model(model, LoraConfig(target_modules=["q_proj"], r=2)), folder / "untyped")
    return folder


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("CAUSAL_LM", "got an adapter of task type 'CAUSAL_LM', which has no reward head. Wrap it"),
        ("untyped", "has none of the heads .*which would be random"),
    ],
)
@pytest.mark.parametrize("load", [as_scorer, TextScorer.from_pretrained, ModelReward])
def test_an_adapter_without_a_head_is_refused(kind, message, load, adapters):
    with pytest.raises(ValueError, match=message):
        load(str(adapters / kind))


def test_an_adapter_with_its_head_scores_the_same_each_time(adapters):
    rewards = [as_scorer(str(adapters / "SEQ_CLS"))(["w1 w2"], [" w3"])[0] for _ in range(2)]
    assert rewards[0] == rewards[1]

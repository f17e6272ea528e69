"""Classes of the reward models on the Hub that docs/models.md lists, tiny with random weights, load from a folder."""

import re
from pathlib import Path

import pytest
import torch
from tiny import tiny_tokenizer
from transformers import AutoConfig, AutoModelForSequenceClassification

from hf_reward_ext import TextScorer
from hf_reward_ext.base.scoring.loading import load_reward_model

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
SIZE = dict(
    vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=8, pad_token_id=0, bos_token_id=1, eos_token_id=2, initializer_range=0.5,
)  # fmt: skip
TYPES = {
    "LlamaForSequenceClassification": "llama",
    "Qwen2ForSequenceClassification": "qwen2",
    "Qwen3ForSequenceClassification": "qwen3",
    "MistralForSequenceClassification": "mistral",
    "GemmaForSequenceClassification": "gemma",
    "Gemma2ForSequenceClassification": "gemma2",
}


def save(architecture, folder, **changes):
    config = AutoConfig.for_model(TYPES[architecture], **{**SIZE, "num_labels": 1, **changes})
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("architecture", TYPES)
def test_a_listed_class_gives_its_own_logit(architecture, tmp_path):
    model, tokenizer = save(architecture, tmp_path), tiny_tokenizer()
    scorer = TextScorer(load_reward_model(tmp_path), tokenizer)
    assert type(model).__name__ == architecture == scorer.model.config.architectures[0]
    texts = [" w6 w7", " w8"]
    with torch.no_grad():
        expected = [model(**tokenizer(f"w4 w5{text}", return_tensors="pt")).logits.item() for text in texts]
    assert scorer(["w4 w5"] * 2, texts) == pytest.approx(expected, abs=1e-5)


def test_the_page_lists_what_is_tested_here():
    assert set(re.findall(r"^\| `(\w+ForSequenceClassification)` \|", PAGE, re.MULTILINE)) == set(TYPES)


def test_more_labels_are_refused_as_the_page_has_it(tmp_path):
    save("LlamaForSequenceClassification", tmp_path, num_labels=5)
    with pytest.raises(ValueError, match="must be a reward model with one label, got `num_labels=5`"):
        load_reward_model(tmp_path)
    assert "with one label" in PAGE

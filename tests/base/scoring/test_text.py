"""Reward models read texts alone and in batches alike, whatever their padding, and never more than they can."""

import pytest
import torch
from tiny import tiny_causal_lm, tiny_tokenizer
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from hf_reward_ext import GenARMRewardModel, TextScorer
from hf_reward_ext.base.lm.context import longest_input
from hf_reward_ext.base.scoring.scorer import as_scorer

SMALL = dict(vocab_size=40, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
KINDS = {
    "bert": (dict(max_position_embeddings=16), 16),
    "roberta": (dict(max_position_embeddings=16, pad_token_id=1), 14),
    "xlm-roberta": (dict(max_position_embeddings=16, pad_token_id=1), 14),
    "mpnet": (dict(max_position_embeddings=16, pad_token_id=1), 14),
    "deberta-v2": (dict(max_position_embeddings=16), 16),
    "electra": (dict(max_position_embeddings=16, embedding_size=16), 16),
    "gpt2": (dict(n_positions=16, n_embd=16, n_head=2, n_layer=1), 16),
    "llama": (dict(max_position_embeddings=16), 16),
    "qwen3": (dict(max_position_embeddings=16, head_dim=8, num_key_value_heads=2), 16),
    "xlnet": (dict(d_model=16, n_layer=1, n_head=2, d_inner=32), None),
    "bloom": (dict(n_layer=1, n_head=2), None),
}


def classifier(kind, **kwargs):
    config = AutoConfig.for_model(kind, **{**SMALL, **KINDS[kind][0], "num_labels": 1, **kwargs})
    if config.pad_token_id is None:
        config.pad_token_id = 0
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(config).eval()


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_as_long_as_the_context_is_read_and_a_longer_one_refused(kind):
    model, limit = classifier(kind), KINDS[kind][1]
    assert longest_input(model) == limit
    scorer = TextScorer(model, tiny_tokenizer())
    assert scorer(["w3"], [" w4" * ((limit or 40) - 1)]).isfinite().all()
    if limit is not None:
        with pytest.raises(ValueError, match=f"Response 1 must have at most {limit} tokens.*got {limit + 1}"):
            scorer(["w3", "w3"], [" w4", " w4" * limit])


def test_a_model_without_positions_has_no_limit():
    assert longest_input(AutoModel.from_config(AutoConfig.for_model("t5", d_model=8, num_layers=1))) is None
    assert longest_input(torch.nn.Linear(2, 2)) is None


def test_our_models_have_the_context_of_the_model_inside():
    scorer = as_scorer(GenARMRewardModel.from_causal_lm(tiny_causal_lm(max_position_embeddings=8)), tiny_tokenizer())
    assert len(scorer(["w3"], [" w4" * 6])) == 1  # and EOS
    with pytest.raises(ValueError, match="at most 8 tokens with its prompt.*got 9"):
        scorer(["w3"], [" w4" * 7])


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert", "roberta"])
@pytest.mark.parametrize("pad", ["none", "that of the tokenizer", "another"])
def test_texts_are_read_alone_and_in_batches_alike(kind, pad):
    if kind in ("bert", "roberta") and pad != "that of the tokenizer":
        pad_token_id = KINDS[kind][0].get("pad_token_id", 0)
    else:
        pad_token_id = {"none": None, "that of the tokenizer": 0, "another": 31}[pad]
    model = classifier(kind)
    model.config.pad_token_id = pad_token_id if kind != "roberta" else 1
    scorer = TextScorer(model, tiny_tokenizer(), batch_size=4)
    texts = [" w4", " w5 w6 w7", " w8 w9", " w10 w11 w12 w13"]
    together = scorer(["w3"] * 4, texts)
    alone = torch.cat([scorer(["w3"], [text]) for text in texts])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
    ids = tiny_tokenizer()("w3" + texts[0], return_tensors="pt", return_token_type_ids=False)
    assert together[0].item() == pytest.approx(model(**ids).logits.item(), abs=1e-4)


def test_what_cannot_be_scored_is_refused():
    scorer = TextScorer(classifier("llama"), tiny_tokenizer())
    assert scorer([], []).shape == (0,)
    with pytest.raises(ValueError, match="Response 1 and its prompt must have tokens"):
        scorer(["w3", ""], ["", ""])
    with pytest.raises(ValueError, match="completion of a text must be text"):
        scorer(["w3"], [[{"role": "assistant", "content": "w4"}]])
    with pytest.raises(ValueError, match="`batch_size` must be at least 1"):
        TextScorer(classifier("llama"), tiny_tokenizer(), batch_size=0)
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match="A chat must be rendered by a template"):
        TextScorer(classifier("llama"), tokenizer)([[{"role": "user", "content": "w3"}]], ["w4"])
    tokenizer.pad_token = None
    with pytest.raises(ValueError, match="must have a padding token"):
        TextScorer(classifier("llama"), tokenizer)

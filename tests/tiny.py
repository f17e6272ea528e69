"""Tiny random models and a word-level tokenizer, built in memory: the fixtures of every unit test."""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

VOCAB = 32
PAD, BOS, EOS = 0, 1, 2

_COMMON = dict(
    vocab_size=VOCAB, hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=4,
    max_position_embeddings=256, pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS, tie_word_embeddings=False,
    initializer_range=0.5,
)  # fmt: skip

# Each row is one family of attention or layout: what differs from a plain Llama.
ARCHITECTURES = {
    "llama": dict(num_key_value_heads=2),
    "qwen3": dict(num_key_value_heads=2, head_dim=8),
    "gemma3_text": dict(
        num_key_value_heads=2, head_dim=8, sliding_window=4, query_pre_attn_scalar=8,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
    ),
    "gpt_neox": {},
    "mistral": dict(num_key_value_heads=2, sliding_window=None),
}  # fmt: skip


def tiny_causal_lm(architecture="llama", seed=0, dtype=torch.float32, **overrides):
    """A random causal language model of 3 layers and width 16, in eval mode, with eager attention."""
    config = AutoConfig.for_model(architecture, **{**_COMMON, **ARCHITECTURES[architecture], **overrides})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    return model.to(dtype).eval()


CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ' : ' + message['content'] + ' ' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ '<eos> ' }}{% endgeneration %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant : ' }}{% endif %}"
)


def tiny_tokenizer(padding_side="left"):
    """Words `w0` .. are the vocabulary; whitespace separates them."""
    words = ["<pad>", "<bos>", "<eos>", "<unk>", "user", "assistant", "system", ":"]
    words += [f"w{i}" for i in range(VOCAB - len(words))]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>",
        padding_side=padding_side,
    )  # fmt: skip
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def letter_tokenizer():
    """A letter per id, for stop strings, which need a tokenizer that can read any word."""
    letters = {chr(ord("A") + i): i for i in range(3)} | {chr(ord("a") + i - 3): i for i in range(3, VOCAB)}
    backend = Tokenizer(models.BPE(letters, [], unk_token="A"))
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="A", bos_token="B", eos_token="C")


def left_padded_batch(lengths=(5, 3, 7), seed=0):
    """`input_ids` and `attention_mask` of random prompts, padded on the left with `PAD`."""
    generator = torch.Generator().manual_seed(seed)
    width = max(lengths)
    input_ids = torch.full((len(lengths), width), PAD)
    for row, length in enumerate(lengths):
        input_ids[row, width - length :] = torch.randint(3, VOCAB, (length,), generator=generator)
    return input_ids, (input_ids != PAD).long()

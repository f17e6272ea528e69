"""Tiny reward transformers; the usual one is in double precision, so that no two scores tie by rounding."""

import torch
from tiny import ARCHITECTURES, PAD, tiny_causal_lm

from hf_reward_ext.sla import RewardTransformer

VOCABULARY = 12
_SMALL = {name: dict(num_hidden_layers=1) if name == "llama" else {} for name in ARCHITECTURES}


def tiny_transformer(seed, architecture="llama"):
    """A Llama of one layer in double precision, or another architecture as it is; random channel."""
    base = tiny_causal_lm(architecture, seed=seed, vocab_size=VOCABULARY, **_SMALL[architecture])
    if architecture == "llama":
        base = base.double()  # with more layers, attention to nothing but padding gives NaN there
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        rt = RewardTransformer.from_base(base, channel_size=4)
        for parameter in rt.reward_channel.parameters():
            torch.nn.init.normal_(parameter)
    return rt.eval()


def ragged_prompts(lengths, seed):
    """`input_ids` and `attention_mask` of random prompts, padded on the left."""
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.full((len(lengths), max(lengths)), PAD)
    mask = torch.zeros_like(input_ids)
    for row, length in enumerate(lengths):
        input_ids[row, -length:] = torch.randint(1, VOCABULARY, (length,), generator=generator)
        mask[row, -length:] = 1
    return input_ids, mask

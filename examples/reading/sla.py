"""
SLA (arXiv 2503.00029) in plain PyTorch: a reward for every token, and a streaming look-ahead search with it.

Read it from top to bottom; the last function compares every number with the library.
Run: python examples/reading/sla.py
"""

from pathlib import Path

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

POLICY = Path(__file__).parents[2] / "hf_reward_ext" / "demo" / "checkpoint"


class Channel(nn.Module):
    """Reward channel next to the layers: c_i = f(W_i N([h_i, c_{i-1}])) + c_{i-1}, and r_t = w [h_L, c_{L-1}]."""

    def __init__(self, num_layers, hidden, width):
        super().__init__()
        sizes = [hidden] + [hidden + width] * (num_layers - 1)
        self.norms = nn.ModuleList([nn.RMSNorm(size, eps=1e-6) for size in sizes])
        self.linears = nn.ModuleList([nn.Linear(size, width, bias=False) for size in sizes])
        self.head = nn.Linear(hidden + width, 1, bias=False)

    def forward(self, hidden_states):
        *lower, last = hidden_states  # the embedding, the layers, and the state after the final norm
        channel = None
        for norm, linear, hidden in zip(self.norms, self.linears, lower, strict=True):
            read = hidden if channel is None else torch.cat([hidden, channel], dim=-1)
            step = nn.functional.silu(linear(norm(read)))
            channel = step if channel is None else step + channel
        return self.head(torch.cat([last, channel], dim=-1))[..., 0]  # a reward after READING each token


def preference_loss(chosen_rewards, rejected_rewards):
    """Return the default loss: -log sigmoid of the difference of mean token rewards."""
    return -nn.functional.logsigmoid(chosen_rewards.mean() - rejected_rewards.mean())


class Leaf:
    """A sequence of chunks, with the sum and number of its rewards since the last prompt token."""

    def __init__(self, chunks, total, count):
        self.chunks, self.total, self.count = chunks, total, count

    @property
    def tokens(self):
        return sum(self.chunks, [])

    @property
    def score(self):
        return self.total / self.count


@torch.no_grad()
def look_ahead(policy, channel, prompt, width, step, depth, new_tokens):
    """
    Yield chunks of the answer as soon as they are confirmed.

    Every `step` tokens each leaf forks into its `width` most probable tokens. A chunk is confirmed once its descendants
    are `depth` chunks deeper: the one with the best leaf wins, and the branches of the others are dropped.
    """

    def read(leaf):
        """Add the reward of the last token and return the next logits, with a full forward for each leaf."""
        out = policy(torch.tensor([prompt + leaf.tokens]), output_hidden_states=True)
        leaf.total, leaf.count = leaf.total + channel(out.hidden_states)[0, -1].item(), leaf.count + 1
        return out.logits[0, -1]

    root = Leaf([[]], 0.0, 0)
    root.chunks[-1].append(int(read(root).argmax()))
    leaves, written = [root], 0
    while len(leaves[0].tokens) < new_tokens:
        # 1) Between branch points every leaf is extended greedily.
        for _ in range(min(step - 1, new_tokens - len(leaves[0].tokens))):
            for leaf in leaves:
                leaf.chunks[-1].append(int(read(leaf).argmax()))
        if len(leaves[0].tokens) == new_tokens:
            break
        # 2) At a branch point it forks; a fork has the score of its parent until its token is read.
        forks = []
        for leaf in leaves:
            best = read(leaf).topk(width).indices.tolist()
            forks += [Leaf([*map(list, leaf.chunks), [token]], leaf.total, leaf.count) for token in best]
        leaves = forks
        # 3) The oldest undecided chunk is confirmed once the leaves are deep enough.
        if len(leaves[0].chunks) - 1 - written > depth:
            confirmed = max(leaves, key=lambda leaf: leaf.score).chunks[: written + 1]
            yield confirmed[-1]
            leaves, written = [leaf for leaf in leaves if leaf.chunks[: written + 1] == confirmed], written + 1
    yield sum(max(leaves, key=lambda leaf: leaf.score).chunks[written:], [])


def main():
    tokenizer = AutoTokenizer.from_pretrained(POLICY)
    policy = AutoModelForCausalLM.from_pretrained(POLICY, dtype=torch.float64).eval()
    torch.manual_seed(0)
    channel = Channel(policy.config.num_hidden_layers, policy.config.hidden_size, 16).double()
    prompt = tokenizer("w18 4 2 9 1 5 3|")["input_ids"]
    chunks = []
    for chunk in look_ahead(policy, channel, prompt, width=2, step=3, depth=1, new_tokens=12):
        print(repr(tokenizer.decode(chunk)))
        chunks += chunk
    compare_with_the_library(policy, channel, prompt, chunks)


def compare_with_the_library(policy, channel, prompt, chunks):
    from hf_reward_ext.base.training.token_rewards import masked_mean
    from hf_reward_ext.sla import RewardTransformer, sla_generate
    from hf_reward_ext.sla.token_losses import LOSSES

    rt = RewardTransformer.from_base(policy, channel_size=16, rms_norm_eps=1e-6).double()
    with torch.no_grad():
        for layer, norm, linear in zip(rt.reward_channel.layers, channel.norms, channel.linears, strict=True):
            layer.norm.weight.copy_(norm.weight)
            layer.linear.weight.copy_(linear.weight)
        rt.reward_channel.head[0].weight.copy_(channel.head.weight)
        ids = torch.tensor([prompt + chunks])
        ours = rt(ids).token_rewards
        rewards = channel(policy(ids, output_hidden_states=True).hidden_states)
    torch.testing.assert_close(ours, rewards)
    chosen, rejected = rewards[:, :6], rewards[:, 6:12]
    mask = torch.ones_like(chosen, dtype=torch.bool)
    assert masked_mean(chosen, mask).item() == chosen.mean().item()
    (loss,) = LOSSES["sequence_bt"](chosen, mask, rejected, mask)  # a sum over pairs, and their number
    torch.testing.assert_close(loss.values.sum() / loss.counts.sum(), preference_loss(chosen, rejected))
    settings = dict(width=2, step=3, depth=1, max_new_tokens=12, eos_token_id=[], pad_token_id=0)
    out = rt.generate(torch.tensor([prompt]), custom_generate=sla_generate, **settings)
    assert out[0, len(prompt) :].tolist() == chunks
    print("equal to the library: token rewards, loss and the tokens of the search")


if __name__ == "__main__":
    main()

"""
ELHSR / SWIFT (arXiv 2505.12225) in plain PyTorch: a linear head on all hidden states of the policy scores completions.

Read it from top to bottom; the last function compares every number with the library.
Run: python examples/reading/elhsr.py
"""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

POLICY = Path(__file__).parents[2] / "hf_reward_ext" / "demo" / "checkpoint"
PROMPT = "6 1 3 3=12|"
LABELED = [("6-1=5;5*3=15;15-3=12", 1.0), ("6+1=7;7*3=21;21+3=24", 0.0), ("6*1=6;6+3=9;9+3=12", 1.0)]


@torch.no_grad()
def features(policy, ids, prompt_length):
    """Return f_t: the hidden states of all layers at token t, from embedding to final norm, concatenated."""
    states = policy(ids, output_hidden_states=True).hidden_states  # L + 1 tensors of shape (rows, seq, hidden)
    return torch.cat(states, dim=-1)[:, prompt_length:]


def reward(weight, bias, features, mask):
    """
    Return R = sum_t g_t rho_t / sum_t g_t, with (a_t, rho_t) = W f_t + b and the gate g_t = sigmoid(a_t).

    The head is one matrix with two rows: the first one weights tokens, the second one scores them.
    """
    a, rho = (features @ weight.T + bias).unbind(-1)
    gate = a.sigmoid() * mask
    return (gate * rho).sum(-1) / gate.sum(-1)


def train_head(policy, tokenizer, steps=30):
    """Train with binary cross-entropy of sigmoid(R) and the correctness of each completion."""
    prompt_length = len(tokenizer(PROMPT)["input_ids"])
    batch, labels = [], []
    for completion, label in LABELED:
        ids = torch.tensor([tokenizer(PROMPT + completion)["input_ids"] + [tokenizer.eos_token_id]])
        batch.append(features(policy, ids, prompt_length))  # computed once; only the head is trained
        labels.append(label)
    torch.manual_seed(0)
    weight = torch.zeros(2, batch[0].shape[-1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.AdamW([weight, bias], lr=1e-4)
    for _ in range(steps):
        rewards = torch.cat([reward(weight, bias, one, torch.ones(1, one.shape[1])) for one in batch])
        loss = torch.nn.functional.binary_cross_entropy_with_logits(rewards, torch.tensor(labels, dtype=torch.float64))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return weight.detach(), bias.detach(), loss.item()


def best_of_n(policy, tokenizer, weight, bias, num_candidates=8):
    """Sample N completions and score each by a second pass of the policy."""
    ids = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    torch.manual_seed(1)
    rows = policy.generate(ids, do_sample=True, max_new_tokens=24, num_return_sequences=num_candidates)
    completions = rows[:, ids.shape[1] :]
    # A completion ends with its first EOS, which counts; the rest is padding.
    is_eos = completions == tokenizer.eos_token_id
    mask = (is_eos.cumsum(-1) - is_eos.long()) == 0
    return rows, reward(weight, bias, features(policy, rows, ids.shape[1]), mask)


def main():
    tokenizer = AutoTokenizer.from_pretrained(POLICY)
    policy = AutoModelForCausalLM.from_pretrained(POLICY, dtype=torch.float64).eval()
    weight, bias, loss = train_head(policy, tokenizer)
    print(f"head of {weight.numel() + bias.numel()} weights, loss {loss:.4f}")
    rows, rewards = best_of_n(policy, tokenizer, weight, bias)
    for row in rewards.argsort(descending=True)[:3]:
        print(f"{rewards[row]:7.3f}  {tokenizer.decode(rows[row], skip_special_tokens=True)}")
    compare_with_the_library(policy, tokenizer, weight, bias, rows, rewards)


def compare_with_the_library(policy, tokenizer, weight, bias, rows, rewards):
    from hf_reward_ext.elhsr import ELHSRModel, HiddenStateReward

    head = ELHSRModel.from_policy(policy).double()
    with torch.no_grad():
        head.linear.weight.copy_(weight)
        head.linear.bias.copy_(bias)
    ids = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    torch.manual_seed(1)
    with HiddenStateReward(policy, head) as meter:  # the same samples, scored during generation, without a second pass
        again = policy.generate(ids, do_sample=True, max_new_tokens=24, num_return_sequences=len(rows))
    assert torch.equal(again, rows)
    torch.testing.assert_close(meter.rewards.double(), rewards, atol=1e-6, rtol=1e-6)
    print("equal to the library: rewards read while generating and by a second pass")


if __name__ == "__main__":
    main()

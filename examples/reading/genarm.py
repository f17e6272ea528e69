"""
GenARM (arXiv 2410.08193) in plain PyTorch: an autoregressive reward model is trained on pairs and guides a policy.

Read it from top to bottom; the last function compares every number with the library.
Run: python examples/reading/genarm.py
"""

import copy
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

POLICY = Path(__file__).parents[2] / "hf_reward_ext" / "demo" / "checkpoint"
PAIRS = [  # prompt, chosen, rejected: correct and wrong arithmetic
    ("6 1 3 3=12|", "6-1=5;5*3=15;15-3=12", "6+1=7;7*3=21;21+3=24"),
    ("2 2 2 2=8|", "2*2=4;4+2=6;6+2=8", "2+2=4;4-2=2;2+2=4"),
    ("5 4 1 2=18|", "5+4=9;9*1=9;9*2=18", "5-4=1;1*1=1;1+2=3"),
]


def response_logp(model, prompt_ids, response_ids):
    """Return the reward of a response, its log-probability: r(x, y) = sum_t log pi_r(y_t | x, y_<t)."""
    ids = torch.tensor([prompt_ids + response_ids])
    logps = model(ids).logits.log_softmax(-1)
    # The logits at position t predict the token at position t + 1.
    token_logps = logps[0, :-1].gather(-1, ids[0, 1:, None])[:, 0]
    return token_logps[len(prompt_ids) - 1 :].sum()


def preference_loss(model, tokenizer, beta):
    """Return the Bradley-Terry loss -log sigmoid(beta * (r(x, y+) - r(x, y-))), without a reference model."""
    losses = []
    for prompt, *responses in PAIRS:
        prompt_ids = tokenizer(prompt)["input_ids"]
        # A response ends with EOS, which counts.
        texts = [tokenizer(prompt + response)["input_ids"] + [tokenizer.eos_token_id] for response in responses]
        chosen, rejected = (response_logp(model, prompt_ids, ids[len(prompt_ids) :]) for ids in texts)
        losses.append(-torch.nn.functional.logsigmoid(beta * (chosen - rejected)))
    return torch.stack(losses).mean()


def train_reward_model(policy, tokenizer, beta=0.3, steps=5):
    """Train a copy of the policy as reward model, which is still an ordinary causal language model."""
    guide = copy.deepcopy(policy)
    optimizer = torch.optim.SGD(guide.parameters(), lr=1e-3)
    for _ in range(steps):
        loss = preference_loss(guide, tokenizer, beta)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return guide


@torch.no_grad()
def guided_decoding(policy, guide, ids, alpha, new_tokens):
    """Decode greedily with log pi(y_t) = log pi_base(y_t) + alpha * log pi_r(y_t) - log Z."""
    for _ in range(new_tokens):
        # 1) One forward of each model gives the log-probability of EVERY next token,
        base = policy(ids).logits[:, -1].log_softmax(-1)
        reward = guide(ids).logits[:, -1].log_softmax(-1)
        # 2) so the rewards of all tokens are known without trying them.
        combined = (base + alpha * reward).log_softmax(-1)
        ids = torch.cat([ids, combined.argmax(-1, keepdim=True)], dim=-1)
    return ids


def main():
    tokenizer = AutoTokenizer.from_pretrained(POLICY)
    policy = AutoModelForCausalLM.from_pretrained(POLICY, dtype=torch.float64).eval()
    print(f"loss before training: {preference_loss(policy, tokenizer, 0.3):.4f}")
    guide = train_reward_model(policy, tokenizer)
    print(f"loss after training:  {preference_loss(guide, tokenizer, 0.3):.4f}")
    ids = tokenizer("6 1 3 3=12|", return_tensors="pt")["input_ids"]
    for alpha in (0.0, 1.0):
        print(f"alpha {alpha}: {tokenizer.decode(guided_decoding(policy, guide, ids, alpha, 24)[0])}")
    compare_with_the_library(policy, guide, tokenizer, ids)


def compare_with_the_library(policy, guide, tokenizer, ids):
    from datasets import Dataset

    from hf_reward_ext.base.preference import tokenize_preference
    from hf_reward_ext.base.training.losses import bradley_terry_loss
    from hf_reward_ext.genarm import GenARMLogitsProcessor, GenARMRewardModel

    rows = [dict(zip(("prompt", "chosen", "rejected"), pair, strict=True)) for pair in PAIRS]
    reward_model = GenARMRewardModel.from_causal_lm(guide)
    rewards = {"chosen": [], "rejected": []}
    for row in Dataset.from_list(rows):
        tokens = tokenize_preference(row, tokenizer)
        for side, values in rewards.items():
            whole = torch.tensor([tokens["prompt_ids"] + tokens[f"{side}_ids"]])
            mask = torch.arange(whole.shape[1])[None] >= len(tokens["prompt_ids"])
            values.append(reward_model(whole, torch.ones_like(whole), completion_mask=mask).logits[0, 0])
    loss = bradley_terry_loss(torch.stack(rewards["chosen"]), torch.stack(rewards["rejected"]), beta=0.3).mean()
    torch.testing.assert_close(loss.double(), preference_loss(guide, tokenizer, 0.3), atol=1e-5, rtol=1e-5)
    ours = policy.generate(
        ids, max_new_tokens=24, min_new_tokens=24, do_sample=False, logits_processor=[GenARMLogitsProcessor(guide)]
    )
    plain = guided_decoding(policy, guide, ids, 1.0, 24)
    written = (plain[0, ids.shape[1] :] == tokenizer.eos_token_id).nonzero()
    length = ids.shape[1] + (int(written[0]) if len(written) else 24)  # `min_new_tokens` continues after EOS
    assert torch.equal(ours[:, :length], plain[:, :length])
    print("equal to the library: loss and guided tokens")


if __name__ == "__main__":
    main()

"""
Fast-Slow (arXiv 2603.20212) in plain PyTorch: a judge answers in one token if it is confident.

The paper gives no formula; this is our reconstruction, as in docs/methods/fast_slow.md. Read it from top to
bottom; the last function compares every number with the library. Run: python examples/reading/fast_slow.py
"""

import math
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

POLICY = Path(__file__).parents[2] / "hf_reward_ext" / "demo" / "checkpoint"
VERDICTS = ("Yes", "No")
ANALYSIS, FINAL = ":", "#"  # text that starts a written judgment, and text before its final verdict
MAX_NEW_TOKENS = 24


def judge_prompt(prompt, response):
    return f"{prompt}{response}?"


@torch.no_grad()
def first_token(model, tokenizer, prompt, response):
    """
    Run the fast path: one forward, and the logits of the verdict tokens at the start of the answer.

    s = l_Yes - l_No is the score. M is the total probability of the verdicts, and p its distribution;
    C_dist = M (1 - H(p) / log |U|) is 1 for one certain verdict and 0 for an even or an absent one.
    """
    ids = tokenizer(judge_prompt(prompt, response), return_tensors="pt")["input_ids"]
    logits = model(ids).logits[0, -1]
    verdict_ids = [tokenizer.convert_tokens_to_ids(verdict) for verdict in VERDICTS]
    yes, no = logits[verdict_ids]
    q = logits.softmax(-1)[verdict_ids]
    mass, p = q.sum(), q / q.sum()
    entropy = -(p * p.log()).sum()
    return (yes - no).item(), (mass * (1 - entropy / math.log(len(VERDICTS)))).item(), ids


@torch.no_grad()
def write(model, tokenizer, ids, score):
    """
    Run the slow path: the model continues its first verdict with an analysis, and the final verdict decides.

    Returns the difference of the verdict logits at the final verdict, or `None` if there is none.
    """
    yes, no = (tokenizer.convert_tokens_to_ids(verdict) for verdict in VERDICTS)
    draft = yes if score > 0 else no
    opened = [draft, *tokenizer(ANALYSIS, add_special_tokens=False)["input_ids"]]
    ids = torch.cat([ids, torch.tensor([opened])], dim=-1)
    final = tokenizer(FINAL, add_special_tokens=False)["input_ids"][-1]
    for _ in range(MAX_NEW_TOKENS - len(opened)):
        logits = model(ids).logits[0, -1]
        if ids[0, -1] == final:
            return (logits[yes] - logits[no]).item()
        ids = torch.cat([ids, logits.argmax().view(1, 1)], dim=-1)
        if ids[0, -1] == tokenizer.eos_token_id:
            return None
    return None


def judge(model, tokenizer, prompt, response_a, response_b, intuition_threshold, distribution_threshold):
    """
    Return P(a better than b) = sigmoid(s_a - s_b). The confidence in the decision is C_int = |2P - 1|.

    Both responses get a written judgment if C_int or the smaller C_dist is below its threshold.
    """
    fast = [first_token(model, tokenizer, prompt, response) for response in (response_a, response_b)]
    probability = torch.tensor(fast[0][0] - fast[1][0]).sigmoid().item()
    intuition, distribution = abs(2 * probability - 1), min(fast[0][1], fast[1][1])
    if intuition >= intuition_threshold and distribution >= distribution_threshold:
        return probability, "fast", intuition, distribution
    written = [write(model, tokenizer, ids, score) for score, _, ids in fast]
    # A judgment without a verdict keeps its fast score.
    scores = [score if slow is None else slow for slow, (score, _, _) in zip(written, fast, strict=True)]
    return torch.tensor(scores[0] - scores[1]).sigmoid().item(), "slow", intuition, distribution


@torch.no_grad()
def stand_in_for_training(model, tokenizer):
    """Set random weights for the verdict tokens, which the policy was not trained to generate."""
    torch.manual_seed(0)
    rows = [tokenizer.convert_tokens_to_ids(verdict) for verdict in VERDICTS]
    weight = model.get_output_embeddings().weight
    weight[rows] = weight[rows] + 0.3 * torch.randn(len(rows), weight.shape[1])


PROMPT, RIGHT, WRONG = "6 1 3 3=12|", "6-1*3-3=12", "6+1*3-3=12"


def main():
    tokenizer = AutoTokenizer.from_pretrained(POLICY)
    model = AutoModelForCausalLM.from_pretrained(POLICY, dtype=torch.float32).eval()
    stand_in_for_training(model, tokenizer)
    for threshold in (0.0, 1.1):  # never and always a written judgment
        found = judge(model, tokenizer, PROMPT, RIGHT, WRONG, threshold, threshold)
        print("P = {:.4f}, {}, C_int = {:.4f}, C_dist = {:.4f}".format(*found))
        compare_with_the_library(model, tokenizer, threshold, found)
    print("equal to the library: probabilities, both confidences and the gate")


def compare_with_the_library(model, tokenizer, threshold, found):
    from hf_reward_ext.fast_slow import FastSlowRewardModel, JudgeTemplate

    template = JudgeTemplate(user="{prompt}{response_a}?", base_suffix="", analysis_prefix=ANALYSIS, final_marker=FINAL)
    ours = FastSlowRewardModel(
        model, tokenizer, verdicts=VERDICTS, template=template, intuition_threshold=threshold,
        distribution_threshold=threshold, max_new_tokens=MAX_NEW_TOKENS,
    ).judge([PROMPT], [RIGHT], [WRONG])[0]  # fmt: skip
    assert ours.mode == found[1], (ours.mode, found[1])
    torch.testing.assert_close(
        torch.tensor([ours.probability, ours.intuition, ours.distribution]),
        torch.tensor([found[0], *found[2:]]), atol=1e-4, rtol=1e-4,
    )  # fmt: skip


if __name__ == "__main__":
    main()

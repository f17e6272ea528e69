"""
Blocks by a small model that a reward accepts, beside best-of-N: `python examples/benchmarks/draft_blocks.py`.

The demo policy on arithmetic, a drafter of 7 % of its parameters that was trained on the same text, and a head on
the policy's hidden states that was trained on labeled samples and their prefixes; its calibrated probability of a right
answer is the reward of a prefix. Blocks end with a computation. Tokens per problem are those that each model writes one
by one; the policy and the head also read, many tokens per forward. Intervals: 95 %, bootstrap over problems.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import transformers

from hf_reward_ext.best_of_n import DraftBlocks
from hf_reward_ext.demo import arithmetic
from hf_reward_ext.demo.elhsr import prompts_of, rollouts_of, train_head, with_prefixes
from hf_reward_ext.demo.policy import load_policy, new_policy
from hf_reward_ext.demo.sampling import sample
from hf_reward_ext.demo.train import train
from hf_reward_ext.elhsr.text_classifier import ELHSRForSequenceClassification
from hf_reward_ext.evaluation import Estimate, mean_with_interval

THRESHOLDS = (0.2, 0.4, 0.6)


def train_drafter(tokenizer, steps: int, seed: int):
    """Train a small model on the text of the policy's training."""
    torch.manual_seed(seed)
    drafter = new_policy(tokenizer, hidden_size=40, num_layers=2, num_heads=2)
    settings = dict(
        steps=steps, batch_size=64, learning_rate=3e-3, seed=seed, right=0.5, clean=0.4, walk_share=0.0, retry=0.8
    )
    train(drafter, tokenizer, argparse.Namespace(**settings))
    drafter.generation_config = load_policy()[0].generation_config
    return drafter.eval()


def best_of(rollouts, count: int) -> tuple[np.ndarray, dict[str, float]]:
    """Return whether the best by the head of the first candidates is right, and the tokens per problem."""
    best = rollouts.rewards[:, :count].argmax(1)
    right = rollouts.correct[np.arange(len(best)), best].astype(float)
    return right, {"policy tokens": float(rollouts.num_tokens[:, :count].sum(1).mean()), "draft tokens": 0.0}


@torch.no_grad()
def run(policy, tokenizer, prompts: list[str], blocks: DraftBlocks) -> tuple[np.ndarray, dict[str, float]]:
    right, counts = [], np.zeros(4)
    for start in range(0, len(prompts), 50):
        batch = prompts[start : start + 50]
        inputs = tokenizer(batch, return_tensors="pt", padding=True, return_token_type_ids=False)
        out = policy.generate(
            **inputs, custom_generate=blocks, do_sample=True, top_k=0, max_new_tokens=arithmetic.MAX_NEW_TOKENS,
            return_dict_in_generate=True,
        )  # fmt: skip
        texts = tokenizer.batch_decode(out.sequences[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        right += [arithmetic.is_correct(prompt, text) for prompt, text in zip(batch, texts, strict=True)]
        counts += [out.num_target_tokens, out.num_draft_tokens, out.num_accepted, out.num_blocks]
    policy_tokens, draft_tokens = (counts[:2] / len(prompts)).tolist()
    found = {"policy tokens": policy_tokens, "draft tokens": draft_tokens, "accepted": float(counts[2] / counts[3])}
    return np.array(right, dtype=float), found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("outputs/draft_blocks.json"))
    for name, default in (("num-train", 1000), ("num-test", 200), ("drafter-steps", 1000), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--beta", type=float, default=20.0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    started = time.process_time()
    policy, tokenizer = load_policy()
    drafter = train_drafter(tokenizer, args.drafter_steps, args.seed)
    labeled = rollouts_of(policy, tokenizer, arithmetic, args.num_train, args.seed)
    with tempfile.TemporaryDirectory() as folder:
        rows = with_prefixes(labeled.rows, (6, 12, 18, 24))
        head, _ = train_head(policy, tokenizer, rows, Path(folder), args.seed, num_train_epochs=30)
    judge = ELHSRForSequenceClassification(policy, head).eval()

    def probability(ids, mask, completion_mask):
        return head.probability(judge(input_ids=ids, attention_mask=mask, completion_mask=completion_mask).logits[:, 0])

    prompts = prompts_of(arithmetic, "test", args.num_test, args.seed)
    torch.manual_seed(args.seed)
    found = {}
    settings = dict(task=arithmetic, show_progress=False, head=head)
    drawn = sample(policy, tokenizer, prompts, num_candidates=8, **settings)
    for count in (1, 2, 4, 8):
        found[f"policy, best of {count}"] = best_of(drawn, count)
    alone = sample(drafter, tokenizer, prompts, task=arithmetic, show_progress=False)
    written = {"policy tokens": 0.0, "draft tokens": float(alone.num_tokens.mean())}
    found["drafter alone"] = alone.correct[:, 0].astype(float), written
    ends = tokenizer.convert_tokens_to_ids([";", "/"])
    for count, tilted in ((1, False), (4, False), (4, True)):
        for threshold in THRESHOLDS:
            blocks = DraftBlocks(
                drafter, probability, threshold=threshold, num_candidates=count, beta=args.beta if count > 1 else None,
                tilted=tilted, block_tokens=arithmetic.MAX_NEW_TOKENS, block_ends=ends,
            )  # fmt: skip
            name = f"{'GSI' if tilted else 'RSD'}, {count} candidates, threshold {threshold:g}"
            found[name] = run(policy, tokenizer, prompts, blocks)
            print(name, f"{found[name][0].mean():.3f}", found[name][1], flush=True)
    result = {
        "settings": {name: value for name, value in vars(args).items() if name != "output"},
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "drafter parameters": drafter.num_parameters() / policy.num_parameters(),
        "seconds": time.process_time() - started,
        "rows": [
            {"way": way, "accuracy": list(mean_with_interval(right)), **counts}
            for way, (right, counts) in found.items()
        ],
    }
    rounded = json.loads(json.dumps(result), parse_float=lambda text: round(float(text), 4))
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(rounded, separators=(",", ":")) + "\n")
    print("| way | right [95 %] | policy tokens | draft tokens | blocks accepted |\n|---|---:|---:|---:|---:|")
    for row in rounded["rows"]:
        accepted = f"{row['accepted']:.2f}" if "accepted" in row else ""
        cells = f"{row['policy tokens']:.1f} | {row['draft tokens']:.1f} | {accepted}"
        print(f"| {row['way']} | {Estimate(*row['accuracy'])} | {cells} |")


if __name__ == "__main__":
    main()

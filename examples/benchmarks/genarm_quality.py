"""
GenARM on real text: weak-to-strong guidance of a story model, compared with the same model sharpened.

    python examples/benchmarks/genarm_quality.py --models ../shared/models --pairs ../shared/data/story-pairs

1. Held-out pair accuracy of an autoregressive reward model (ARM) before and after training on real > stories260K.
2. An ARM started from weak512-59K, 4.4 times smaller, guides stories260K. A judge that was trained on other pairs
   and prompts measures how often the result is better than a plain sample of the same prompt at temperature 1. Every
   row has as many tokens as the plain sample. The control is the policy alone at temperature 1 / (1 + alpha).

Two judges: an ARM started from stories260K, and a linear classifier of real and sampled text on the mean hidden states
of stories260K. The policy's log-probability shows degenerate text. Intervals: bootstrap over prompts, each
averaged over the seeds of training and sampling.
"""

import argparse
import gzip
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, disable_progress_bars
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, AutoTokenizer, logging, set_seed

from hf_reward_ext.base.preference.pairs import prepare_preference_dataset
from hf_reward_ext.evaluation import mean_with_interval
from hf_reward_ext.genarm import GenARMConfig, GenARMLogitsProcessor, GenARMRewardModel, GenARMTrainer

POLICY, WEAK = "stories260K", "weak512-59K"
NEW_TOKENS = 60


def load(folder: Path):
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa").eval()


def train_arm(folder: Path, pairs: Dataset, tokenizer, args, steps: int, seed: int):
    """Train a guide or a judge, and return it with the seconds of training."""
    set_seed(seed)
    with tempfile.TemporaryDirectory() as output:
        config = GenARMConfig(
            output, beta=args.beta, learning_rate=args.learning_rate, max_steps=steps, seed=seed,
            per_device_train_batch_size=16, lr_scheduler_type="cosine", activation_checkpointing=False,
            use_cpu=True, report_to="none", save_strategy="no", logging_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        trainer = GenARMTrainer(load(folder), config, train_dataset=pairs, processing_class=tokenizer)
        started = time.process_time()
        trainer.train()
        return trainer.model.eval(), time.process_time() - started


def same_length(row: dict, tokenizer, chosen: str, rejected: str) -> dict:
    """Cut both sides to the length of the shorter one, so that length carries no information."""
    prompt = tokenizer(row["prompt"])["input_ids"]
    sides = [tokenizer(row["prompt"] + row[side])["input_ids"][len(prompt) :] for side in (chosen, rejected)]
    size = min(NEW_TOKENS, *map(len, sides))
    return {"prompt_ids": prompt, "chosen_ids": sides[0][:size], "rejected_ids": sides[1][:size]}


def padded(prompts: list[list[int]], completions: list[list[int]]):
    """Return ids, attention mask and completion mask, padded on the right."""
    texts = [torch.tensor(prompt + completion) for prompt, completion in zip(prompts, completions, strict=True)]
    ids = pad_sequence(texts, batch_first=True)
    columns = torch.arange(ids.shape[1])
    attention_mask = columns < torch.tensor([len(text) for text in texts])[:, None]
    return (
        ids,
        attention_mask.long(),
        attention_mask & (columns >= torch.tensor([len(one) for one in prompts])[:, None]),
    )


@torch.no_grad()
def mean_rewards(causal_lm, prompts: list[list[int]], completions: list[list[int]]) -> np.ndarray:
    """Return the mean log-probability of each completion's tokens."""
    scorer = GenARMRewardModel.from_causal_lm(causal_lm, length_normalization=True)
    return scorer(*padded(prompts, completions)).logits[:, 0].numpy()


@torch.no_grad()
def features(causal_lm, prompts: list[list[int]], completions: list[list[int]]) -> np.ndarray:
    """Return the mean hidden state of the completion at every layer."""
    ids, attention_mask, mask = padded(prompts, completions)
    states = causal_lm(ids, attention_mask=attention_mask, output_hidden_states=True).hidden_states
    weights = (mask / mask.sum(-1, keepdim=True))[..., None]
    return torch.cat([(state * weights).sum(1) for state in states], dim=-1).numpy()


def accuracy(causal_lm, rows: list[dict]) -> float:
    prompts = [row["prompt_ids"] for row in rows]
    chosen, rejected = (
        mean_rewards(causal_lm, prompts, [row[f"{side}_ids"] for row in rows]) for side in ("chosen", "rejected")
    )
    return float((chosen > rejected).mean())


def report_pairs(stories: list[dict], tokenizer, args) -> None:
    """Report part 1: whole continuations with EOS, split by id % 5."""
    pairs = [{"prompt": row["prompt"], "chosen": row["real"], "rejected": row[POLICY]} for row in stories]
    train = Dataset.from_list([pair for pair, row in zip(pairs, stories, strict=True) if row["id"] % 5])
    held_out = [index for index, row in enumerate(stories) if row["id"] % 5 == 0]
    whole = list(prepare_preference_dataset(Dataset.from_list([pairs[index] for index in held_out]), tokenizer))
    cut = [same_length(stories[index], tokenizer, "real", POLICY) for index in held_out]
    base = load(args.models / POLICY)
    arm, seconds = train_arm(args.models / POLICY, train, tokenizer, args, args.steps, seed=0)
    print(f"\n### Pairs real > {POLICY}: {len(train)} to train on, {len(held_out)} held out\n")
    print("| model | mean log-probability, whole | the same, cut to one length |\n|---|---:|---:|")
    for name, model in ((f"{POLICY} as it is", base), (f"ARM, {args.steps} steps, {seconds:.0f} CPU s", arm)):
        print(f"| {name} | {accuracy(model, whole):.3f} | {accuracy(model, cut):.3f} |", flush=True)


def sample(policy, prompts: list[list[int]], tokenizer, temperature: float, processors: list) -> list[list[int]]:
    """Sample `NEW_TOKENS` tokens for each prompt, without EOS."""
    inputs = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt")
    out = policy.generate(
        **inputs, do_sample=True, temperature=temperature, top_k=0, top_p=1.0, logits_processor=processors,
        min_new_tokens=NEW_TOKENS, max_new_tokens=NEW_TOKENS,
    )  # fmt: skip
    return out[:, inputs["input_ids"].shape[1] :].tolist()


def report_guidance(stories: list[dict], tokenizer, args) -> None:
    """Report part 2: guide trained on ids 2 and 3 (mod 5), judges on 4 and 0, prompts of 1."""
    rows = [same_length(row, tokenizer, "real", POLICY) for row in stories]
    parts = {
        name: [row for row, story in zip(rows, stories, strict=True) if story["id"] % 5 in ids]
        for name, ids in (("guide", (2, 3)), ("judge", (4, 0)), ("test", (1,)))
    }
    policy = load(args.models / POLICY)
    prompts = [row["prompt_ids"] for row in parts["test"]]
    judge, _ = train_arm(args.models / POLICY, Dataset.from_list(parts["judge"]), tokenizer, args, args.steps, seed=100)
    read = [
        features(policy, [row["prompt_ids"] for row in parts["judge"]], [row[side] for row in parts["judge"]])
        for side in ("chosen_ids", "rejected_ids")
    ]
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
    linear.fit(np.concatenate(read), [1] * len(read[0]) + [0] * len(read[1]))
    judges = {
        "ARM judge": lambda texts: mean_rewards(judge, prompts, texts),
        "linear judge": lambda texts: linear.decision_function(features(policy, prompts, texts)),
    }
    print(f"\n### {WEAK} as a guide of {POLICY}: {len(parts['guide'])} pairs, {len(prompts)} prompts\n")
    for name, judge_of in judges.items():
        real, sampled = (judge_of([row[side] for row in parts["test"]]) for side in ("chosen_ids", "rejected_ids"))
        print(f"* {name}: held-out pair accuracy {np.mean(real > sampled):.3f}")
    real = mean_rewards(policy, prompts, [row["chosen_ids"] for row in parts["test"]]).mean()
    print(f"* the policy gives the real continuations {real:.2f} nats per token")
    wins: dict[str, dict[str, list]] = {}
    likelihoods: dict[str, list[float]] = {}
    untrained = load(args.models / WEAK)
    for seed in range(args.seeds):
        guide, seconds = train_arm(
            args.models / WEAK, Dataset.from_list(parts["guide"]), tokenizer, args, args.guide_steps, seed
        )
        print(
            f"* guide of seed {seed}: {seconds:.0f} CPU s, held-out pair accuracy "
            f"{accuracy(untrained, parts['test']):.3f} -> {accuracy(guide, parts['test']):.3f}",
            flush=True,
        )
        ways = {"policy alone, T = 1": (1.0, [])}
        for alpha in args.alphas:
            ways[f"policy alone, T = {1 / (1 + alpha):.2f} (control of alpha = {alpha})"] = (1 / (1 + alpha), [])
            for name, model in (("untrained weak model", untrained), ("weak ARM", guide)):
                ways[f"{name}, alpha = {alpha}"] = (1.0, [GenARMLogitsProcessor(model, alpha=alpha)])
        set_seed(1000 + seed)
        plain_texts = sample(policy, prompts, tokenizer, 1.0, [])
        plain = {name: score(plain_texts) for name, score in judges.items()}
        for way, (temperature, processors) in ways.items():
            set_seed(2000 + seed)
            texts = sample(policy, prompts, tokenizer, temperature, processors)
            for name, score in judges.items():
                wins.setdefault(way, {}).setdefault(name, []).append(score(texts) > plain[name])
            likelihoods.setdefault(way, []).append(mean_rewards(policy, prompts, texts).mean())
    print(f"\nShare of prompts where a judge prefers the row to a plain sample, {args.seeds} seeds [95 %]\n")
    print("| | " + " | ".join(judges) + " | policy's nats per token |\n|---|" + "---:|" * (len(judges) + 1))
    for way, by_judge in wins.items():
        shares = [str(mean_with_interval(np.mean(by_judge[name], axis=0))) for name in judges]
        print(f"| {way} | {' | '.join(shares)} | {np.mean(likelihoods[way]):.2f} |")
    print("\nTrained guide minus its control, paired by prompt\n")
    print("| alpha | " + " | ".join(judges) + " |\n|---:|" + "---:|" * len(judges))
    for alpha in args.alphas:
        pair = [wins[way] for way in wins if way.endswith(f"alpha = {alpha})") or way == f"weak ARM, alpha = {alpha}"]
        gains = [str(mean_with_interval(np.mean(pair[1][n], axis=0) - np.mean(pair[0][n], axis=0))) for n in judges]
        print(f"| {alpha} | {' | '.join(gains)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument(
        "--steps",
        type=int,
        default=200,
        help="number of training steps of ARMs started from the policy, with batches of 16",
    )
    parser.add_argument("--guide-steps", type=int, default=200)
    parser.add_argument("--beta", type=float, default=0.1)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--alphas", nargs="+", type=float, default=[0.25, 0.5, 1.0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--parts", nargs="+", default=["pairs", "guidance"], choices=["pairs", "guidance"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    disable_progress_bars()
    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(args.models / POLICY)
    with gzip.open(args.pairs / "story_pairs.jsonl.gz", "rt") as lines:
        stories = [json.loads(line) for line in lines]
    if "pairs" in args.parts:
        report_pairs(stories, tokenizer, args)
    if "guidance" in args.parts:
        report_guidance(stories, tokenizer, args)


if __name__ == "__main__":
    main()

"""
Cost of ELHSR, as ratios in one run: `python examples/benchmarks/elhsr.py --size 0.5b`.

Random weights in bfloat16: the cost does not depend on their values. EOS is never sampled, so all runs have the same
length.
"""

import argparse
import subprocess
import sys
import tempfile

import torch
from datasets import Dataset
from interleaved import interleaved, print_table
from resident import peak_resident
from transformers import LlamaConfig, LlamaForCausalLM, set_seed

from hf_reward_ext.base.lm.prefill import SharedPrefill
from hf_reward_ext.demo.tokenizer import build_tokenizer
from hf_reward_ext.elhsr import ELHSRConfig, ELHSRModel, ELHSRTrainer, HiddenStateReward
from hf_reward_ext.elhsr.features import teacher_forced_features

SIZES = {
    "demo": dict(vocab_size=128, hidden_size=128, intermediate_size=336, num_hidden_layers=3, num_attention_heads=4),
    "0.5b": dict(
        vocab_size=32000, hidden_size=1024, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=16,
        num_key_value_heads=4,
    ),
}  # fmt: skip
CANDIDATES = 16


def build_policy(size: str) -> LlamaForCausalLM:
    set_seed(0)
    config = LlamaConfig(**SIZES[size], max_position_embeddings=2048, bos_token_id=1, eos_token_id=None, pad_token_id=0)
    return LlamaForCausalLM(config).to(torch.bfloat16).eval()


def generate(policy, prompt, new_tokens: int, rows: int = CANDIDATES, **kwargs):
    return policy.generate(
        prompt, attention_mask=torch.ones_like(prompt), do_sample=True, max_new_tokens=new_tokens,
        num_return_sequences=rows, **kwargs,
    )  # fmt: skip


def scored(policy, head, prompt, new_tokens: int, rows: int = CANDIDATES):
    with HiddenStateReward(policy, head) as meter:
        generate(policy, prompt, new_tokens, rows)
    return meter.rewards


def second_pass(policy, head, sequences, prompt_length: int, rows_at_once: int):
    rewards = []
    for rows in sequences.split(rows_at_once):
        features = teacher_forced_features(policy, head.config, rows, torch.ones_like(rows))[:, prompt_length:]
        rewards.append(head(features, torch.ones(features.shape[:2], dtype=torch.bool)))
    return torch.cat(rewards)


@torch.no_grad()
def scoring(policy, args) -> None:
    prompt = torch.randint(3, 100, (1, 32))
    every = ELHSRModel.from_policy(policy)
    last_four = ELHSRModel.from_policy(policy, layers=[-4, -3, -2, -1])
    new = args.new_tokens
    ways = {
        "generation alone": lambda: generate(policy, prompt, new),
        "with rewards, all layers": lambda: scored(policy, every, prompt, new),
        "with rewards, last four": lambda: scored(policy, last_four, prompt, new),
    }
    if not args.without_second_pass:
        ways |= {
            "then a batched second pass": lambda: second_pass(policy, every, generate(policy, prompt, new), 32, 16),
            "then one pass per candidate": lambda: second_pass(policy, every, generate(policy, prompt, new), 32, 1),
        }
    seconds = interleaved(ways, args.repeats)
    alone, ours = seconds["generation alone"], seconds["with rewards, all layers"]
    rows = [(name, value, value / alone, ours / value) for name, value in seconds.items()]
    header = (f"best of 16, {new} tokens", "seconds", "over generation alone", "ours (all layers) over it")
    print_table(f"Scoring while generating, {args.size}", rows, header)


@torch.no_grad()
def prefill(policy, args) -> None:
    prompt = torch.randint(3, 100, (1, 512))
    mask = torch.ones_like(prompt)
    seconds = interleaved(
        {
            "prompt read for each candidate": lambda: generate(policy, prompt, 1),
            "prompt read once": lambda: SharedPrefill(policy, prompt, mask).generate(
                CANDIDATES, do_sample=True, max_new_tokens=1
            ),
        },
        args.repeats,
    )
    plain = seconds["prompt read for each candidate"]
    rows = [(name, value, plain / value) for name, value in seconds.items()]
    print_table(f"Time to first token, 512-token prompt, N = 16, {args.size}", rows, ("way", "seconds", "speed-up"))


def memory(args) -> None:
    """Measure the peak resident memory of processes with and without the meter."""
    rows = []
    for length in (64, 256, 1024):
        peaks = {}
        for way in ("alone", "scored"):
            command = [sys.executable, __file__, "--size", args.size, "--peak", way, "--new-tokens", str(length)]
            peaks[way] = min(
                float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(3)
            )
        stored = CANDIDATES * length * (SIZES[args.size]["num_hidden_layers"] + 1) * SIZES[args.size]["hidden_size"] * 2
        rows.append((length, peaks["alone"], peaks["scored"], peaks["scored"] - peaks["alone"], stored / 2**20))
    header = (
        "tokens",
        "generation alone (MiB)",
        "with rewards (MiB)",
        "difference (MiB)",
        "stored states would be (MiB)",
    )
    print_table(f"Peak memory, 16 rows, {args.size}", rows, header)


@torch.no_grad()
def peak(policy, args) -> None:
    prompt = torch.randint(3, 100, (1, 32))
    if args.peak == "scored":
        scored(policy, ELHSRModel.from_policy(policy), prompt, args.new_tokens)
    else:
        generate(policy, prompt, args.new_tokens)
    print(peak_resident())


def training(policy, args) -> None:
    """Measure the seconds per epoch with cached features, and with the policy in every epoch."""
    count, length = (8, 16) if args.size == "0.5b" else (64, 24)
    rows = [
        {
            "prompt_ids": [3 + index, 4],
            "completion_ids": [5 + (index * step) % 90 for step in range(length)],
            "label": bit,
        }
        for index in range(count)
        for bit in (0.0, 1.0)
    ]
    rows = [{**row, "completion_ids": row["completion_ids"][: length - int(row["label"])]} for row in rows]
    seconds = {}
    for cache in ("memory", "disk", "none"):
        with tempfile.TemporaryDirectory() as folder:
            config = ELHSRConfig(
                folder, feature_cache=cache, num_train_epochs=3, validation_fraction=0.0, report_to="none",
                disable_tqdm=True, logging_strategy="no", save_strategy="no", use_cpu=not torch.cuda.is_available(),
                eval_strategy="no", load_best_model_at_end=False,
            )  # fmt: skip
            trainer = ELHSRTrainer(
                policy, config, train_dataset=Dataset.from_list(rows), processing_class=build_tokenizer()
            )
            seconds[cache] = trainer.train().metrics["train_runtime"] / 3
    table = [(name, value, seconds["none"] / value) for name, value in seconds.items()]
    header = (f"features ({count} prompts, 2 candidates)", "seconds per epoch", "speed-up over none")
    print_table(f"Training a head, {args.size}", table, header)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="demo")
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=("scoring", "prefill", "memory", "training"))
    parser.add_argument("--without-second-pass", action="store_true")
    parser.add_argument("--peak", choices=("alone", "scored"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    policy = build_policy(args.size)
    if args.peak:
        return peak(policy, args)
    print(f"{policy.num_parameters() / 1e6:.1f}M parameters, {policy.dtype}")
    for name, run in {"scoring": scoring, "prefill": prefill, "training": training}.items():
        if args.only in (None, name):
            run(policy, args)
    if args.only in (None, "memory"):
        memory(args)


if __name__ == "__main__":
    main()

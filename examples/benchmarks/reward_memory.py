"""
Peak memory of reward models in GRPO: the single forward of TRL against forwards in parts. Random weights; no download.

    python examples/benchmarks/reward_memory.py --texts 64 --tokens 512

Each row is measured in a process of its own: the peak above what is resident once the model is loaded. The allocator
returns every freed tensor of more than 64 KiB to the system, so that the peak is that of the tensors alive at one time
and repeats from run to run; otherwise memory that glibc keeps is a large share of the small peaks.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import torch
from interleaved import print_table
from resident import peak_resident, resident
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, Qwen3Config

from hf_reward_ext import (
    ELHSRForSequenceClassification,
    ELHSRModel,
    GenARMRewardModel,
    RewardTransformer,
    RewardTransformerForSequenceClassification,
)

WAYS = ("single", "parts")
STEADY = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_MMAP_MAX_": "1000000"}
SIZE = dict(
    vocab_size=32000, hidden_size=256, intermediate_size=768, num_hidden_layers=6, num_attention_heads=8,
    num_key_value_heads=4, head_dim=32, max_position_embeddings=1024, pad_token_id=0,
)  # fmt: skip


def classifier():
    """Return a reward model of transformers, which has no parts of its own."""
    return AutoModelForSequenceClassification.from_config(Qwen3Config(**SIZE, num_labels=1))


def causal_lm():
    return AutoModelForCausalLM.from_config(Qwen3Config(**SIZE))


def elhsr():
    policy = causal_lm()
    return ELHSRForSequenceClassification(policy, ELHSRModel.from_policy(policy))


def sla():
    return RewardTransformerForSequenceClassification(RewardTransformer.from_base(causal_lm(), channel_size=64))


def genarm():
    return GenARMRewardModel.from_causal_lm(causal_lm())


MODELS = {"classifier": classifier, "elhsr": elhsr, "sla": sla, "genarm": genarm}


@torch.inference_mode()
def measure(name: str, way: str, texts: int, tokens: int) -> tuple[float, float]:
    """Return the peak in MiB above the loaded model, and the seconds, of scoring random texts as TRL does."""
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    ids = torch.randint(1, SIZE["vocab_size"], (texts, tokens))
    mask = torch.ones_like(ids)
    model(input_ids=ids[:1, :8], attention_mask=mask[:1, :8])  # what is allocated once
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far, which is that of the imports
    before, started = resident(), time.perf_counter()
    if name == "classifier" and way == "parts":
        rows = max(4096 // tokens, 1)  # as `ModelReward(model, tokenizer, batch_size=rows)` does
        for start in range(0, texts, rows):
            model(input_ids=ids[start : start + rows], attention_mask=mask[start : start + rows])
    else:
        if way == "single":
            model.tokens_per_forward = texts * tokens
        model(input_ids=ids, attention_mask=mask)
    return peak_resident() - before, time.perf_counter() - started


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.measure:
        print(*measure(*args.measure, args.texts, args.tokens))
        return
    rows = []
    for name in args.models:
        found = {}
        for way in WAYS:
            command = [sys.executable, __file__, "--texts", args.texts, "--tokens", args.tokens, "--measure", name, way]
            run = subprocess.run(
                list(map(str, command)), capture_output=True, text=True, check=True, env=os.environ | STEADY
            )
            found[way] = [float(value) for value in run.stdout.split()[-2:]]
        (single, single_seconds), (parts, parts_seconds) = found["single"], found["parts"]
        rows.append((name, round(single), round(parts), parts / single, round(single_seconds), round(parts_seconds)))
    header = ("model", "single forward, MiB", "in parts, MiB", "share", "seconds", "seconds in parts")
    print_table(f"{args.texts} texts of {args.tokens} tokens", rows, header)


if __name__ == "__main__":
    main()

"""
Tokens per second of each engine at N candidates per prompt, in turns on one machine.

    vllm serve FOLDER --served-model-name smol --host 127.0.0.1 --port 8123 --dtype float32 --enforce-eager
    python examples/benchmarks/engines.py FOLDER --url http://127.0.0.1:8123/v1 --served_model smol

`vllm.LLM` in this process, in the Python of vLLM:

    path/to/vllm-env/bin/python tests/in_vllm.py .venv examples/benchmarks/engines.py FOLDER --vllm
"""

import argparse
import time
from statistics import median

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_reward_ext.engines import (
    ContinuousBatchingGenerator,
    Sampling,
    ServerGenerator,
    TransformersGenerator,
    VllmGenerator,
)

PROMPTS = [
    [{"role": "user", "content": text}]
    for text in (
        "What is the capital of France?",
        "Name three colors.",
        "Write a sentence about the sea.",
        "What is 7 times 8?",
    )
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--url")
    parser.add_argument("--served_model")
    parser.add_argument("--vllm", action="store_true")
    parser.add_argument("--num_candidates", type=int, default=16)
    parser.add_argument("--max_new_tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    engines = {
        "generate, shared prefill": TransformersGenerator(model, tokenizer),
        "generate_batch": ContinuousBatchingGenerator(model, tokenizer),
    }
    if args.url:
        engines[f"server {args.url}"] = ServerGenerator(args.url, args.served_model)
    if args.vllm:
        from vllm import LLM

        settings = dict(dtype="float32", max_model_len=1024, max_num_batched_tokens=4096, enforce_eager=True)
        engines["vllm.LLM"] = VllmGenerator(LLM(args.model, **settings))
    speeds: dict[str, list[float]] = {name: [] for name in engines}
    for number in range(args.rounds + 1):
        for name, engine in engines.items():
            sampling = Sampling(args.max_new_tokens, temperature=0.8, seed=number)
            start = time.perf_counter()
            groups = engine.generate(PROMPTS, args.num_candidates, sampling)
            seconds = time.perf_counter() - start
            tokens = sum(one.num_tokens or 0 for group in groups for one in group)
            print(f"round {number}: {name}: {tokens} tokens in {seconds:.1f} s", flush=True)
            if number:  # the first round warms up
                speeds[name].append(tokens / seconds)
    print("| engine | tokens/s, median | least | most |\n|---|---:|---:|---:|")
    for name, values in speeds.items():
        print(f"| {name} | {median(values):.0f} | {min(values):.0f} | {max(values):.0f} |")


if __name__ == "__main__":
    main()

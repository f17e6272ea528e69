"""
Cost of a guide conditioned on two objectives: `python examples/benchmarks/genarm_conditioned.py`.

Milliseconds of processor time of one thread per step of the guide, which reads a token of every row. Random weights.
"""

import argparse
import copy
from functools import partial

import torch
from genarm import SIZES, build, prompt
from genarm_drafts import SHAPES, processor_seconds
from interleaved import print_table
from peft import LoraConfig, get_peft_model

from hf_reward_ext import GenARMLogitsProcessor
from hf_reward_ext.genarm.conditioning import condition_adapter

_SHAPES = {"demo": SIZES["demo"][0], **{name: shapes[0] for name, shapes in SHAPES.items()}}


def steps(processor: GenARMLogitsProcessor, ids: torch.Tensor, new_tokens: int, vocab: int):
    """Run the processor as a greedy generation does, on scores that do not matter."""
    scores = torch.zeros(len(ids), vocab)
    for length in range(ids.shape[1] - new_tokens, ids.shape[1]):
        processor(ids[:, :length], scores)
    for guide in processor.guides:
        guide.forget()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=_SHAPES, default="0.1b")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="float32")
    parser.add_argument("--new-tokens", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 4])
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = build(_SHAPES[args.size], getattr(torch, args.dtype))
    config = LoraConfig(r=8, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    plain = get_peft_model(copy.deepcopy(model), config).eval()
    conditioned = copy.deepcopy(plain)
    condition_adapter(conditioned, 2)
    table = []
    for rows in args.rows:
        ids = prompt(rows, 16 + args.new_tokens)
        per_row = torch.linspace(0, 1, rows)[:, None]
        processors = {
            "plain": GenARMLogitsProcessor(plain),
            "shared": GenARMLogitsProcessor(conditioned, weights=[0.3, 0.7]),
            "per row": GenARMLogitsProcessor(conditioned, weights=torch.cat([per_row, 1 - per_row], dim=1)),
            "two": GenARMLogitsProcessor([plain, plain]),
        }
        vocab = model.config.vocab_size
        ways = {name: partial(steps, one, ids, args.new_tokens, vocab) for name, one in processors.items()}
        seconds = processor_seconds(ways, args.repeats)
        ratios = [seconds[name] / seconds["plain"] for name in ("shared", "per row", "two")]
        table.append((rows, 1000 * seconds["plain"] / args.new_tokens, *ratios))
    header = (
        "rows",
        "plain guide (ms/step)",
        "conditioned, shared weights",
        "conditioned, weights per row",
        "two guides",
    )
    print_table(f"A conditioned guide over a plain one, {args.size}, {args.dtype}", table, header)


if __name__ == "__main__":
    main()

"""
Drafts by the guide for a batch of prompts: `python examples/benchmarks/genarm_drafts.py`.

Seconds of processor time of one thread, so that other programs on the machine count little. Random weights; a larger
`alpha` raises the share of accepted drafts. The same tokens are checked in float64 on a shorter text.
"""

import argparse
import copy
import statistics
import time

import torch
from genarm import SIZES, build, prompt, write
from interleaved import print_table

from hf_reward_ext.genarm import GenARMLogitsProcessor, GuidedCausalLM, speculative_generate

# Policy, and a guide of a twentieth.
SHAPES = {
    "0.1b": ((768, 3072, 12, 12, 4, 8192), (256, 768, 4, 4, 4, 8192)),
    "0.5b": (SIZES["0.5b"][0], SIZES["0.5b"][2]),
}


def processor_seconds(ways: dict, repeats: int) -> dict[str, float]:
    """Return the median processor time of each way, interleaved."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, run in ways.items():
            started = time.process_time()
            run()
            if repeat:  # the first one warms up
                seconds[name].append(time.process_time() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def same_tokens(base, small, alpha: float, rows: int) -> bool:
    guided = GuidedCausalLM(*(copy.deepcopy(model).double() for model in (base, small)), alpha)
    return torch.equal(
        write(guided, prompt(rows), 12), write(guided, prompt(rows), 12, custom_generate=speculative_generate)
    )


@torch.no_grad()
def forwards(base, rows: int, tokens: tuple[int, ...], repeats: int) -> dict[str, float]:
    """Measure one forward of the policy over several tokens per row, with a cache of 32 tokens."""
    cache = base(prompt(rows, 32), use_cache=True).past_key_values

    def step(count: int):
        base(prompt(rows, count), past_key_values=cache, use_cache=True)
        cache.crop(-count)

    return processor_seconds({str(count): lambda count=count: step(count) for count in tokens}, repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SHAPES, default="0.5b")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--drafts", type=int, nargs="+", default=[3, 5])
    parser.add_argument("--alpha", type=float, nargs="+", default=[16.0, 32.0])
    parser.add_argument("--check", action="store_true", help="compare tokens in float64 too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    base, small = (build(shape, getattr(torch, args.dtype), seed) for seed, shape in enumerate(SHAPES[args.size]))
    rows = []
    for batch in args.rows:
        for alpha in args.alpha:
            guided, ids = GuidedCausalLM(base, small, alpha), prompt(batch)
            drafted = {
                count: lambda guided=guided, ids=ids, count=count: write(
                    guided, ids, args.new_tokens, custom_generate=speculative_generate, num_draft_tokens=count,
                    return_dict_in_generate=True,
                )
                for count in args.drafts
            }  # fmt: skip
            processor = {"logits_processor": [GenARMLogitsProcessor(small, alpha)]}
            ways = {
                "plain": lambda guided=guided, ids=ids: write(guided, ids, args.new_tokens),
                "processor": lambda ids=ids, processor=processor: write(base, ids, args.new_tokens, **processor),
            }
            for count in args.drafts:
                ways[f"processor {count}"] = lambda ids=ids, processor=processor, count=count: write(
                    base, ids, args.new_tokens, custom_generate=speculative_generate, num_draft_tokens=count,
                    **processor,
                )  # fmt: skip
            seconds = processor_seconds(ways | drafted, args.repeats)
            same = same_tokens(base, small, alpha, batch) if args.check else "-"
            for count, run in drafted.items():
                out = run()
                accepted = out.num_accepted / out.num_drafted
                speed = [seconds["plain"] / seconds[count], seconds["processor"] / seconds[f"processor {count}"]]
                rows.append((batch, alpha, count, accepted, out.num_rounds, *speed, same))
    header = ("batch", "alpha", "drafts", "accepted", "rounds", "over plain guided", "processor, over plain processor",
              "same tokens (float64)")  # fmt: skip
    print_table(f"Drafts of a whole batch, {args.new_tokens} tokens, {args.size}, {args.dtype}", rows, header)
    counts = (1, *(count + 1 for count in args.drafts))
    costs = [(batch, *(1000 * s for s in forwards(base, batch, counts, 5).values())) for batch in args.rows]
    print_table("Forward of the policy (ms)", costs, ("batch", *(f"{count} tokens per row" for count in counts)))


if __name__ == "__main__":
    main()

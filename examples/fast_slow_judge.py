"""
Judgments of pairs and selection of the best response with a saved Fast-Slow judge.

    python examples/fast_slow_judge.py --judge outputs/judge      # the demo judge, on its test problems
    python examples/fast_slow_judge.py --judge outputs/judge --prompt "6 1 3 3=12|" --responses "6-1*3-3=12" "6+1=12"
"""

import argparse

from hf_reward_ext.demo.judge import pairs
from hf_reward_ext.fast_slow import FastSlowRewardModel, best_response


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", required=True, help="folder or name of a judge")
    parser.add_argument("--prompt")
    parser.add_argument("--responses", nargs="+", default=[])
    parser.add_argument("--num-pairs", type=int, default=5, help="number of test problems of the demo")
    args = parser.parse_args(arguments)
    judge = FastSlowRewardModel.from_pretrained(args.judge)
    if args.prompt:
        best = best_response(judge, args.prompt, args.responses)
        print(f"best: {args.responses[best.index]!r}, written about {len(best.judgments)}, {best.num_tokens} tokens")
        return
    rows = pairs("test", args.num_pairs)
    judgments = judge.judge(rows["prompt"], rows["chosen"], rows["rejected"])
    for row, judgment in zip(rows, judgments, strict=True):
        print(f"{row['prompt']} {row['chosen']} or {row['rejected']}")
        print(
            f"    {judgment.probability:.3f} for the first, {judgment.mode}, {judgment.num_tokens} tokens, "
            f"intuition {judgment.intuition:.2f}, distribution {judgment.distribution:.2f}: {judgment.text}"
        )


if __name__ == "__main__":
    main()

"""
Time of gated judging against its parts, and of the fast path against one plain forward.

    python examples/benchmarks/fast_slow.py --judge quality/judge0 --length 0   # the demo judge
    python examples/benchmarks/fast_slow.py --hidden-size 512 --num-layers 8 --num-prompts 64 --length 256

Without `--judge` the weights are random and every written judgment has `--new-tokens` tokens: the work is the same
as for a trained judge of that size. Times are interleaved medians.
"""

import argparse

import torch
from interleaved import interleaved, print_table

from hf_reward_ext.demo.judge import TEMPLATE, VERDICTS, pairs
from hf_reward_ext.demo.policy import new_policy
from hf_reward_ext.demo.tokenizer import build_tokenizer
from hf_reward_ext.fast_slow import FastSlowRewardModel
from hf_reward_ext.fast_slow.judge.gate import NEVER
from hf_reward_ext.fast_slow.judge.judge_inputs import encode_decisions


def random_judge(args) -> FastSlowRewardModel:
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    model = new_policy(tokenizer, args.hidden_size, args.num_layers, max(4, args.hidden_size // 64))
    if args.device != "cpu":
        model = model.to(args.device, torch.bfloat16)
    return FastSlowRewardModel(
        model, tokenizer, VERDICTS, template=TEMPLATE, max_new_tokens=args.new_tokens, batch_size=args.batch_size
    )


def inputs_of(args) -> tuple[list[str], list[str], list[str]]:
    """Return prompts with two responses each, padded with numbers to the given length."""
    rows = pairs("test", args.num_prompts)
    filler = " 1" * (args.length // 2)
    return [filler + prompt for prompt in rows["prompt"]], list(rows["chosen"]), list(rows["rejected"])


def escalate_share(judge: FastSlowRewardModel, inputs, rate: float) -> float:
    """Set the gate so that the given share of pairs is escalated."""
    values = torch.tensor([one.intuition for one in judge.judge(*inputs, mode="fast", show_progress=False)])
    judge.gate = judge.gate.with_thresholds(float(values.double().quantile(rate)) + 1e-9, NEVER)
    judgments = judge.judge(*inputs, show_progress=False)
    return sum(one.mode == "slow" for one in judgments) / len(judgments)


def plain_forward(judge: FastSlowRewardModel, inputs) -> None:
    """Encode the same rows and read them, left-padded, in the same batches."""
    responses_b = inputs[2] if len(inputs) > 2 else None
    decisions = encode_decisions(judge.judge_prompt, *inputs[:2], responses_b, judge.config.both_orders)
    for places in decisions.batches(judge.batch_size):
        rows, _ = decisions.batch(places)
        batch = judge.tokenizer.pad({"input_ids": rows}, padding_side="left", return_tensors="pt").to(judge.device)
        with torch.no_grad():
            judge.causal_lm(**batch, logits_to_keep=1, use_cache=False).logits.argmax(-1).tolist()


def print_fast_path(judge: FastSlowRewardModel, inputs, repeats: int, title: str) -> None:
    """Print the time of the fast path over a plain forward, with and without a shared prompt."""
    rows = []
    for name, given in (("pairs: the prompt is shared", inputs), ("single responses: nothing is", inputs[:2])):
        seconds = interleaved(
            {
                "forward": lambda given=given: plain_forward(judge, given),
                "fast": lambda given=given: judge.judge(*given, mode="fast", show_progress=False),
            },
            repeats,
        )
        rows.append((name, seconds["forward"], seconds["fast"], seconds["fast"] / seconds["forward"]))
    print_table(f"Fast path, {title}", rows, ("inputs", "plain forward s", "fast s", "fast / forward"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", help="folder of a judge; default: random weights of the given size")
    parser.add_argument("--hidden-size", type=int, default=256)
    parser.add_argument("--num-layers", type=int, default=6)
    parser.add_argument("--num-prompts", type=int, default=32)
    parser.add_argument(
        "--length", type=int, default=64, help="number of tokens before each prompt; 0 with a trained judge"
    )
    parser.add_argument("--new-tokens", type=int, default=48)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.1, 0.3, 0.5])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    judge = FastSlowRewardModel.from_pretrained(args.judge) if args.judge else random_judge(args)
    judge.batch_size = args.batch_size
    inputs = inputs_of(args)
    name = args.judge or f"random, hidden {args.hidden_size}, {args.num_layers} layers"
    title = f"{name}: {args.num_prompts} pairs, {args.length} tokens in front, batch {args.batch_size}"
    print_fast_path(judge, inputs, args.repeats, title)
    rows = []
    for asked in args.rates:
        rate = escalate_share(judge, inputs, asked)
        seconds = interleaved(
            {
                "fast": lambda: judge.judge(*inputs, mode="fast", show_progress=False),
                "gated": lambda: judge.judge(*inputs, show_progress=False),
                "slow": lambda: judge.judge(*inputs, mode="slow", show_progress=False),
            },
            args.repeats,
        )
        ratio = seconds["gated"] / (seconds["fast"] + rate * seconds["slow"])
        rows.append((f"{rate:.2f}", *seconds.values(), ratio, seconds["gated"] / seconds["slow"]))
    header = ("escalated", "fast s", "gated s", "slow s", "gated / (fast + rate x slow)", "gated / slow")
    print_table(f"Gated, {title}", rows, header)


if __name__ == "__main__":
    main()

"""
What look-ahead search costs, as ratios in one run: `python examples/benchmarks/sla.py --size 0.5b`.

Random weights in bfloat16: the cost does not depend on their values. EOS is never sampled, so all runs have one length.
"""

import argparse

import torch
from interleaved import interleaved, print_table
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, set_seed

from hf_reward_ext.sla import RewardTransformer, SearchSettings, SLALogitsProcessor, sla_generate

SIZES = {
    "demo": dict(vocab_size=128, hidden_size=128, intermediate_size=336, num_hidden_layers=3, num_attention_heads=4),
    "0.5b": dict(
        vocab_size=32000, hidden_size=1024, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=16,
        num_key_value_heads=4,
    ),
}  # fmt: skip
CHANNEL = {"demo": 32, "0.5b": 256}
PUBLISHED = SearchSettings(width=2, step=10, depth=2)


def build(size: str) -> RewardTransformer:
    set_seed(0)
    config = LlamaConfig(**SIZES[size], max_position_embeddings=2048, bos_token_id=1, eos_token_id=None, pad_token_id=0)
    return RewardTransformer.from_base(LlamaForCausalLM(config).to(torch.bfloat16).eval(), CHANNEL[size]).eval()


def prompt_of(prompts: int) -> torch.Tensor:
    return torch.randint(3, 100, (prompts, 32), generator=torch.Generator().manual_seed(0))


def greedy(model, prompts: int, new_tokens: int):
    ids = prompt_of(prompts)
    return model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new_tokens, do_sample=False)


def search(rt, prompts: int, new_tokens: int, settings: SearchSettings = PUBLISHED, **kwargs):
    ids = prompt_of(prompts)
    return rt.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=new_tokens, custom_generate=sla_generate,
        width=settings.width, step=settings.step, depth=settings.depth, return_dict_in_generate=True, **kwargs,
    )  # fmt: skip


def searched_by_processor(rt, new_tokens: int):
    ids = prompt_of(1)
    processor = SLALogitsProcessor(rt, PUBLISHED.width, PUBLISHED.step, PUBLISHED.depth)
    return rt.base.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=new_tokens, logits_processor=[processor]
    )


@torch.no_grad()
def decode_steps(model, rows: int, steps: int, **kwargs) -> None:
    """Bare forwards of one token on a cache: the floor of any decoding."""
    cache = DynamicCache(config=model.config)
    model(prompt_of(rows), past_key_values=cache, use_cache=True, logits_to_keep=1, **kwargs)
    token = torch.full((rows, 1), 5)
    for _ in range(steps):
        model(token, past_key_values=cache, use_cache=True, logits_to_keep=1, **kwargs)


def published(rt, args) -> None:
    rows, new = PUBLISHED.max_leaves, args.new_tokens
    seconds = interleaved(
        {
            "greedy, 1 row": lambda: greedy(rt.base, 1, new),
            f"greedy, {rows} rows": lambda: greedy(rt.base, rows, new),
            "search (2, 10, 2)": lambda: search(rt, 1, new),
            "search by logits processor": lambda: searched_by_processor(rt, new),
            "bare forwards, 1 row": lambda: decode_steps(rt.base, 1, new),
            f"bare forwards, {rows} rows": lambda: decode_steps(rt.base, rows, new),
        },
        args.repeats,
    )
    one, many = seconds["greedy, 1 row"], seconds[f"greedy, {rows} rows"]
    table = [(name, value / new * 1e3, value / one, value / many) for name, value in seconds.items()]
    header = (f"{new} tokens", "ms per token", "over greedy, 1 row", f"over greedy, {rows} rows")
    print_table(f"The published setting, {args.size}", table, header)
    floor = seconds[f"bare forwards, {rows} rows"] / seconds["bare forwards, 1 row"]
    print(f"\nFloor: a forward of {rows} rows takes {floor:.3f} times that of 1.")


def channel(rt, args) -> None:
    for rows in (1, PUBLISHED.max_leaves):
        seconds = interleaved(
            {
                "base": lambda rows=rows: decode_steps(rt.base, rows, args.new_tokens),
                "base with all hidden states": lambda rows=rows: decode_steps(
                    rt.base, rows, args.new_tokens, output_hidden_states=True
                ),
                "with channel": lambda rows=rows: decode_steps(rt, rows, args.new_tokens),
            },
            args.repeats,
        )
        table = [(name, value / args.new_tokens * 1e3, value / seconds["base"]) for name, value in seconds.items()]
        print_table(f"Channel, {rows} rows, {args.size}", table, ("forward of one token", "ms", "over base"))
    share = rt.reward_channel.num_parameters() / rt.base.num_parameters()
    print(f"\n{rt.reward_channel.num_parameters()} parameters, {share:.2%} of the base.")


def growth(rt, args) -> None:
    """Counts against the formula, and time, as width, depth and prompts grow."""
    settings = [SearchSettings(width, 10, depth) for width, depth in ((1, 0), (2, 0), (2, 1), (2, 2), (3, 1), (3, 2))]
    cases = [(one, prompts) for one in settings for prompts in (1, 4)]
    outputs, first_chunk = {}, {}
    for one, prompts in cases:
        forwards, chunks = [], []
        handle = rt.base.register_forward_hook(lambda *_, forwards=forwards: forwards.append(1))
        outputs[one, prompts] = search(
            rt, prompts, args.new_tokens,
            one, on_chunk=lambda chunk, forwards=forwards, chunks=chunks: chunks.append(len(forwards)),
        )  # fmt: skip
        handle.remove()
        first_chunk[one, prompts] = chunks[0]
    ways = {str(case): lambda case=case: search(rt, case[1], args.new_tokens, case[0]) for case in cases}
    seconds = interleaved(ways, args.repeats, warm_up=False)
    table = []
    for case in cases:
        (one, prompts), out, value = case, outputs[case], seconds[str(case)]
        table.append(
            (
                f"({one.width}, {one.step}, {one.depth})",
                prompts,
                value / args.new_tokens * 1e3,
                out.num_forwards / args.new_tokens,
                f"{out.max_rows} / {one.max_leaves * prompts}",
                f"{first_chunk[case]} / {(one.depth + 1) * one.step + 1}",
            )
        )
    header = (
        "(width, step, depth)",
        "prompts",
        "ms per token and prompt batch",
        "forwards per token",
        "rows / formula",
        "first chunk after forwards / formula",
    )
    print_table(f"Growth, {args.size}", table, header)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="demo")
    parser.add_argument("--new-tokens", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=("published", "channel", "growth"))
    args = parser.parse_args()
    rt = build(args.size)
    print(f"{rt.base.num_parameters() / 1e6:.1f}M parameters, {rt.base.dtype}")
    for name, run in {"published": published, "channel": channel, "growth": growth}.items():
        if args.only in (None, name):
            run(rt, args)


if __name__ == "__main__":
    main()

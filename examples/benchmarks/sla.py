"""
Cost of look-ahead search, as ratios in one run: `python examples/benchmarks/sla.py --size 0.5b`.

Random weights in bfloat16: the cost does not depend on their values. EOS is never sampled, so all runs have the same
length.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

import torch
from interleaved import print_table
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
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}  # with one thread on a busy machine: cpu
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


def stepper(model, rows: int, **kwargs) -> Callable[[], object]:
    """Return a function that reads one more token with its own cache in each call: the lower bound of any decoding."""
    cache, token = DynamicCache(config=model.config), torch.full((rows, 1), 5)
    shared = dict(past_key_values=cache, use_cache=True, logits_to_keep=1, **kwargs)
    with torch.no_grad():
        model(prompt_of(rows), **shared)
    return torch.no_grad()(lambda: model(token, **shared))


def decode_steps(model, rows: int, steps: int) -> None:
    step = stepper(model, rows)
    for _ in range(steps):
        step()


def step_times(base, ways: dict, args, first: int) -> tuple[dict[str, float], dict[str, float]]:
    """
    Measure median seconds from one forward of the base to the next, starting at number `first`, and of the whole run.

    The methods are interleaved. A median over single steps is robust against a cold start and other load on the
    machine.
    """
    clock, starts = CLOCKS[args.clock], []
    handle = base.register_forward_pre_hook(lambda *_: starts.append(clock()))
    steps: dict[str, list[float]] = {name: [] for name in ways}
    wholes: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.repeats):
        for name, run in ways.items():
            starts.clear()
            began = clock()
            run()
            wholes[name].append(clock() - began)
            steps[name] += [after - before for before, after in itertools.pairwise(starts[first:])]
    handle.remove()
    return tuple({name: statistics.median(own) for name, own in times.items()} for times in (steps, wholes))


def published(rt, args) -> None:
    rows, new = PUBLISHED.max_leaves, args.new_tokens
    first = (PUBLISHED.depth + 1) * PUBLISHED.step + 1  # the tree is full from this step on
    ways = {
        "greedy, 1 row": lambda: greedy(rt.base, 1, new),
        f"greedy, {rows} rows": lambda: greedy(rt.base, rows, new),
        "search (2, 10, 2)": lambda: search(rt, 1, new),
        "bare forwards, 1 row": lambda: decode_steps(rt.base, 1, new),
        f"bare forwards, {rows} rows": lambda: decode_steps(rt.base, rows, new),
    }
    steps, wholes = step_times(rt.base, ways, args, first)
    if args.size == "demo":  # two forwards per token, of 8 rows and of 1
        ways = {"search by logits processor": lambda: searched_by_processor(rt, new)}
        wholes.update(step_times(rt.base, ways, args, first)[1])
        steps["search by logits processor"] = wholes["search by logits processor"] / new
    one, many = steps["greedy, 1 row"], steps[f"greedy, {rows} rows"]
    table = [(name, own * 1e3, own / one, own / many, wholes[name]) for name, own in steps.items()]
    header = ("tree full", "ms per token", "over greedy, 1 row", f"over greedy, {rows} rows", f"s for {new} tokens")
    print_table(f"The published setting, {args.size}", table, header)
    floor = steps[f"bare forwards, {rows} rows"] / steps["bare forwards, 1 row"]
    print(f"\nFloor: a forward of {rows} rows takes {floor:.3f} times that of 1.")


def channel(rt, args) -> None:
    clock = CLOCKS[args.clock]
    for rows in (1, PUBLISHED.max_leaves):
        ways = {
            "base": stepper(rt.base, rows),
            "base with all hidden states": stepper(rt.base, rows, output_hidden_states=True),
            "with channel": stepper(rt, rows),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(8 * args.repeats):  # interleaved by forward
            for name, step in ways.items():
                began = clock()
                step()
                seconds[name].append(clock() - began)
        medians = {name: statistics.median(own) for name, own in seconds.items()}
        table = [(name, own * 1e3, own / medians["base"]) for name, own in medians.items()]
        print_table(f"Channel, {rows} rows, {args.size}", table, ("forward of one token", "ms", "over base"))
    share = rt.reward_channel.num_parameters() / rt.base.num_parameters()
    print(f"\n{rt.reward_channel.num_parameters()} parameters, {share:.2%} of the base.")


def budgets(rt, args) -> None:
    """Check that a search ends with its budget, and returns the answer so far."""
    started = time.perf_counter()
    whole = search(rt, 1, args.new_tokens)
    seconds = time.perf_counter() - started
    table = [("none", whole.num_row_tokens, seconds, args.new_tokens)]
    for budget in (dict(token_budget=whole.num_row_tokens // 2), dict(max_time=seconds / 2)):
        started = time.perf_counter()
        out = search(rt, 1, args.new_tokens, **budget)
        (name, value), length = *budget.items(), out.sequences.shape[1] - prompt_of(1).shape[1]
        table.append((f"{name} = {value:.3g}", out.num_row_tokens, time.perf_counter() - started, length))
    print_table(f"Budgets, {args.size}", table, ("budget", "leaf-tokens read", "seconds", "tokens of the answer"))


def leaf_tokens(settings: SearchSettings, prompts: int, new_tokens: int) -> int:
    """Return the number of tokens read after the prompt: one per leaf, for all tokens but the last."""
    chunks = [token // settings.step for token in range(new_tokens - 1)]
    return prompts * sum(settings.width ** min(chunk, settings.depth + 1) for chunk in chunks)


def growth(rt, args) -> None:
    """Compare counts with the formula, and measure time, for growing width, depth and number of prompts."""
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
    _, seconds = step_times(rt.base, ways, args, first=0)
    table = []
    for case in cases:
        (one, prompts), out, value = case, outputs[case], seconds[str(case)]
        table.append(
            (
                f"({one.width}, {one.step}, {one.depth})",
                prompts,
                value / args.new_tokens * 1e3,
                f"{out.num_forwards} / {args.new_tokens}",
                f"{out.max_rows} / {one.max_leaves * prompts}",
                f"{out.num_row_tokens} / {leaf_tokens(one, prompts, args.new_tokens)}",
                f"{first_chunk[case]} / {(one.depth + 1) * one.step + 1}",
            )
        )
    header = (
        "(width, step, depth)",
        "prompts",
        "ms per token and prompt batch",
        "forwards / formula",
        "most rows, also of the cache / formula",
        "leaf-tokens / formula",
        "first chunk after forwards / formula",
    )
    print_table(f"Growth, {args.size}", table, header)


RUNS = {"published": published, "channel": channel, "growth": growth, "budgets": budgets}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="demo")
    parser.add_argument("--new-tokens", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS))
    args = parser.parse_args(arguments)
    rt = build(args.size)
    print(f"{rt.base.num_parameters() / 1e6:.1f}M parameters, {rt.base.dtype}")
    for name in args.only:
        RUNS[name](rt, args)


if __name__ == "__main__":
    main()

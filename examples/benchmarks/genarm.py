"""
Cost of guided decoding, as ratios in one run: `python examples/benchmarks/genarm.py --size 0.5b`.

Random weights in bfloat16 (`--dtype`): the cost does not depend on their values. EOS never ends a row, so all runs of a
table generate the same number of tokens.
"""

import argparse
import copy
import subprocess
import sys

import torch
from interleaved import interleaved, print_table
from peft import LoraConfig, get_peft_model
from resident import peak_resident
from transformers import LlamaConfig, LlamaForCausalLM, set_seed

from hf_reward_ext import GenARMLogitsProcessor, GuidedCausalLM

# hidden, intermediate, layers, heads, key/value heads, vocabulary: base, its guide, and a guide of a tenth.
SIZES = {
    "demo": ((128, 336, 3, 4, 4, 128), (64, 168, 2, 4, 4, 128), (40, 104, 2, 4, 4, 128)),
    "0.5b": ((1024, 4864, 24, 16, 4, 32000), (512, 2432, 12, 8, 4, 32000), (448, 1408, 8, 8, 4, 32000)),
}


def build(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> LlamaForCausalLM:
    hidden, intermediate, layers, heads, kv_heads, vocab = shape
    set_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab, hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, max_position_embeddings=4096, bos_token_id=1,
        eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    torch.set_default_dtype(dtype)  # a model built in float32 first would determine the peak memory
    try:
        return LlamaForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(torch.float32)


def prompt(rows: int, length: int = 16) -> torch.Tensor:
    return torch.randint(3, 100, (rows, length), generator=torch.Generator().manual_seed(0))


def write(model, ids: torch.Tensor, tokens: int, **kwargs) -> torch.Tensor:
    return model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False, **kwargs)


def processor_cost(base, guide, rows: int, tokens: int, repeats: int) -> tuple[float, float, float, float]:
    """Measure milliseconds per step of policy, guide, and both with the processor, and the ratio to the sum."""
    ids, processor = prompt(rows), GenARMLogitsProcessor(guide)
    seconds = interleaved(
        {
            "base": lambda: write(base, ids, tokens),
            "guide": lambda: write(guide, ids, tokens),
            "both": lambda: write(base, ids, tokens, logits_processor=[processor]),
        },
        repeats,
    )
    alone = seconds["base"] + seconds["guide"]
    per_step = [1000 * seconds[name] / tokens for name in ("base", "guide", "both")]
    return per_step[0], per_step[1], per_step[2], seconds["both"] / alone


def processor(args, base, guide) -> None:
    row = processor_cost(base, guide, 1, args.new_tokens, args.repeats)
    header = ("batch", "base (ms/token)", "guide (ms/token)", "guided (ms/token)", "over base + guide")
    print_table(f"(a) Processor, {args.size}", [(1, *row)], header)


def adapters(args, base) -> None:
    config = LoraConfig(r=8, target_modules="all-linear", init_lora_weights=False)
    ids = prompt(1)
    model = get_peft_model(copy.deepcopy(base), config, adapter_name="one", autocast_adapter_dtype=False)
    model.add_adapter("two", config, autocast_adapter_dtype=False)
    model.eval()
    guided = {names: GuidedCausalLM.from_peft(model, names.split(" + ")) for names in ("one", "one + two")}
    seconds = interleaved(
        {
            "base alone": lambda: write(base, ids, args.new_tokens),
            **{f"from_peft, {names}": lambda m=m: write(m, ids, args.new_tokens) for names, m in guided.items()},
        },
        args.repeats,
    )
    rows = [(n, 1000 * s / args.new_tokens, s / seconds["base alone"]) for n, s in seconds.items()]
    print_table(f"(b) Adapters on one copy of the weights, batch 1, {args.size}", rows, ("way", "ms/token", "ratio"))


def speculative(args, base, small) -> None:
    """Measure speculative decoding with the guide as draft model; larger weights raise the acceptance rate."""
    ids, draft = prompt(1), 5
    small.generation_config.update(
        num_assistant_tokens=draft, num_assistant_tokens_schedule="constant", assistant_confidence_threshold=0.0
    )
    rows = []
    for alpha in (0.5, 2.0, 8.0, 16.0, 32.0, 64.0, 256.0):
        guided = GuidedCausalLM(base, small, alpha)
        seconds = interleaved(
            {
                "unguided": lambda: write(base, ids, args.new_tokens),
                "plain": lambda guided=guided: write(guided, ids, args.new_tokens),
                "drafted": lambda guided=guided: write(guided, ids, args.new_tokens, assistant_model=small),
            },
            args.repeats,
        )
        rounds = []
        handle = base.register_forward_pre_hook(lambda *_, rounds=rounds: rounds.append(1))
        write(guided, ids, args.new_tokens, assistant_model=small)
        handle.remove()
        count = len(rounds)
        same = same_tokens(base, small, alpha, ids, args.new_tokens)
        accepted = (args.new_tokens - count) / (count * draft)
        speed_up = seconds["plain"] / seconds["drafted"]
        rows.append(
            (alpha, accepted, args.new_tokens / count, speed_up, seconds["unguided"] / seconds["drafted"], same)
        )
    header = (
        "alpha",
        "drafts accepted",
        "tokens per round",
        "over plain guided",
        "over unguided base",
        "same tokens (float64)",
    )
    share = small.num_parameters() / base.num_parameters()
    print_table(f"(c) The guide as its own assistant ({share:.2f} of the base), {args.size}", rows, header)
    costs = round_costs(base, small, draft)
    print(
        f"\nBreak-even: one round costs {draft} draft steps and one forward of {draft + 1} tokens, "
        f"{1000 * costs['round']:.1f} ms; a plain step {1000 * costs['plain']:.1f} ms; so drafting pays from "
        f"{costs['round'] / costs['plain']:.2f} tokens per round."
    )


def same_tokens(base, small, alpha: float, ids: torch.Tensor, tokens: int) -> bool:
    """Compare tokens in float64, because in bfloat16 random weights nearly tie."""
    wide = [copy.deepcopy(model).double() for model in (base, small)]
    guided = GuidedCausalLM(*wide, alpha)
    return torch.equal(write(guided, ids, tokens, assistant_model=wide[1]), write(guided, ids, tokens))


@torch.no_grad()
def round_costs(base, small, draft: int) -> dict[str, float]:
    """Measure seconds of one speculative round and of one plain guided step, with a cache of 64 tokens."""
    guided = GuidedCausalLM(base, small)
    models = {"guided": guided, "small": small}
    caches = {name: model(prompt(1, 64), use_cache=True).past_key_values for name, model in models.items()}

    def step(name: str, tokens: int):
        models[name](prompt(1, tokens), past_key_values=caches[name], use_cache=True)
        caches[name].crop(-tokens)

    def whole_round():
        for _ in range(draft):
            step("small", 1)
        step("guided", draft + 1)

    return interleaved({"round": whole_round, "plain": lambda: step("guided", 1)}, 15)


def tokens_read(args, base, guide) -> None:
    """Count tokens that the guide reads after the prompt, per row and generated token (d)."""
    rows = []
    modes = {"greedy": {}, "4 samples": dict(do_sample=True, num_return_sequences=4), "4 beams": dict(num_beams=4)}
    ids = prompt(2)
    for name, kwargs in modes.items():
        processor = GenARMLogitsProcessor(guide)
        write_kwargs = {"do_sample": False, **kwargs}
        base.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=args.new_tokens, logits_processor=[processor],
            **write_kwargs,
        )  # fmt: skip
        steps = (args.new_tokens - 1) * 2 * (1 if name == "greedy" else 4)
        read = processor.guides[0].num_tokens_read - ids.numel()
        rows.append((name, read, read / steps))
    print_table(f"(d) Guide tokens after the prompt, {args.size}", rows, ("mode", "read", "per row and step"))


def growth(args, base, guide) -> None:
    header = ("batch", "new tokens", "base (ms/step)", "guide (ms/step)", "guided (ms/step)", "over base + guide")
    cases = [(rows, args.new_tokens) for rows in (1, 4, 16)]
    if args.size == "demo":
        cases += [(1, length) for length in (128, 512, 1024)]
    rows = [(*case, *processor_cost(base, guide, *case, args.repeats)) for case in cases]
    print_table(f"(e) As batch and length grow, {args.size}", rows, header)


def memory(args) -> None:
    """Measure the peak resident memory of processes."""
    peaks = {}
    for way in ("nothing", "base", "guide", "both"):
        command = [sys.executable, __file__, "--size", args.size, "--dtype", args.dtype, "--peak", way]
        command += ["--new-tokens", str(args.new_tokens)]
        peaks[way] = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    own = {way: peak - peaks["nothing"] for way, peak in peaks.items()}
    rows = [(own["base"], own["guide"], own["both"], own["both"] / (own["base"] + own["guide"]))]
    header = ("base (MiB)", "guide (MiB)", "guided (MiB)", "over the sum")
    print_table(f"(e) Peak memory above that of the imports, {args.size}", rows, header)


def peak(args, shapes, dtype) -> None:
    if args.peak != "nothing":
        models = {"base": shapes[:1], "guide": shapes[1:2], "both": shapes[:2]}[args.peak]
        base, *guides = (build(shape, dtype) for shape in models)
        write(base, prompt(4), args.new_tokens, logits_processor=[GenARMLogitsProcessor(guides)] if guides else None)
    print(peak_resident())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="demo")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=("processor", "adapters", "speculative", "tokens", "growth", "memory"))
    parser.add_argument("--peak", choices=("nothing", "base", "guide", "both"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    shapes, dtype = SIZES[args.size], getattr(torch, args.dtype)
    if args.peak:
        return peak(args, shapes, dtype)
    base, guide, small = (build(shape, dtype, seed) for seed, shape in enumerate(shapes))
    sizes = ", ".join(f"{model.num_parameters() / 1e6:.1f}M" for model in (base, guide, small))
    print(f"base, guide and small guide: {sizes} parameters, {dtype}")
    parts = {
        "processor": lambda: processor(args, base, guide),
        "speculative": lambda: speculative(args, base, small),
        "tokens": lambda: tokens_read(args, base, guide),
        "growth": lambda: growth(args, base, guide),
        "memory": lambda: memory(args),
        "adapters": lambda: adapters(args, base),
    }
    for name, run in parts.items():
        if args.only in (None, name):
            run()


if __name__ == "__main__":
    main()

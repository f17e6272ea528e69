"""
One conditioned guide beside two guides, on two objectives of the demo's arithmetic:
`python examples/benchmarks/genarm_conditioned_front.py`.

Guides are LoRA adapters of the demo policy, all of the same form. One prefers correct answers, one prefers answers with
fewer `*`, and the conditioned guide learns both from the same pairs, in as many steps as the other two together. Both
ways decode the same problems at the same weights. The hypervolume is the area between the front and the reference
point: no answer right, one `*` per answer. The mean inner product is that of the weights with both objectives, (share
right, minus `*` per answer). Intervals: 95 %, bootstrap over problems, each averaged over the seeds of sampling and
training; differences are paired. An interrupted run resumes with the missing parts.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import transformers
from datasets import Dataset, concatenate_datasets, disable_progress_bars
from genarm_demo import pairs, shunned
from genarm_drafts import processor_seconds
from peft import LoraConfig, get_peft_model

from hf_reward_ext import GenARMConfig, GenARMLogitsProcessor, GenARMTrainer
from hf_reward_ext.demo import arithmetic
from hf_reward_ext.demo.elhsr import prompts_of
from hf_reward_ext.demo.policy import load_policy
from hf_reward_ext.demo.sampling import sample
from hf_reward_ext.evaluation import Estimate, mean_with_interval
from hf_reward_ext.genarm.conditioning import condition_adapter

OBJECTIVES = ("right", "style")
WAYS = ("two guides", "conditioned guide")
REFERENCE = (0.0, -1.0)
HELD_OUT = 100  # pairs of each objective


def adapter_config(args, **kwargs) -> LoraConfig:
    return LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=args.rank, **kwargs)


def data(seed: int, args) -> dict[str, list[dict]]:
    """Sample as many pairs of one objective as of the other."""
    policy, tokenizer = load_policy()
    torch.manual_seed(seed)
    found = sample(
        policy, tokenizer, prompts_of(arithmetic, "train", args.num_train, seed), arithmetic, num_candidates=4,
        prompts_per_batch=100, show_progress=False,
    )  # fmt: skip
    both = (pairs(found, arithmetic.is_correct), pairs(found, lambda _, text: -shunned(text, "arithmetic")))
    count = min(map(len, both))
    return {
        name: [{**row, "objective": name} for row in rows.shuffle(seed=seed).select(range(count))]
        for name, rows in zip(OBJECTIVES, both, strict=True)
    }


def train(rows: dict[str, list[dict]], steps: int, seed: int, args):
    """Train a guide on pairs of one objective, or a conditioned one on several; return it with its metrics."""
    kept, held_out = (
        concatenate_datasets([Dataset.from_list(part[where]) for part in rows.values()])
        for where in (slice(HELD_OUT, None), slice(HELD_OUT))
    )
    policy, tokenizer = load_policy()
    with tempfile.TemporaryDirectory() as scratch:
        config = GenARMConfig(
            scratch, beta=args.beta, learning_rate=args.learning_rate, max_steps=steps, seed=seed,
            per_device_train_batch_size=16, per_device_eval_batch_size=100, activation_checkpointing=False,
            report_to="none", logging_strategy="no", save_strategy="no", disable_tqdm=True, use_cpu=True,
            preference_conditioned=len(rows) > 1,
        )  # fmt: skip
        torch.manual_seed(seed)
        trainer = GenARMTrainer(
            policy, config, train_dataset=kept, eval_dataset=held_out, processing_class=tokenizer,
            peft_config=adapter_config(args),
        )  # fmt: skip
        started = time.process_time()
        trainer.train()
        seconds = time.process_time() - started
        metrics = trainer.evaluate()
    accuracy = {name: metrics.get(f"eval_accuracy/{name}", metrics["eval_accuracy"]) for name in rows}
    return trainer.model.eval(), accuracy, seconds


@torch.no_grad()
def decode(processor: GenARMLogitsProcessor, prompts: list[str], args) -> tuple[list[float], list[float]]:
    """Return the share of right answers and the mean number of `*` of each problem."""
    policy, tokenizer = load_policy()
    torch.manual_seed(0)
    right, count = [], []
    for start in range(0, len(prompts), 100):
        batch = prompts[start : start + 100]
        inputs = tokenizer(batch, return_tensors="pt", padding=True, return_token_type_ids=False)
        out = policy.generate(
            **inputs, max_new_tokens=arithmetic.MAX_NEW_TOKENS, do_sample=True, top_k=0,
            num_return_sequences=args.samples, logits_processor=[processor],
        )  # fmt: skip
        texts = tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        right += [arithmetic.is_correct(batch[number // args.samples], text) for number, text in enumerate(texts)]
        count += [shunned(text, "arithmetic") for text in texts]
    return tuple(np.reshape(values, (len(prompts), -1)).mean(1).tolist() for values in (right, count))  # pyright: ignore


def front(way: str, rows: dict[str, list[dict]], seed: int, args) -> dict:
    """Train one way, and decode at all weights: values of shape (weights, problems)."""
    if way == "two guides":
        trained = [train({name: rows[name]}, args.steps, seed, args) for name in OBJECTIVES]
        processor = GenARMLogitsProcessor([model for model, _, _ in trained], alpha=[0.5, 0.5])
    else:
        trained = [train(rows, 2 * args.steps, seed, args)]
        processor = GenARMLogitsProcessor(trained[0][0], weights=[0.5, 0.5])
    prompts = prompts_of(arithmetic, "test", args.num_test)
    found = []
    for style in np.linspace(0, 1, args.weights).tolist():
        setattr(processor, "alpha" if way == "two guides" else "weights", [1 - style, style])
        found.append(decode(processor, prompts, args))
    return {
        "values": [list(values) for values in zip(*found, strict=True)],
        "accuracy": {name: share for _, accuracy, _ in trained for name, share in accuracy.items()},
        "seconds": sum(seconds for _, _, seconds in trained),
    }


def cost(args) -> dict[str, float]:
    """Measure processor time per token of a batch of 8; it does not depend on the values of the adapters."""
    policy, tokenizer = load_policy()
    plain = get_peft_model(load_policy()[0], adapter_config(args, init_lora_weights=False)).eval()
    other = get_peft_model(load_policy()[0], adapter_config(args, init_lora_weights=False)).eval()
    conditioned = get_peft_model(load_policy()[0], adapter_config(args, init_lora_weights=False)).eval()
    condition_adapter(conditioned, 2)
    inputs = tokenizer(
        prompts_of(arithmetic, "test", 8), return_tensors="pt", padding=True, return_token_type_ids=False
    )
    style = torch.linspace(0, 1, 8)[:, None]
    processors = {
        "policy alone": [],
        "one guide": [GenARMLogitsProcessor(plain)],
        "two guides": [GenARMLogitsProcessor([plain, other])],
        "conditioned guide, shared weights": [GenARMLogitsProcessor(conditioned, weights=[0.3, 0.7])],
        "conditioned guide, weights of rows": [
            GenARMLogitsProcessor(conditioned, weights=torch.cat([1 - style, style], dim=1))
        ],
    }
    ways = {
        name: partial(
            policy.generate, **inputs, max_new_tokens=40, min_new_tokens=40, do_sample=False, logits_processor=one
        )
        for name, one in processors.items()
    }
    torch.set_num_threads(1)
    return {name: 1000 * seconds / 40 for name, seconds in processor_seconds(ways, args.repeats).items()}


def hypervolume(right: np.ndarray, count: np.ndarray) -> float:
    """Return the area that points (share right, minus `*`) dominate above the reference point."""
    area, best = 0.0, REFERENCE[0]
    for share, less in sorted(zip(right.tolist(), (-count).tolist(), strict=True), key=lambda point: -point[1]):
        if less > REFERENCE[1] and share > best:
            area += (share - best) * (less - REFERENCE[1])
            best = share
    return area


def inner_product(right: np.ndarray, count: np.ndarray) -> float:
    style = np.linspace(0, 1, len(right))
    return float(((1 - style) * right - style * count).mean())


def with_interval(measure: Callable, values: dict[str, np.ndarray]) -> dict[str, list[float]]:
    """Return a measure of fronts of shape (seeds, 2, weights, problems) for each way, and the paired difference."""

    def of(fronts: np.ndarray) -> float:
        return float(np.mean([measure(*one) for one in fronts.mean(-1)]))

    rng, drawn = np.random.default_rng(0), []
    problems = next(iter(values.values())).shape[-1]
    for _ in range(1000):
        picked = rng.integers(problems, size=problems)
        drawn.append([of(values[way][..., picked]) for way in WAYS])
    points, draws = [of(values[way]) for way in WAYS], np.array(drawn)
    points.append(points[1] - points[0])
    draws = np.concatenate([draws, draws[:, 1:] - draws[:, :1]], axis=1)
    bounds = np.quantile(draws, [0.025, 0.975], axis=0)
    return {
        name: [points[number], *bounds[:, number].tolist()]
        for number, name in enumerate((*WAYS, "conditioned minus two"))
    }


def summary(parts: dict[str, list[dict]], milliseconds: dict[str, float], args) -> dict:
    values = {way: np.array([one["values"] for one in parts[way]]) for way in WAYS}
    points = [
        {"way": way, "style": style} | {
            name: list(mean_with_interval(values[way][:, kind, number].mean(0)))
            for kind, name in enumerate(("right", "stars"))
        }
        for way in WAYS
        for number, style in enumerate(np.linspace(0, 1, args.weights).tolist())
    ]  # fmt: skip
    return {
        "settings": {name: value for name, value in vars(args).items() if name not in ("output", "seeds")},
        "seeds": len(values[WAYS[0]]),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "hypervolume": with_interval(hypervolume, values)
        | {"by seed": {way: [hypervolume(*one) for one in values[way].mean(-1)] for way in WAYS}},
        "mean inner product": with_interval(inner_product, values),
        "held-out accuracy": {
            way: {name: float(np.mean([one["accuracy"][name] for one in parts[way]])) for name in OBJECTIVES}
            for way in WAYS
        },
        "training seconds": {way: float(np.mean([one["seconds"] for one in parts[way]])) for way in WAYS},
        "milliseconds per token": milliseconds,
        "points": points,
    }


def report(result: dict) -> None:
    print("| weights (right, style) | two guides: right | `*` | conditioned: right | `*` |\n|---|---:|---:|---:|---:|")
    half = len(result["points"]) // 2
    for two, one in zip(result["points"][:half], result["points"][half:], strict=True):
        cells = [str(Estimate(*point[name])) for point in (two, one) for name in ("right", "stars")]
        print(f"| {1 - two['style']:.3g}, {two['style']:.3g} | {' | '.join(cells)} |")
    print("\n| | two guides | conditioned | difference |\n|---|---:|---:|---:|")
    for name in ("hypervolume", "mean inner product"):
        cells = [str(Estimate(*result[name][way])) for way in (*WAYS, "conditioned minus two")]
        print(f"| {name} | {' | '.join(cells)} |")
    for name in ("held-out accuracy", "training seconds", "milliseconds per token"):
        print(f"{name}: {result[name]}")
    print("hypervolume by seed:", result["hypervolume"]["by seed"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("outputs/genarm_conditioned.json"))
    for name, default in (
        ("num-train", 1500), ("num-test", 120), ("samples", 2), ("steps", 100), ("weights", 7), ("seeds", 3),
        ("rank", 8), ("repeats", 3),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--beta", type=float, default=0.3)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    disable_progress_bars()
    settings = json.dumps({name: value for name, value in vars(args).items() if name not in ("output", "seeds")})
    folder = args.output.with_suffix(".parts")
    folder.mkdir(parents=True, exist_ok=True)

    def part(name: str, make: Callable[[], dict]) -> dict:
        """Return a part of a run with the same settings, or make and store it."""
        path = folder / f"{name}.json"
        known = json.loads(path.read_text()) if path.exists() else None
        if known is None or known["settings"] != settings:
            started = time.process_time()
            known = {"settings": settings, "made": make()}
            draft = path.with_suffix(".draft")
            draft.write_text(json.dumps(known))
            draft.rename(path)
            print(f"{name}: {time.process_time() - started:.0f} s of processor time", flush=True)
        return known["made"]

    parts: dict[str, list[dict]] = {way: [] for way in WAYS}
    for seed in range(args.seeds):
        rows = part(f"pairs-{seed}", partial(data, seed, args))
        for way in WAYS:
            parts[way].append(part(f"{way}-{seed}", partial(front, way, rows, seed, args)))
    result = summary(parts, part("cost", partial(cost, args)), args)
    rounded = json.loads(json.dumps(result), parse_float=lambda text: round(float(text), 4))
    args.output.write_text(json.dumps(rounded, separators=(",", ":")) + "\n")
    report(rounded)


if __name__ == "__main__":
    main()

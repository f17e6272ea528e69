"""
The four methods on a real chat model, which learns from its own texts: tables, and English text side by side.

    make demo-llm                                                # SmolLM2-135M-Instruct
    python -m examples.demo_llm --model Qwen/Qwen2.5-0.5B-Instruct --output outputs/qwen

Run from the root of the repository. A run that was interrupted resumes with the same command. Everything is trained on
samples of the model that a program has checked (`examples/tasks/constraints.py`); test topics are different ones.
"""

import argparse
import json
import time
from datetime import date
from pathlib import Path

import torch
import transformers
from rich.console import Console
from rich.table import Table

from examples.demo_llm import best_of_n, guidance, judging, look_ahead
from examples.demo_llm.model import DEFAULT, fastest_dtype, get_model, load_model
from examples.demo_llm.page import TITLES, write_page
from examples.demo_llm.pairs import as_ids, preference_pairs
from examples.demo_llm.sampling import sample
from examples.demo_llm.settings import SMALL, Size, check_settings, keep, settings_of
from examples.tasks.constraints import problems
from hf_reward_ext.base.saving.atomic import replace_text


def run_tour(name: str, dtype: torch.dtype, folder: Path, size: Size, seed: int, settings: dict) -> dict:
    """
    Run every stage that is not finished, and write `results.json` and `index.html`.

    Args:
        name (`str`): Folder or name of a chat model.
        dtype (`torch.dtype`): Type of its weights.
        folder (`Path`): Output folder.
        size ([`Size`]): Numbers of problems and samples.
        seed (`int`): Random seed.
        settings (`dict`): Settings to record with the results.
    """
    policy, tokenizer = load_model(name, dtype)
    counts = {"train": size.num_train, "validation": size.num_validation, "test": size.num_test}
    asked = {split: problems(split, count, seed) for split, count in counts.items()}  # pyright: ignore[reportArgumentType]
    clock = folder / "seconds.json"  # of all runs together, if one was interrupted
    seconds: dict[str, float] = json.loads(clock.read_text(encoding="utf-8")) if clock.exists() else {}

    def timed(label: str, compute):
        started = time.perf_counter()
        value = compute()
        seconds[label] = round(seconds.get(label, 0.0) + time.perf_counter() - started, 1)
        replace_text(clock, json.dumps(seconds) + "\n")
        return value

    def samples_of(split: str):
        return sample(
            policy,
            tokenizer,
            asked[split],
            folder / "samples" / split,
            num_candidates=size.num_samples,
            seed=seed,
            name=f"samples for {split}",
        )

    train, validation = timed("samples", lambda: (samples_of("train"), samples_of("validation")))
    pairs = preference_pairs(train, max(size.num_pairs, size.num_judge_pairs), seed)
    own_pairs = as_ids(pairs[: size.num_pairs])
    head = timed("head", lambda: best_of_n.train_head(policy, tokenizer, train, folder / "elhsr", seed))
    test = timed(
        "candidates",
        lambda: best_of_n.candidates(policy, tokenizer, asked["test"], head, folder / "samples" / "test", size, seed),
    )
    methods = {"elhsr": keep(folder / "elhsr.json", lambda: best_of_n.compare(tokenizer, asked["test"], test))}
    channel = timed("channel", lambda: look_ahead.train_channel(policy, tokenizer, own_pairs, folder / "sla", seed))
    methods["sla"] = keep(
        folder / "sla.json",
        lambda: look_ahead.compare(policy, tokenizer, channel, asked["test"], test, folder / "samples" / "sla"),
    )
    guide = folder / "genarm"
    timed("guide", lambda: guidance.train_guide(name, dtype, own_pairs, guide, seed))
    methods["genarm"] = keep(
        folder / "genarm.json",
        lambda: guidance.compare(name, dtype, asked["test"], guide, folder / "samples" / "genarm", size, seed),
    )
    rows = judging.judge_rows(asked["train"], pairs[: size.num_judge_pairs], seed)
    held_out = judging.judge_rows(asked["validation"], preference_pairs(validation, 100, seed), seed)
    judge = timed("judge", lambda: judging.train_judge(name, dtype, rows, held_out, folder / "fast_slow", seed))
    test_rows = judging.judge_rows(asked["test"], preference_pairs(test, 100, seed), seed)
    methods["fast_slow"] = keep(folder / "fast_slow.json", lambda: judging.compare(judge, test_rows))
    methods["fast_slow"]["num_validation"] = len(held_out)
    seconds |= {f"{label}, comparison": values["seconds"] for label, values in methods.items()}
    report = {
        **settings,
        "date": date.today().isoformat(),
        "versions": f"torch {torch.__version__}, transformers {transformers.__version__}",
        "size": vars(size),
        "threads": torch.get_num_threads(),
        "seconds": seconds,
        "methods": methods,
    }
    replace_text(folder / "results.json", json.dumps(report, indent=1) + "\n")
    write_page(folder, report)
    return report


def show(report: dict) -> None:
    """Print one table per method."""
    for name, title in TITLES.items():
        table = Table(title=title)
        table.add_column("method")
        table.add_column("what it did")
        table.add_column("accuracy [95 %]", justify="right")
        table.add_column("tokens", justify="right")
        for row in report["methods"][name]["rows"]:
            value, lower, upper = row["accuracy"]
            table.add_row(row["method"], row["what"], f"{value:.2f} [{lower:.2f}, {upper:.2f}]", f"{row['tokens']:.0f}")
        Console(width=110).print(table)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT, help="folder or Hub name of a chat model")
    parser.add_argument("--output", type=Path, default=Path("outputs/demo_llm"))
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="default: the faster one on this machine")
    parser.add_argument("--small", action="store_true", help="a few problems only, to try the code")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    size = SMALL if args.small else Size()
    kept = args.output / "settings.json"
    if args.dtype is None and kept.exists():
        args.dtype = json.loads(kept.read_text(encoding="utf-8"))["dtype"]  # of the run that is resumed
    dtype = getattr(torch, args.dtype) if args.dtype else fastest_dtype()
    name = get_model(args.model, args.output / "model")
    settings = settings_of(args.model, dtype, size, args.seed)
    check_settings(args.output, settings)
    started = time.perf_counter()
    report = run_tour(name, dtype, args.output, size, args.seed, settings)
    show(report)
    print(f"{time.perf_counter() - started:.0f} s. Open {args.output / 'index.html'} in a browser.")


if __name__ == "__main__":
    main()

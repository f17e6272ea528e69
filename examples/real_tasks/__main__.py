"""
Each method on real tasks with controls, intervals and three seeds: the tables of docs/real_tasks.md.

    python -m examples.real_tasks constraints --output outputs/real_tasks       # SmolLM2 writes and is checked
    python -m examples.real_tasks preference --data DATA                        # pairs of HH-RLHF
    python -m examples.real_tasks transfer --data DATA                          # LLMBar, judges of `constraints`
    python -m examples.real_tasks gsm8k --data DATA --model Qwen/Qwen2.5-0.5B-Instruct

`DATA` has `hh-rlhf/helpful_base_test.jsonl.gz`, `gsm8k/{train,test}.jsonl.gz` and `llmbar/llmbar.jsonl.gz`. Every
stage is kept in the output folder, and an interrupted run resumes. `--only` runs some stages of a part. Results are in
`PART-STAGE.json`; `python -m examples.real_tasks.report` makes the tables.
"""

import argparse
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
import transformers

from examples.demo_llm.model import DEFAULT, fastest_dtype, get_model, load_model
from examples.demo_llm.settings import keep
from examples.real_tasks import best_of_n, gsm8k, guidance, heads, judging, pool, preference, search, spending, staged
from examples.real_tasks.sizes import SMALL, Size


def stages(
    part: str, name: str, dtype: torch.dtype, output: Path, data: Path | None, size: Size
) -> dict[str, Callable]:
    """Return the stages of a part in order, as functions that return a result."""
    policy, tokenizer = load_model(name, dtype)
    arguments = (policy, tokenizer, name, dtype)
    folder = output / part
    if part == "transfer":
        return {"llmbar": lambda: judging.transfer(output / "constraints/fast_slow", _given(data), size)}
    if part == "preference":
        splits = preference.read(tokenizer, _given(data), size)
        return {
            "pairs": lambda: preference.compare(*arguments, splits, folder, size),
            "win_rate": lambda: preference.win_rates(*arguments, splits, folder, size),
        }
    if part == "gsm8k":
        return {"elhsr": lambda: gsm8k.compare(*arguments, _given(data), folder, size)}
    drawn = pool.draw(policy, tokenizer, folder / "samples", size)
    return {
        "elhsr": lambda: best_of_n.compare(*arguments, drawn, folder / "elhsr", size),
        "heads": lambda: heads.compare(policy, tokenizer, drawn, folder / "elhsr", size),
        "spending": lambda: spending.compare(tokenizer, drawn, folder / "elhsr", size),
        "staged": lambda: staged.compare(policy, tokenizer, drawn, folder / "elhsr", size),
        "genarm": lambda: guidance.compare(*arguments, drawn, folder / "genarm", size),
        "fast_slow": lambda: judging.compare(*arguments, drawn, folder / "fast_slow", size),
        "sla": lambda: search.compare(*arguments, drawn, folder / "sla", size),
    }


def _given(data: Path | None) -> Path:
    if data is None:
        raise SystemExit("`--data` must be the folder of the data sets for this part. Pass it.")
    return data


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("constraints", "preference", "transfer", "gsm8k"))
    parser.add_argument("--only", nargs="+", help="stages to run; default: all")
    parser.add_argument("--model", default=DEFAULT, help="folder or Hub name of a chat model")
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--output", type=Path, default=Path("outputs/real_tasks"))
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="default: the faster one on this machine")
    parser.add_argument("--small", action="store_true", help="a few problems only, to try the code")
    args = parser.parse_args(arguments)
    dtype = getattr(torch, args.dtype) if args.dtype else fastest_dtype()
    args.output.mkdir(parents=True, exist_ok=True)
    name = get_model(args.model, args.output / "model")
    about = {
        "model": args.model if args.model == DEFAULT else Path(args.model).name,
        "dtype": str(dtype).removeprefix("torch."),
        "date": date.today().isoformat(),
        "versions": f"torch {torch.__version__}, transformers {transformers.__version__}",
        "threads": torch.get_num_threads(),
    }
    size = SMALL if args.small else Size()
    for stage, run in stages(args.part, name, dtype, args.output, args.data, size).items():
        if args.only and stage not in args.only:
            continue
        started = time.process_time()

        def with_settings(run=run, started=started) -> dict:
            found = run()
            return {**about, **found, "cpu_seconds": round(time.process_time() - started, 1)}

        found = keep(args.output / f"{args.part}-{stage}.json", with_settings)
        for row in found["rows"]:
            value, lower, upper = row["accuracy"]
            print(f"{row['method']:24} {row['what']:50} {value:.3f} [{lower:.3f}, {upper:.3f}] {row.get('tokens', '')}")


if __name__ == "__main__":
    main()

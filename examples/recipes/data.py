"""
Rows of the Hub's data sets that the recipes read, in the columns of `hf-reward-ext`.

    python -m examples.recipes.data math --output outputs/data        # MATH: problems to sample from
    python -m examples.recipes.data chat --output outputs/data        # pairs, and prompts of three chat sets
    python -m examples.recipes.data judgments --output outputs/data   # pairs with written judgments of a model
"""

import argparse
import json
from functools import cache
from pathlib import Path

from datasets import Dataset, load_dataset

from hf_reward_ext.base.saving.atomic import replace_text
from hf_reward_ext.cli.models import load_causal_lm, load_tokenizer, on_device
from hf_reward_ext.cli.options import LoadingOptions
from hf_reward_ext.fast_slow import FastSlowRewardModel, JudgeTemplate, sample_judgments

MATH = "zwhe99/MATH"  # splits train and math500
ALPACA_EVAL = "hf://datasets/tatsu-lab/alpaca_eval/alpaca_eval.json"
CHAT_PAIRS = "princeton-nlp/llama3-ultrafeedback-armorm"
JUDGE_PAIRS = "Skywork/Skywork-Reward-Preference-80K-v0.2"
TEMPLATE = Path(__file__).parent / "fast_slow/template.json"


def math_prompt(problem: str) -> list[dict]:
    """Return a problem of MATH as a chat."""
    text = f"Solve the problem step by step, and put the final answer in \\boxed{{}}.\n\n{problem}"
    return [{"role": "user", "content": text}]


def is_right(prompt: list[dict], completion: str) -> bool:
    """Return whether the answer of a completion equals that of MATH; needs `pip install math-verify`."""
    from math_verify import parse as read  # not TRL's accuracy_reward, which does not read `\frac12`
    from math_verify import verify

    answer = _answers()[prompt[-1]["content"]]
    return verify(read(f"\\boxed{{{answer}}}"), read(completion))


@cache
def _answers() -> dict[str, str]:
    rows = [row for split in ("train", "math500") for row in load_dataset(MATH, split=split)]
    return {math_prompt(row["problem"])[0]["content"]: row["expected_answer"] for row in rows}


def write_math(folder: Path) -> None:
    """Write 6,000 training problems, and MATH-500, as `{prompt}`."""
    for split, name, count in (("train", "train", 6000), ("math500", "test", 500)):
        rows = load_dataset(MATH, split=split).shuffle(seed=0).select(range(count))
        _write(folder / f"{name}.jsonl", [{"prompt": math_prompt(row["problem"])} for row in rows])


def write_chat(folder: Path) -> None:
    """Write `{chosen, rejected}`, and first turns of MT-Bench, Arena-Hard 0.1 and AlpacaEval as `{prompt, subset}`."""
    pairs = load_dataset(CHAT_PAIRS, split="train").select_columns(["chosen", "rejected"])
    _write(folder / "pairs/train.jsonl", pairs)
    texts = {
        "MT-Bench": [row["prompt"][0] for row in load_dataset("HuggingFaceH4/mt_bench_prompts", split="train")],
        "Arena-Hard": [
            row["turns"][0]["content"] for row in load_dataset("lmarena-ai/arena-hard-auto-v0.1", split="train")
        ],
        "AlpacaEval": [
            row["instruction"] for row in load_dataset("json", data_files={"eval": ALPACA_EVAL}, split="eval")
        ],
    }
    rows = [
        {"prompt": [{"role": "user", "content": text}], "subset": subset}
        for subset, prompts in texts.items()
        for text in prompts
    ]
    _write(folder / "prompts.jsonl", rows)


def write_judgments(folder: Path, model: str, num_pairs: int) -> None:
    """Write `{chosen, rejected, judgments}`, with judgments sampled from a model; those of held-out pairs are empty."""
    settings = LoadingOptions(dtype="bfloat16")
    template = JudgeTemplate.from_dict(json.loads(TEMPLATE.read_text(encoding="utf-8")))
    causal_lm = load_causal_lm(model, dtype=settings.dtype)
    judge = on_device(FastSlowRewardModel(causal_lm, load_tokenizer(model), ("A", "B"), template=template), settings)
    rows = load_dataset(JUDGE_PAIRS, split="train").select_columns(["chosen", "rejected"]).shuffle(seed=0)
    parts = {"train": range(num_pairs), "validation": range(num_pairs, num_pairs + num_pairs // 20)}
    pairs = {name: rows.select(numbers) for name, numbers in parts.items()}
    _write(folder / "train.jsonl", sample_judgments(judge, pairs["train"], num_samples=4))
    _write(folder / "validation.jsonl", [{**row, "judgments": []} for row in pairs["validation"]])


def _write(path: Path, rows: list[dict] | Dataset) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    print(f"{len(rows)} rows in {path}")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("math", "chat", "judgments"))
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--model", help="with judgments: causal LM that writes them")
    parser.add_argument("--num-pairs", type=int, default=20000, help="with judgments: number of training pairs")
    args = parser.parse_args(arguments)
    if (args.what == "judgments") != bool(args.model):
        parser.error("--model must be given with judgments only.")
    return args


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    if args.what == "judgments":
        write_judgments(args.output, args.model, args.num_pairs)
    else:
        {"math": write_math, "chat": write_chat}[args.what](args.output)


if __name__ == "__main__":
    main()

"""
Evaluation of a reward model on preference pairs or a benchmark, with all forms of the result.

    python examples/evaluate_reward_model.py                                   # an ELHSR head of the demo policy
    python examples/evaluate_reward_model.py --model Skywork/Skywork-Reward-V2-Qwen3-0.6B \
        --data allenai/reward-bench-2 --split test --format rewardbench
    python examples/evaluate_reward_model.py --model reward-model --data pairs.jsonl --add-to-card
"""

import argparse
import json
from pathlib import Path

import numpy as np
from datasets import Dataset, load_dataset

from hf_reward_ext import ELHSRForSequenceClassification, evaluate_best_of_n, evaluate_preferences
from hf_reward_ext.demo import arithmetic
from hf_reward_ext.demo.elhsr import TEMPERATURE, prompts_of, rollouts_of, train_head
from hf_reward_ext.demo.policy import load_policy
from hf_reward_ext.demo.sampling import sample
from hf_reward_ext.evaluation import add_to_model_card


def demo(output: Path, num_labels: int, num_test: int) -> tuple:
    """Return a head with its policy, tokenizer, labeled candidates of held-out problems, and pairs of them."""
    policy, tokenizer = load_policy()
    head, _ = train_head(policy, tokenizer, rollouts_of(policy, tokenizer, arithmetic, num_labels).rows, output)
    prompts = prompts_of(arithmetic, "test", num_test)
    tests = sample(policy, tokenizer, prompts, arithmetic, num_candidates=8, temperature=TEMPERATURE)
    groups = zip(tests.prompts, tests.completions, tests.correct.astype(int).tolist(), strict=True)
    rows = [{"prompt": prompt, "completions": texts, "labels": labels} for prompt, texts, labels in groups]
    pairs = [
        {"prompt": row["prompt"], "chosen": row["completions"][np.argmax(row["labels"])],
         "rejected": row["completions"][np.argmin(row["labels"])]}
        for row in rows if 0 < sum(row["labels"]) < 8
    ]  # fmt: skip
    return ELHSRForSequenceClassification(policy, head), tokenizer, rows, pairs


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="name or folder of a reward model; default: a head of the demo policy")
    parser.add_argument("--data", help="JSON lines, or the name of a dataset")
    parser.add_argument("--split", default="train")
    parser.add_argument("--format", default="preference")
    parser.add_argument("--add-to-card", action="store_true", help="add the result to the card in the folder")
    parser.add_argument("--num-labels", type=int, default=2000, help="number of labels of the demo head")
    parser.add_argument("--num-test", type=int, default=300, help="number of problems of the demo")
    parser.add_argument("--output", default="outputs/evaluation")
    args = parser.parse_args(arguments)
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    if args.model:
        is_file = args.data.endswith((".json", ".jsonl"))
        kwargs = {"path": "json", "data_files": args.data} if is_file else {"path": args.data}
        result = evaluate_preferences(args.model, load_dataset(**kwargs, split=args.split), args.format)
    else:
        scorer, tokenizer, rows, pairs = demo(output / "head", args.num_labels, args.num_test)
        result = evaluate_preferences(scorer, Dataset.from_list(pairs), tokenizer=tokenizer, batch_size=64)
        settings: dict = dict(tokenizer=tokenizer, extract_answer=arithmetic.extract_answer, ks=[1, 2, 4, 8])
        curves = evaluate_best_of_n(scorer, rows, batch_size=64, **settings)
        print(curves.to_markdown())
        curves.plot(output / "best_of_n.png")
    print(result.to_markdown())
    calibration = result.calibration()
    print(
        f"calibration error {calibration.ece:.3f}, by chance {calibration.chance:.3f}; T {calibration.temperature:.2f}"
    )
    calibration.plot(output / "reliability.png")
    result.plot(output / "accuracy.png")
    (output / "result.json").write_text(json.dumps(result.to_dict(), indent=1))
    if args.add_to_card:
        add_to_model_card(args.model, result.to_eval_results(args.data, args.data, args.split))


if __name__ == "__main__":
    main()

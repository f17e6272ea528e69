"""
Preference rows by best of N with Ray Data, on workers of this machine or of a cluster.

    pip install ray
    python examples/ray_best_of_n.py --workers 2                         # prompts of the demo
    python examples/ray_best_of_n.py --data day-*.jsonl --model Qwen/Qwen3-0.6B --reward-model org/reward-model \
        --address auto --workers 16 --gpus-per-worker 1

Each file of rows with a `prompt` becomes a folder of JSON lines; the same call resumes.
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

import hf_reward_ext  # noqa: F401  registers the pipeline "reward-bon"
from hf_reward_ext.best_of_n import preference_rows
from hf_reward_ext.demo import arithmetic
from hf_reward_ext.demo.policy import load_policy


def correct(prompts: list[str], completions: list[str]) -> list[float]:
    """Return 1 for right solutions of the demo's problems."""
    return [float(arithmetic.is_correct(*row)) for row in zip(prompts, completions, strict=True)]


class BestOfN:
    """Worker with a policy and a reward, from rows with prompts to preference rows."""

    def __init__(self, model: str | None, reward_model: str | None, num_candidates: int, max_new_tokens: int):
        policy, tokenizer = load_policy()
        if model is not None:
            policy, tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
        self.pipe = pipeline(
            "reward-bon", model=policy, tokenizer=tokenizer, reward_model=reward_model or correct, return_all=True,
            candidates_per_batch="auto", seed=0, num_candidates=num_candidates, max_new_tokens=max_new_tokens,
        )  # fmt: skip

    def __call__(self, batch: dict[str, Any]) -> dict[str, list]:
        prompts = [one if isinstance(one, str) else list(one) for one in batch["prompt"]]
        groups = self.pipe(prompts, batch_size=len(prompts))
        rows = [row for one in zip(prompts, groups, strict=True) for row in preference_rows(*one)]
        return {name: [row[name] for row in rows] for name in ("prompt", "chosen", "rejected", "margin")}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="*", type=Path, help="JSON lines with a column `prompt`")
    for name in ("--model", "--reward-model", "--address"):
        parser.add_argument(name, help="default: that of the demo, on this machine")
    for name, number in (("--workers", 2), ("--num-candidates", 16), ("--max-new-tokens", arithmetic.MAX_NEW_TOKENS)):
        parser.add_argument(name, type=int, default=number)
    parser.add_argument("--gpus-per-worker", type=float, default=0)
    parser.add_argument("--output", type=Path, default=Path("outputs/ray"))
    args = parser.parse_args(arguments)
    import ray  # not needed by a worker

    args.output.mkdir(parents=True, exist_ok=True)
    if not args.data:
        args.data = [args.output / "demo.jsonl"]
        Dataset.from_list([{"prompt": one.prompt} for one in arithmetic.problems("dev")[:32]]).to_json(args.data[0])
    ray.init(address=args.address, num_cpus=None if args.address else args.workers + 1)  # one to read and write
    for file in args.data:
        folder = (args.output / file.stem).absolute()
        if not folder.exists():
            shutil.rmtree(f"{folder}.part", ignore_errors=True)  # of an interrupted run
            ray.data.read_json(str(file.absolute())).map_batches(
                BestOfN, batch_size=8, concurrency=args.workers, num_gpus=args.gpus_per_worker,
                fn_constructor_args=(args.model, args.reward_model, args.num_candidates, args.max_new_tokens),
            ).write_json(f"{folder}.part")  # fmt: skip
            Path(f"{folder}.part").rename(folder)


if __name__ == "__main__":
    main()

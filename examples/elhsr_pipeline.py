"""
Best of N with an ELHSR head.

    python examples/elhsr_train.py && python examples/elhsr_pipeline.py
    python examples/elhsr_pipeline.py --policy Qwen/Qwen3-0.6B --head outputs/elhsr-head --prompt "What is 7 * 8?"
"""

import argparse

from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

from hf_reward_ext import Pruning
from hf_reward_ext.demo.policy import load_policy


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", help="name or folder of a causal LM; default: the demo policy")
    parser.add_argument("--head", default="outputs/elhsr-head")
    parser.add_argument("--prompt", nargs="+", default=["6 1 3 3=12|", "4 7 2 5=1|"])
    parser.add_argument("--num-candidates", type=int, default=16)
    parser.add_argument("--max-new-tokens", type=int, default=40)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument(
        "--prune-at", nargs="+", type=int, help="completion lengths at which half of the candidates are stopped"
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    if args.policy:
        policy = AutoModelForCausalLM.from_pretrained(args.policy, dtype="auto", device_map="auto")
        tokenizer = AutoTokenizer.from_pretrained(args.policy)
    else:
        policy, tokenizer = load_policy()
    best_of_n = pipeline("reward-bon", model=policy, tokenizer=tokenizer, reward_model=args.head)
    answers = best_of_n(
        args.prompt,
        num_candidates=args.num_candidates,
        max_new_tokens=args.max_new_tokens,
        do_sample=True,
        temperature=args.temperature,
        prune=Pruning(tuple(args.prune_at)) if args.prune_at else None,
        return_all=True,
        seed=args.seed,
    )
    for candidates in answers:
        best = candidates[0]
        probability = f", probability {best['probability']:.2f}" if "probability" in best else ""
        tokens = sum(candidate["num_tokens"] for candidate in candidates)
        print(f"{best['generated_text']}   reward {best['score']:.2f}{probability}; {tokens} tokens in all")


if __name__ == "__main__":
    main()

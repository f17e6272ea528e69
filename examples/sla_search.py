"""
Look-ahead search with a reward channel: streaming of confirmed chunks, and a drawing of the search tree.

    python examples/sla_train.py && python examples/sla_search.py
    python examples/sla_search.py --policy Qwen/Qwen3-0.6B --channel outputs/sla-channel --prompt "Once upon a time"
"""

import argparse

from rich.console import Console
from rich.tree import Tree
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_reward_ext.demo.policy import load_policy
from hf_reward_ext.sla import RewardTransformer, sla_generate


def draw(node: dict, tokenizer, branch: Tree | None = None) -> Tree:
    """Draw the tree: confirmed chunks are green, finished ones end with a square, and each has its mean reward."""
    color = "green" if node["is_confirmed"] else "dim"
    text = tokenizer.decode(node["tokens"], skip_special_tokens=True)
    label = f"[{color}]{text!r} {node['score']:+.2f}{' ■' if node['is_finished'] else ''}[/{color}]"
    branch = Tree(label) if branch is None else branch.add(label)
    for child in node["children"]:
        draw(child, tokenizer, branch)
    return branch


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", help="name or folder of a causal LM; default: the demo policy")
    parser.add_argument("--channel", default="outputs/sla-channel")
    parser.add_argument("--prompt", default="w18 4 2 9 1 5 3|")
    parser.add_argument("--width", type=int, default=2)
    parser.add_argument("--step", type=int, default=4)
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--max-new-tokens", type=int, default=26)
    args = parser.parse_args(arguments)
    if args.policy:
        policy = AutoModelForCausalLM.from_pretrained(args.policy, dtype="auto", device_map="auto")
        tokenizer = AutoTokenizer.from_pretrained(args.policy)
    else:
        policy, tokenizer = load_policy()
    rt = RewardTransformer.from_pretrained(args.channel, base=policy)
    inputs = tokenizer(args.prompt, return_tensors="pt", return_token_type_ids=False).to(policy.device)
    console = Console()
    out = rt.generate(
        **inputs,
        custom_generate=sla_generate,
        width=args.width,
        step=args.step,
        depth=args.depth,
        max_new_tokens=args.max_new_tokens,
        on_chunk=lambda chunk: console.print(f"confirmed: {tokenizer.decode(chunk, skip_special_tokens=True)!r}"),
        return_tree=True,
    )
    console.print(draw(out.trees[0], tokenizer))
    console.print(
        f"{out.num_forwards} forwards of at most {out.max_rows} rows, mean reward {out.rewards[0].item():.2f}"
    )


if __name__ == "__main__":
    main()

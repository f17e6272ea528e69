"""
Speed ratios of the four methods on a real chat model, beside the same architecture with random weights.

    python examples/benchmarks/real_models.py FOLDER --dtype float32 --new-tokens 24

EOS never ends a row, so all runs of a table have the same length. The tables are those of the other benchmarks.
"""

import argparse
import copy
from pathlib import Path
from types import SimpleNamespace

import elhsr
import fast_slow
import genarm
import sla
import torch
from interleaved import print_table
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from hf_reward_ext.fast_slow import FastSlowRewardModel, JudgeTemplate
from hf_reward_ext.sla import RewardTransformer

BATCHES = (1, 8)
TEMPLATE = JudgeTemplate(
    user="Is the response good? Answer Yes or No.\n\n{prompt}\n\nResponse: {response_a}",
    analysis_prefix=".",
    final_marker=" Final:",
)


def load(folder: str, dtype: torch.dtype, is_random: bool):
    """Return the model, or one of its architecture with random weights, whose rows never end."""
    if is_random:
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).to(dtype).eval()
    else:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model


def guided(model, args) -> None:
    """Print the cost of a guide of the same size, and of an adapter."""
    guide = copy.deepcopy(model)
    rows = [(rows, *genarm.processor_cost(model, guide, rows, args.new_tokens, args.repeats)) for rows in BATCHES]
    header = ("batch", "base (ms/token)", "guide (ms/token)", "guided (ms/token)", "over base + guide")
    print_table(f"GenARM, a guide of the same size, {args.size}", rows, header)
    genarm.adapters(args, model)


def judged(model, tokenizer, args) -> None:
    """Print the time of a fast verdict over that of a plain forward."""
    judge = FastSlowRewardModel(model, tokenizer, ["Yes", "No"], template=TEMPLATE, batch_size=8)
    texts = [f"Write a sentence about the number {number}." for number in range(8)]
    inputs = (texts, ["It is a number, and people like it. " * 4] * 8, ["Numbers are quiet. " * 8] * 8)
    fast_slow.print_fast_path(judge, inputs, args.repeats, args.size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or Hub name of a chat model")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="float32")
    parser.add_argument("--random", action="store_true", help="random weights of the same architecture")
    parser.add_argument("--new-tokens", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    model = load(given.model, getattr(torch, given.dtype), given.random)
    weights = "random weights" if given.random else "its weights"
    args = SimpleNamespace(
        size=f"{Path(given.model).name}, {weights}, {given.dtype}",
        new_tokens=given.new_tokens,
        repeats=given.repeats,
        without_second_pass=False,
        clock="wall",
    )
    guided(model, args)
    elhsr.scoring(model, args)
    searched = SimpleNamespace(**{**vars(args), "new_tokens": 48})
    sla.published(RewardTransformer.from_base(model, 64).eval(), searched)
    judged(model, AutoTokenizer.from_pretrained(given.model), args)


if __name__ == "__main__":
    main()

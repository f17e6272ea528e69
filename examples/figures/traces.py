"""
Record what pictures need beyond the tables of both demos: tilts of tokens, and the decisions of a judge.

    make demo demo-llm
    python -m examples.figures.traces

Reads the guide and the texts of the demo on a chat model and the judge of the demo, and writes
`examples/results/traces.json`.
"""

import argparse
import json
from datetime import date
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import PeftModel

from examples.demo_llm.model import load_model
from examples.demo_llm.sampling import Candidate
from examples.tasks.constraints import problems
from hf_reward_ext import FastSlowRewardModel, GuidedCausalLM
from hf_reward_ext.base.saving.atomic import replace_text
from hf_reward_ext.demo.judge import pairs
from hf_reward_ext.genarm import trace_guidance
from hf_reward_ext.viz.trace import split_tokens

RESULTS = Path(__file__).parents[1] / "results" / "traces.json"
ALPHA = 0.5
NUM_TEXTS, NUM_PAIRS = 6, 400


def read_samples(folder: Path) -> list[list[Candidate]]:
    """Return the candidates of every problem that a run has kept."""
    batches = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    return [[Candidate(**one) for one in group] for batch in batches for group in batch]


def trace_guide(name: str, dtype: torch.dtype, folder: Path, questions: list[str]) -> list[dict]:
    """Return the change of each token's log-probability by the guide, in nats."""
    adapted, tokenizer = load_model(name, dtype)
    guided = GuidedCausalLM.from_peft(PeftModel.from_pretrained(adapted, str(folder / "genarm")).eval(), alpha=ALPHA)
    groups = read_samples(folder / "samples" / "genarm" / f"alpha {ALPHA}")
    traced = []
    for question, group in zip(questions[:NUM_TEXTS], groups, strict=False):
        sample = group[0]
        ids = torch.tensor([sample.prompt_ids + sample.completion_ids])
        mask = torch.ones(1, len(sample.completion_ids), dtype=torch.bool)
        trace = trace_guidance(guided, ids, len(sample.prompt_ids), completion_mask=mask)
        tilts = (trace.guided_logps - trace.base_logps)[0].tolist()
        traced.append(
            {
                "prompt": question,
                "is_right": sample.is_right,
                "tokens": split_tokens(sample.completion_ids, tokenizer),
                "values": [round(value, 3) for value in tilts],
            }
        )
    return traced


def record_judge(folder: Path) -> dict:
    """Return confidences and both probabilities of the better response, for each pair of claims."""
    judge: Any = FastSlowRewardModel.from_pretrained(str(folder / "judge"))
    judge.batch_size = 128
    rows = pairs("test", NUM_PAIRS)
    columns = [rows[name] for name in ("prompt", "chosen", "rejected")]
    fast, slow = (judge.judge(*columns, mode=mode) for mode in ("fast", "slow"))
    return {
        "intuition_threshold": round(judge.gate.intuition_threshold, 4),
        "distribution_threshold": round(judge.gate.distribution_threshold, 4),
        "intuition": [round(one.intuition, 3) for one in fast],
        "distribution": [round(one.distribution, 3) for one in fast],
        "fast": [round(one.probability, 3) for one in fast],
        "slow": [round(one.probability, 3) for one in slow],
    }


def main(arguments: list[str] | None = None) -> Path:
    """Write the file, and return its path."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, default=Path("outputs/demo"), help="folder of `make demo`")
    parser.add_argument("--demo_llm", type=Path, default=Path("outputs/demo_llm"), help="folder of `make demo-llm`")
    parser.add_argument("--model", help="chat model of `make demo-llm`; default: its folder `model`")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args(arguments)
    settings = json.loads((args.demo_llm / "settings.json").read_text(encoding="utf-8"))
    asked = problems("test", settings["num_test"], settings["seed"])
    name, dtype = args.model or str(args.demo_llm / "model"), getattr(torch, settings["dtype"])
    report = {
        "model": settings["model"],
        "date": date.today().isoformat(),
        "versions": f"torch {torch.__version__}, transformers {transformers.__version__}",
        "alpha": ALPHA,
        "guided": trace_guide(name, dtype, args.demo_llm, [problem.question for problem in asked]),
        "judge": record_judge(args.demo),
    }
    replace_text(args.output, json.dumps(report) + "\n")
    return args.output


if __name__ == "__main__":
    print(main())

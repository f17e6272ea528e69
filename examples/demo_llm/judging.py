"""Fast-Slow: a judge on the chat model that answers in one token, and counts in writing when it is unsure."""

import random
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig

from examples.demo_llm.model import load_model
from examples.demo_llm.tables import row
from examples.tasks.constraints import Problem, explain
from hf_reward_ext import FastSlowConfig, FastSlowRewardModel, FastSlowTrainer
from hf_reward_ext.fast_slow import JudgeTemplate

VERDICTS = ("Yes", "No")
TEMPLATE = JudgeTemplate(
    user="Does the response follow the request? Answer Yes or No.\n\nRequest: {prompt}\nResponse: {response_a}",
    analysis_prefix=".",
    final_marker=" Final:",
)
MAX_NEW_TOKENS = 96


def judge_rows(problems: list[Problem], pairs: list[dict], seed: int) -> list[dict]:
    """Return text pairs with a judgment of each side, written by the checker after a random first verdict."""
    rng = random.Random(seed)
    rows = []
    for pair in pairs:
        problem = problems[pair["index"]]
        sides = {"chosen": VERDICTS[0], "rejected": VERDICTS[1]}
        rows.append(
            {
                "prompt": problem.question,
                **{side: pair[side].text for side in sides},
                "judgments": [
                    {
                        "about": side,
                        "first_verdict": rng.choice(VERDICTS),
                        "text": " " + explain(problem, pair[side].text),
                        "verdict": verdict,
                    }
                    for side, verdict in sides.items()
                ],
            }
        )
    return rows


def train_judge(
    name: str,
    dtype: torch.dtype,
    rows: list[dict],
    validation: list[dict],
    folder: Path,
    seed: int,
    num_epochs: int = 2,
) -> FastSlowRewardModel:
    """Train and calibrate the judge, or load the one that was trained."""
    if not (folder / "done").exists():
        policy, tokenizer = load_model(name, dtype)
        trainer = FastSlowTrainer(
            policy,
            FastSlowConfig(
                str(folder),
                verdicts=list(VERDICTS),
                judgment_weight=2.0,
                learning_rate=5e-4,
                num_train_epochs=num_epochs,
                per_device_train_batch_size=8,
                activation_checkpointing=False,
                report_to="none",
                logging_steps=20,
                save_strategy="no",
                use_cpu=not torch.cuda.is_available(),
                seed=seed,
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            template=TEMPLATE,
            peft_config=LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=32, lora_alpha=64),
        )
        trainer.train()
        judge = trainer.judge
        judge.config.max_new_tokens = MAX_NEW_TOKENS
        judge.calibrate(Dataset.from_list(validation), budget=0.6, slow=True)
        judge.save_pretrained(folder)
        (folder / "done").touch()
    judge = FastSlowRewardModel.from_pretrained(str(folder))
    judge.batch_size = 32
    return judge  # pyright: ignore[reportReturnType]


def compare(judge: FastSlowRewardModel, rows: list[dict]) -> dict:
    """Compare the fast, the gated and the always written judgment of held-out pairs."""
    found = {mode: _judge(judge, rows, mode) for mode in ("fast", "gated", "slow")}
    what = {"fast": "one token per response", "gated": "writes where it is unsure", "slow": "always writes"}
    table = [
        row(
            mode,
            what[mode],
            [one.score > 0 for one in judgments],
            np.mean([one.num_tokens for one in judgments]),
            written=round(float(np.mean([one.mode == "slow" for one in judgments])), 4),
        )
        for mode, judgments in found.items()
    ]
    return {"rows": table, "samples": [_sample(rows[index], found, index) for index in range(min(4, len(rows)))]}


def _judge(judge: FastSlowRewardModel, rows: list[dict], mode: Literal["fast", "gated", "slow"]):
    columns = ([one[name] for one in rows] for name in ("prompt", "chosen", "rejected"))
    return judge.judge(*columns, mode=mode)


def _sample(pair: dict, found: dict, index: int) -> dict:
    fast, slow = found["fast"][index], found["slow"][index]
    return {
        "prompt": pair["prompt"],
        "chosen": pair["chosen"],
        "rejected": pair["rejected"],
        "fast": round(fast.probability, 3),
        "slow": round(slow.probability, 3),
        "intuition": round(fast.intuition, 3),
        "distribution": round(fast.distribution, 3),
        "texts": [texts[0] if texts else "" for texts in slow.texts],
    }

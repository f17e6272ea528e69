"""Run by `accelerate launch`: DPO on a tiny policy with both callbacks; every process writes down what it saw."""

import json
import os
import sys
from pathlib import Path

from datasets import Dataset
from tiny import tiny_causal_lm, tiny_tokenizer
from trl import DPOConfig, DPOTrainer

from hf_reward_ext import BestOfNCallback, GuidedGenerationCallback
from hf_reward_ext.callbacks import OnlinePairsCallback

PROMPTS = ["w3 w4", "w5", "w6 w7 w8", "w9"]


def reward(completions):
    return [float(len(set(text.split()))) for text in completions]


def run(folder: Path, resume: bool = False):
    """The trainer, before and after training for 4 steps, or after 2 more."""
    rows = [{"prompt": f"w{n} w{n + 1}", "chosen": f" w{n + 2}", "rejected": f" w{n + 3}"} for n in range(3, 11)]
    trainer = DPOTrainer(
        tiny_causal_lm(initializer_range=0.1),
        tiny_causal_lm(initializer_range=0.1),
        args=DPOConfig(
            str(folder / "policy"), max_steps=6 if resume else 4, eval_strategy="steps", eval_steps=2,
            save_strategy="best", metric_for_best_model="eval_bon_reward", report_to="none", bf16=False, use_cpu=True,
            per_device_train_batch_size=2, per_device_eval_batch_size=2, learning_rate=3e-2, disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(rows[:2]),
        processing_class=tiny_tokenizer(),
        callbacks=[
            BestOfNCallback(PROMPTS, reward, 4, max_new_tokens=6, batch_size=2),
            GuidedGenerationCallback(
                PROMPTS, reward, tiny_causal_lm(seed=1), alphas=(1.0,), max_new_tokens=6, batch_size=2
            ),
        ],
    )  # fmt: skip
    pairs = OnlinePairsCallback(
        trainer, PROMPTS, reward, folder / "pairs", num_candidates=4, max_new_tokens=6, batch_size=1
    ).refresh(trainer.model, trainer.args, 1)
    before = None if resume else trainer.evaluate()
    trainer.train(resume_from_checkpoint=resume or None)
    evaluations = [row for row in trainer.state.log_history if "eval_bon_reward" in row]
    trainer.accelerator.end_training()  # a process group that nobody closes aborts some exits
    return {"before": before, "evaluations": evaluations, "best": trainer.state.best_model_checkpoint,
            "processes": trainer.args.world_size, "pairs": pairs}, trainer  # fmt: skip


if __name__ == "__main__":
    place, resume = Path(sys.argv[1]), "resume" in sys.argv
    seen, trainer = run(place, resume)  # kept: to delete a trainer whose peer has ended may wait for ever
    (place / f"rank-{trainer.args.process_index}.json").write_text(json.dumps(seen))
    os._exit(0)  # torch's threads abort one exit in thirty, when all is written

"""The usual alternative to a head: a copy of the policy fine-tuned as a text reward model with TRL."""

import time
from pathlib import Path

import torch
from datasets import Dataset
from transformers import LlamaForSequenceClassification
from trl import RewardConfig, RewardTrainer

from hf_reward_ext.base.text_scorer import TextScorer
from hf_reward_ext.demo.sampling import Rollouts


def train_text_reward_model(
    policy, tokenizer, rollouts: Rollouts, folder: Path, seed: int = 0, num_train_epochs: int = 3
) -> tuple[TextScorer, float]:
    """
    A scorer of texts of the policy's own size, trained on pairs of a right and a wrong candidate of one prompt.

    Args:
        policy, tokenizer: Its body starts as the policy's.
        rollouts ([`Rollouts`]): Where the pairs come from: every right one with the wrong one beside it.
        folder (`Path`): For the trainer.
        seed, num_train_epochs (`int`): Of the training.

    Returns:
        The scorer and the seconds it took.
    """
    started = time.perf_counter()
    config = type(policy.config).from_dict({**policy.config.to_dict(), "num_labels": 1})
    model = LlamaForSequenceClassification(config)
    model.model.load_state_dict(policy.model.state_dict())
    args = RewardConfig(
        str(folder),
        learning_rate=5e-4,
        lr_scheduler_type="cosine",
        num_train_epochs=num_train_epochs,
        per_device_train_batch_size=16,
        gradient_checkpointing=False,
        bf16=False,
        report_to="none",
        logging_strategy="no",
        save_strategy="no",
        use_cpu=not torch.cuda.is_available(),
        seed=seed,
    )
    pairs = Dataset.from_list(_pairs(rollouts))
    RewardTrainer(model, args, train_dataset=pairs, processing_class=tokenizer).train()
    return TextScorer(model, tokenizer, batch_size=256), time.perf_counter() - started


def _pairs(rollouts: Rollouts) -> list[dict[str, str]]:
    pairs = []
    for prompt, texts, correct in zip(rollouts.prompts, rollouts.completions, rollouts.correct, strict=True):
        right = [text for text, good in zip(texts, correct, strict=True) if good]
        wrong = [text for text, good in zip(texts, correct, strict=True) if not good]
        for index in range(max(len(right), len(wrong)) if right and wrong else 0):
            pairs.append({"prompt": prompt, "chosen": right[index % len(right)], "rejected": wrong[index % len(wrong)]})
    return pairs

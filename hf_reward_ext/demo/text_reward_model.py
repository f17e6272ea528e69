"""The usual alternative to a head: a copy of the policy fine-tuned to read the text once more."""

import time
from pathlib import Path

import torch
from datasets import Dataset
from transformers import DataCollatorWithPadding, LlamaForSequenceClassification, Trainer, TrainingArguments, set_seed

from hf_reward_ext.base.scoring.text import TextScorer
from hf_reward_ext.demo.sampling import Rollouts


def train_text_reward_model(
    policy, tokenizer, rollouts: Rollouts, folder: Path, seed: int = 0, num_train_epochs: int = 6
) -> tuple[TextScorer, float]:
    """
    A scorer of texts of the policy's own size, trained on the labels that the head gets too.

    Args:
        policy, tokenizer: Its body starts as the policy's; all of it is trained, with binary cross-entropy.
        rollouts ([`Rollouts`]): Labeled completions.
        folder (`Path`): For the trainer.
        seed, num_train_epochs (`int`): Of the training.

    Returns:
        The scorer and the seconds it took.
    """
    started = time.perf_counter()
    set_seed(seed)
    config = type(policy.config).from_dict(
        {**policy.config.to_dict(), "num_labels": 1, "problem_type": "multi_label_classification"}
    )
    model = LlamaForSequenceClassification(config)
    model.model.load_state_dict(policy.model.state_dict())
    args = TrainingArguments(
        str(folder),
        learning_rate=5e-4,
        lr_scheduler_type="cosine",
        num_train_epochs=num_train_epochs,
        per_device_train_batch_size=32,
        report_to="none",
        logging_strategy="no",
        save_strategy="no",
        use_cpu=not torch.cuda.is_available(),
        seed=seed,
    )
    rows = []
    for row in rollouts.rows:
        # Without EOS, which the scorer does not see either.
        ids = [token for token in row["prompt_ids"] + row["completion_ids"] if token != tokenizer.eos_token_id]
        rows.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [row["label"]]})
    Trainer(
        model,
        args,
        train_dataset=Dataset.from_list(rows),
        data_collator=DataCollatorWithPadding(tokenizer),
    ).train()
    return TextScorer(model, tokenizer, batch_size=256), time.perf_counter() - started

"""Text reward model, a copy of the policy that is fine-tuned to score texts; the usual alternative to a head."""

import time
from pathlib import Path

import torch
from datasets import Dataset
from transformers import DataCollatorWithPadding, LlamaForSequenceClassification, Trainer, TrainingArguments, set_seed

from hf_reward_ext.base.scoring.text import TextScorer
from hf_reward_ext.base.training.progress import follow_progress_setting
from hf_reward_ext.demo.sampling import Rollouts


def train_text_reward_model(
    policy, tokenizer, rollouts: Rollouts, folder: Path, seed: int = 0, num_train_epochs: int = 6
) -> tuple[TextScorer, float]:
    """
    Train a scorer of texts with the size of the policy, on the same labels as the head.

    Args:
        policy, tokenizer: Policy, from which the body is initialized, and tokenizer. All weights are trained, with
            binary cross-entropy.
        rollouts ([`Rollouts`]): Labeled completions.
        folder (`Path`): Output folder of the trainer.
        seed, num_train_epochs (`int`): Random seed and number of epochs.

    Returns:
        The scorer and the seconds of training.
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
        # Without EOS, which the scorer does not read either.
        ids = [token for token in row["prompt_ids"] + row["completion_ids"] if token != tokenizer.eos_token_id]
        rows.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [row["label"]]})
    trainer = Trainer(
        model,
        args,
        train_dataset=Dataset.from_list(rows),
        data_collator=DataCollatorWithPadding(tokenizer),
    )
    follow_progress_setting(trainer)
    trainer.train()
    return TextScorer(model, tokenizer, batch_size=256), time.perf_counter() - started

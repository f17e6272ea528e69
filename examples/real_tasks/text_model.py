"""The control of every table: an ordinary reward model on text, the same chat model with a classification head."""

from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from transformers import AutoModelForSequenceClassification
from trl import RewardConfig, RewardTrainer


def train_text_model(name: str, dtype: torch.dtype, rows: Dataset, tokenizer, folder: Path, seed: int):
    """
    Train a classifier with TRL's trainer, or load the one that was trained.

    Args:
        name (`str`): Chat model that it starts from.
        dtype (`torch.dtype`): Type of the weights.
        rows (`Dataset`): Preference pairs.
        tokenizer: Tokenizer of the chat model.
        folder (`Path`): Folder of the adapter.
        seed (`int`): Random seed.
    """
    torch.manual_seed(seed)  # of the new classification head
    model = AutoModelForSequenceClassification.from_pretrained(name, num_labels=1, dtype=dtype)
    model.config.pad_token_id = tokenizer.pad_token_id
    if not (folder / "adapter_model.safetensors").exists():
        args = RewardConfig(
            str(folder),
            learning_rate=5e-4,
            num_train_epochs=1,
            per_device_train_batch_size=8,
            gradient_checkpointing=False,
            bf16=False,
            report_to="none",
            logging_steps=20,
            save_strategy="no",
            use_cpu=not torch.cuda.is_available(),
            seed=seed,
        )
        lora = LoraConfig(
            task_type="SEQ_CLS", target_modules="all-linear", r=16, lora_alpha=32, modules_to_save=["score"]
        )
        trainer = RewardTrainer(model, args, train_dataset=rows, processing_class=tokenizer, peft_config=lora)
        trainer.train()
        trainer.save_model()
        return trainer.model.merge_and_unload().eval()  # pyright: ignore[reportOptionalMemberAccess, reportCallIssue]
    return PeftModel.from_pretrained(model, str(folder)).merge_and_unload().eval()

"""Models of the walk benchmark, trained on correct and wrong walks of a policy."""

import copy
import random
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from hf_reward_ext.base.preference.pair_collator import PairCollator
from hf_reward_ext.base.training.token_rewards import gather_token_logps, masked_mean
from hf_reward_ext.demo.elhsr import train_head, with_prefixes
from hf_reward_ext.demo.sampling import Rollouts
from hf_reward_ext.genarm import GenARMConfig, GenARMTrainer
from hf_reward_ext.sla import SLAConfig, SLATrainer, autrc
from hf_reward_ext.sla.metrics import preference_metrics

CHANNEL = dict(channel_size=32, num_train_epochs=12)
# As many parameters per token as three layers of size 32 and the head of the channel.
ON_THE_LAST_STATE = {
    "linear head on the last state": {},
    "MLP on the last state, as many parameters": dict(head_size=115),
}
QUIET = dict(
    per_device_train_batch_size=32, report_to="none", disable_tqdm=True, logging_strategy="no", save_strategy="no",
    activation_checkpointing=False, bf16=False, use_cpu=True,
)  # fmt: skip


def pairs_of(rollouts: Rollouts, seed: int, per_prompt: int = 2) -> Dataset:
    """Return pairs of correct and wrong candidates of one prompt."""
    rng, rows = random.Random(seed), []
    for index, correct in enumerate(rollouts.correct):
        candidates = rollouts.rows[index * len(correct) : (index + 1) * len(correct)]
        right = [row for row, is_right in zip(candidates, correct, strict=True) if is_right]
        wrong = [row for row, is_right in zip(candidates, correct, strict=True) if not is_right]
        for _ in range(min(per_prompt, len(right), len(wrong))):
            chosen, rejected = rng.choice(right), rng.choice(wrong)
            rows.append(
                {
                    "prompt_ids": chosen["prompt_ids"],
                    "chosen_ids": chosen["completion_ids"],
                    "rejected_ids": rejected["completion_ids"],
                }
            )
    return Dataset.from_list(rows)


def train_channel(policy, tokenizer, pairs, output: Path, seed: int, **settings):
    args = SLAConfig(
        str(output), cache_hidden_states=True, learning_rate=3e-3, seed=seed, **{**CHANNEL, **settings}, **QUIET
    )
    trainer = SLATrainer(policy, args, train_dataset=pairs, processing_class=tokenizer)
    trainer.train()
    return trainer.model.eval()


def as_text(pairs: Dataset, tokenizer) -> Dataset:
    return pairs.map(
        lambda row: {
            "prompt": tokenizer.decode(row["prompt_ids"]),
            "chosen": tokenizer.decode(row["chosen_ids"], skip_special_tokens=True),
            "rejected": tokenizer.decode(row["rejected_ids"], skip_special_tokens=True),
        },
        remove_columns=pairs.column_names,
    )


def train_dpo(policy, tokenizer, pairs, output: Path, seed: int):
    """Run DPO on a copy of the policy, with TRL."""
    args = DPOConfig(str(output), beta=0.1, learning_rate=1e-4, num_train_epochs=2, seed=seed, **QUIET)
    trainer = DPOTrainer(
        _free(policy), policy, args=args, train_dataset=as_text(pairs, tokenizer), processing_class=tokenizer
    )
    trainer.train()
    return trainer.model.eval()


def train_guide(policy, tokenizer, pairs, output: Path, seed: int):
    """Train an autoregressive reward model that starts from the policy."""
    args = GenARMConfig(str(output), beta=0.3, learning_rate=3e-4, num_train_epochs=4, seed=seed, **QUIET)
    trainer = GenARMTrainer(_free(policy), args, train_dataset=as_text(pairs, tokenizer), processing_class=tokenizer)
    trainer.train()
    return trainer.model.eval()


def train_elhsr(policy, tokenizer, rollouts: Rollouts, output: Path, seed: int):
    """Train a linear head on completions and prefixes."""
    rows = random.Random(seed).sample(rollouts.rows, min(1000, len(rollouts.rows)))
    return train_head(policy, tokenizer, with_prefixes(rows, (7, 15, 23)), output, seed, num_train_epochs=20)[0]


def _free(policy):
    """Return a copy to train, without a name."""
    tuned = copy.deepcopy(policy).requires_grad_(True)
    tuned.config._name_or_path = ""
    return tuned


Pairs = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def batch_of(pairs: Dataset) -> dict[str, torch.Tensor]:
    return PairCollator(0)(list(pairs))


@torch.no_grad()
def token_rewards(rt, batch) -> torch.Tensor:
    return rt(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).token_rewards


@torch.no_grad()
def token_logps(model, batch) -> torch.Tensor:
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return torch.nn.functional.pad(gather_token_logps(logits[:, :-1], batch["input_ids"][:, 1:]), (1, 0))


def pair_metrics(rewards: torch.Tensor, batch) -> dict[str, list[float]]:
    """Return for every pair whether the chosen side wins, also on prefixes, and AuTRC."""
    (chosen, rejected), (chosen_mask, rejected_mask) = rewards.chunk(2), batch["completion_mask"].chunk(2)
    found: dict[str, list[float]] = {"accuracy": [], "prefix_accuracy_25": [], "prefix_accuracy_50": [], "autrc": [],
                                     "token_autrc": []}  # fmt: skip
    for row in range(len(chosen)):
        sides = [values[row : row + 1] for values in (chosen, chosen_mask, rejected, rejected_mask)]
        metrics = preference_metrics(*sides)
        for name in found:
            found[name].append(autrc(*sides, definition="token") if name == "token_autrc" else metrics[name])
    return found


@torch.no_grad()
def mean_rewards(rt, rollouts: Rollouts) -> np.ndarray:
    """Return the mean reward of every candidate."""
    rewards = []
    for start in range(0, len(rollouts.rows), 256):
        part = rollouts.rows[start : start + 256]
        batch = PairCollator(0)(
            [{"prompt_ids": row["prompt_ids"], **dict.fromkeys(("chosen_ids", "rejected_ids"), row["completion_ids"])}
             for row in part]
        )  # fmt: skip
        batch = {name: values[: len(part)] for name, values in batch.items()}
        rewards.append(masked_mean(token_rewards(rt, batch), batch["completion_mask"]))
    return torch.cat(rewards).numpy().reshape(rollouts.correct.shape)

"""The trainers side by side: classes, smallest settings, and rows in every form."""

from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset
from tiny import tiny_causal_lm, tiny_tokenizer
from tiny_judges import TEMPLATE, VERDICTS

from hf_reward_ext.elhsr import ELHSRConfig, ELHSRTrainer
from hf_reward_ext.fast_slow import FastSlowConfig, FastSlowTrainer
from hf_reward_ext.genarm import GenARMConfig, GenARMTrainer
from hf_reward_ext.sla import SLAConfig, SLATrainer

COUNT = 8
TEXTS = [{"prompt": f"w{n} w5 ", "chosen": "w10 w11 w12", "rejected": f"w13 w{n}"} for n in range(2, 2 + COUNT)]
CHATS = [
    {
        "prompt": [{"role": "user", "content": row["prompt"].strip()}],
        "chosen": [{"role": "assistant", "content": row["chosen"]}],
        "rejected": [{"role": "assistant", "content": row["rejected"]}],
    }
    for row in TEXTS
]
_IDS = tiny_tokenizer()
TOKENIZED = [
    {
        "prompt_ids": _IDS(row["prompt"])["input_ids"],
        "chosen_ids": [*_IDS(row["chosen"])["input_ids"], _IDS.eos_token_id],
        "rejected_ids": [*_IDS(row["rejected"])["input_ids"], _IDS.eos_token_id],
    }
    for row in TEXTS
]


@dataclass(frozen=True)
class Method:
    """A trainer with the settings that make it small."""

    trainer: type
    config: type
    settings: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)

    def args(self, folder, **settings):
        shared = dict(
            max_steps=1, per_device_train_batch_size=4, per_device_eval_batch_size=4, report_to="none", use_cpu=True,
            learning_rate=1e-2, disable_tqdm=True, save_strategy="no", logging_steps=1, warmup_steps=0,
        )  # fmt: skip
        return self.config(str(folder), **{**shared, **self.settings, **settings})

    def build(self, folder, model=None, rows=TEXTS, *, settings=None, **arguments):
        """A trainer on a tiny model; `arguments` are those of its constructor."""
        arguments.setdefault("processing_class", tiny_tokenizer())
        return self.trainer(
            tiny_causal_lm() if model is None else model,
            self.args(folder, **(settings or {})),
            train_dataset=Dataset.from_list(rows) if isinstance(rows, list) else rows,
            **self.arguments,
            **arguments,
        )


METHODS = {
    "genarm": Method(GenARMTrainer, GenARMConfig),
    "sla": Method(SLATrainer, SLAConfig, dict(channel_size=4)),
    "sla and policy": Method(SLATrainer, SLAConfig, dict(channel_size=4, policy_loss="sft")),
    "fast-slow": Method(FastSlowTrainer, FastSlowConfig, dict(verdicts=list(VERDICTS)), dict(template=TEMPLATE)),
    "elhsr": Method(
        ELHSRTrainer,
        ELHSRConfig,
        dict(validation_fraction=0.0, eval_strategy="no", load_best_model_at_end=False),
    ),
}

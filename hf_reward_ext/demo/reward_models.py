"""Small reward models of all methods for the arithmetic task, each trained in about a minute and loadable by path."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from datasets import Dataset

from hf_reward_ext.base.preference.masks import find_completion_start
from hf_reward_ext.demo import arithmetic
from hf_reward_ext.demo.elhsr import prompts_of, train_head
from hf_reward_ext.demo.judge import VERDICTS
from hf_reward_ext.demo.sampling import Rollouts, sample
from hf_reward_ext.fast_slow import FastSlowConfig, FastSlowTrainer, JudgeTemplate
from hf_reward_ext.genarm import GenARMConfig, GenARMRewardModel, GenARMTrainer
from hf_reward_ext.sla import SLAConfig, SLATrainer

_JUDGE = JudgeTemplate(user="{prompt}{response_a}?", base_suffix="", analysis_prefix=":", final_marker="#")
_COMMON: dict = dict(report_to="none", save_strategy="no", logging_strategy="no", disable_tqdm=True)


def train_reward_model(method: str, policy, tokenizer, folder: str | Path, num_problems: int = 800) -> Path:
    """
    Train on samples of a demo policy, and save model and tokenizer.

    Args:
        method (`str`): Method, `"elhsr"`, `"genarm"`, `"sla"` or `"fast_slow"`.
        policy, tokenizer: Policy, which is not changed, and tokenizer.
        folder (`str` or `Path`): Folder to save to, for `AutoModelForSequenceClassification`.
        num_problems (`int`, *optional*, defaults to 800): Number of training problems, with a few
            samples each.

    Returns:
        `Path`: Folder of the model.

    Example:
    ```python
    >>> folder = train_reward_model("elhsr", *load_policy(), "outputs/elhsr")
    >>> GRPOTrainer(policy, reward_funcs=str(folder), args=args, train_dataset=prompts)
    ```
    """
    torch.manual_seed(0)
    prompts = prompts_of(arithmetic, "train", num_problems)
    rollouts = sample(policy, tokenizer, prompts, arithmetic, num_candidates=1 if method == "elhsr" else 6)
    _TRAIN[method](policy, tokenizer, rollouts, str(folder))
    tokenizer.save_pretrained(folder)
    return Path(folder)


def attempt_pairs(rollouts: Rollouts) -> Dataset:
    """Return a correct and a wrong sample of each problem that has both, with judgments of both."""
    rows = []
    for prompt, texts, correct in zip(rollouts.prompts, rollouts.completions, rollouts.correct, strict=True):
        right, wrong = ([text for text, own in zip(texts, correct, strict=True) if own == side] for side in (1, 0))
        if right and any(wrong):
            chosen, rejected = right[0], next(filter(None, wrong))
            judgments = [_judgment("chosen", chosen, len(rows)), _judgment("rejected", rejected, len(rows))]
            rows.append({"prompt": prompt, "chosen": chosen, "rejected": rejected, "judgments": judgments})
    return Dataset.from_list(rows)


def _judgment(about: str, completion: str, number: int) -> dict:
    """Return a judgment that repeats and marks the last result, and overturns half of the first verdicts."""
    verdict = VERDICTS[0] if about == "chosen" else VERDICTS[1]
    text = f"{completion.split('=')[-1]}{'.' if about == 'chosen' else 'x'}"
    return {"about": about, "first_verdict": VERDICTS[number % 2], "text": text, "verdict": verdict}


def _train_elhsr(policy, tokenizer, rollouts: Rollouts, folder: str) -> None:
    train_head(policy, tokenizer, rollouts.rows, Path(folder), num_train_epochs=30)


def _train_genarm(policy, tokenizer, rollouts: Rollouts, folder: str) -> None:
    args = GenARMConfig(folder, beta=0.3, learning_rate=3e-4, max_steps=200, per_device_train_batch_size=16, **_COMMON)
    trainer = GenARMTrainer(_copy(policy), args, train_dataset=attempt_pairs(rollouts), processing_class=tokenizer)
    trainer.train()
    start, occurrence = find_completion_start([row["prompt_ids"] for row in rollouts.rows], special_ids=())
    model = GenARMRewardModel.from_causal_lm(
        trainer.model, completion_start_ids=start, completion_starts_after=occurrence
    )
    model.save_pretrained(folder)


def _train_sla(policy, tokenizer, rollouts: Rollouts, folder: str) -> None:
    args = SLAConfig(
        folder, channel_size=32, learning_rate=3e-3, num_train_epochs=10, per_device_train_batch_size=32,
        cache_hidden_states=True, **_COMMON,
    )  # fmt: skip
    trainer = SLATrainer(_copy(policy), args, train_dataset=attempt_pairs(rollouts), processing_class=tokenizer)
    trainer.train()
    trainer.save_model()


def _train_fast_slow(policy, tokenizer, rollouts: Rollouts, folder: str) -> None:
    parts = attempt_pairs(rollouts).train_test_split(0.1, seed=0)
    args = FastSlowConfig(
        folder, verdicts=list(VERDICTS), learning_rate=2e-3, lr_scheduler_type="cosine", num_train_epochs=3,
        per_device_train_batch_size=32, activation_checkpointing=False, **_COMMON,
    )  # fmt: skip
    trainer = FastSlowTrainer(
        _copy(policy), args, train_dataset=parts["train"], processing_class=tokenizer, template=_JUDGE
    )
    trainer.train()
    judge = trainer.judge
    judge.config.max_new_tokens = 8
    judge.calibrate(parts["test"], budget=0.2)
    judge.save_pretrained(folder)


def _copy(policy):
    """Return a copy of the policy to train, with the same name."""
    copy = type(policy)(policy.config)
    copy.load_state_dict(policy.state_dict())
    return copy


_TRAIN: dict[str, Callable] = {
    "elhsr": _train_elhsr,
    "genarm": _train_genarm,
    "sla": _train_sla,
    "fast_slow": _train_fast_slow,
}
METHODS: Sequence[str] = tuple(_TRAIN)

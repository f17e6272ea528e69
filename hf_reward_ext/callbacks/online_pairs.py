"""Callback that refreshes the pairs of DPO between epochs."""

import statistics
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

from datasets import Dataset
from transformers import Trainer, TrainerCallback, TrainerState, TrainingArguments

from hf_reward_ext.base.lm.forward import unwrap_peft
from hf_reward_ext.base.options import check_count
from hf_reward_ext.base.scoring.scorer import as_single_scorer
from hf_reward_ext.best_of_n.pipeline import BestOfNPipeline
from hf_reward_ext.best_of_n.preference_rows import preference_rows
from hf_reward_ext.best_of_n.prompts import check_prompts
from hf_reward_ext.best_of_n.reading import as_read_reward
from hf_reward_ext.callbacks.epoch_rows import EpochRows
from hf_reward_ext.callbacks.evaluation_mode import evaluation_mode
from hf_reward_ext.callbacks.pair_sampling import PairFile, read_pairs, sample_pairs

_KEY = "online_pairs"  # in `state.stateful_callbacks`


class OnlinePairsCallback(TrainerCallback):
    """
    Callback that refreshes the pairs of TRL's `DPOTrainer` between epochs: best against worst of N by any reward.

    The first epoch trains on the pairs of the trainer. Before epoch k = 1, 2, ... the policy in training samples
    candidates of all prompts, the reward ranks them, and epoch k trains on the pairs in `folder/pairs-k.jsonl`. These
    are the rows of `hf-reward-ext bon --as preference --seed N` for that policy, with N = `seed + k`. All epochs have
    as many rows as the first: fewer pairs are repeated, of more a random part is used.

    Several processes share the prompts. A killed refresh resumes after its last complete batch, and a run that resumes
    from a checkpoint trains on the same pairs; their hash is in the checkpoint. The random states of the trainer are
    not changed. Logs `pairs/num_pairs` and `pairs/margin`, the mean difference of rewards.

    Args:
        trainer (`DPOTrainer`): Trainer that the callback is added to (`trainer.add_callback`).
        prompts (`list` of `str` or of messages): Prompts to sample from.
        reward_model (`str`, `PreTrainedModel`, [`ELHSRModel`] or `callable`): Reward, as for [`BestOfNPipeline`].
        folder (`str` or `Path`): Folder of the pairs.
        rejected (`str`, *optional*, defaults to `"worst"`), min_margin (`float`, *optional*, defaults to 0): Choice of
            the rejected candidate, see [`preference_rows`].
        batch_size (`int`, *optional*, defaults to 8): Number of prompts per batch.
        seed (`int`, *optional*, defaults to 0): Random seed for sampling.
        reward_processing_class (*optional*): Tokenizer of a reward model that is passed as an object.
        **options: Options of [`BestOfNPipeline`] (`num_candidates`, `max_new_tokens`, `temperature`, ...).

    Raises:
        TypeError: If the trainer is not a `DPOTrainer`, or the reward cannot score text.
        ValueError: If the trainer has reference log-probabilities of its first pairs only
            (`precompute_ref_log_probs=True`), persistent workers, streamed data or images; if a prompt or an argument
            is invalid; during training, if no prompt gives a pair, or the pairs of a checkpoint are missing.

    Example:
    ```python
    >>> trainer = DPOTrainer(policy, args=DPOConfig("dpo", num_train_epochs=3), train_dataset=pairs, ...)
    >>> trainer.add_callback(OnlinePairsCallback(trainer, prompts, "path/to/reward_model", "dpo/pairs"))
    >>> trainer.train()
    ```
    """

    def __init__(
        self,
        trainer: Trainer,
        prompts: Iterable[str | list],
        reward_model: Any,
        folder: str | Path,
        *,
        rejected: Literal["worst", "random"] = "worst",
        min_margin: float = 0.0,
        batch_size: int = 8,
        seed: int = 0,
        reward_processing_class: Any = None,
        **options,
    ):
        _check_trainer(trainer)
        check_count("batch_size", batch_size)
        self.trainer = trainer
        self.tokenizer: Any = trainer.processing_class
        if isinstance(prompts, str):
            raise ValueError(f"`prompts` must be a list of prompts, got the text {prompts[:80]!r}. Pass a list.")
        self.prompts = list(prompts)
        check_prompts(self.prompts, self.tokenizer)
        self.reward = as_read_reward(reward_model)
        if self.reward is None:
            self.reward = as_single_scorer(reward_model, reward_processing_class or self.tokenizer)
        self.folder = Path(folder)
        self.batch_size = batch_size
        self.seed = seed
        self.rows = partial(preference_rows, rejected=rejected, min_margin=min_margin)
        self.options = options
        self._pipeline(trainer.model)  # rejects arguments before training
        self._first = cast(Sequence[dict], trainer.train_dataset)
        self._data = EpochRows(self._first)
        trainer.train_dataset = self._data

    def path(self, epoch: int) -> Path:
        """Return the file of the pairs of an epoch, from 1."""
        return self.folder / f"pairs-{epoch}.jsonl"

    def on_train_begin(self, args, state, control, **kwargs):
        if state.num_train_epochs < 2:
            raise ValueError(
                f"`num_train_epochs` must be at least 2, since pairs are refreshed between epochs, got "
                f"{state.num_train_epochs}. Train longer, or leave `OnlinePairsCallback` out."
            )

    def on_epoch_begin(self, args, state, control, model, train_dataloader, **kwargs):
        epoch, step = divmod(state.global_step, _steps_per_epoch(args, len(train_dataloader)))
        if epoch == 0:
            self._data.use(self._first)
            return
        if step:
            found = self._read(epoch, state)
        else:
            found = self.refresh(model, args, epoch)
            state.stateful_callbacks[_KEY] = {"epoch": epoch, "sha256": found.sha256}
            self._log(found.rows, args, state, control)
        self._data.use(cast(Sequence[dict], self._tokenize(found.rows)), seed=self.seed + epoch)

    def refresh(self, model: Any, args: TrainingArguments, epoch: int) -> PairFile:
        """
        Sample the pairs of an epoch from a policy, on all processes, and write them.

        Args:
            model (`PreTrainedModel` or `PeftModel`): Policy.
            args (`TrainingArguments`): Training arguments.
            epoch (`int`): Epoch, from 1.
        """
        with evaluation_mode(model, args) as policy:
            return sample_pairs(
                self._pipeline(policy),
                self.prompts,
                self.path(epoch),
                partial(self.rows, seed=self.seed + epoch),
                batch_size=self.batch_size,
                seed=self.seed + epoch,
                options=self.options,
            )

    def _pipeline(self, policy: Any) -> BestOfNPipeline:
        policy = unwrap_peft(policy)
        reward: Any = self.reward
        if hasattr(reward, "to"):
            reward.to(policy.device)
        device = None if hasattr(policy, "hf_device_map") else policy.device
        fixed = dict(return_all=True, return_full_text=True, show_progress=False)
        return BestOfNPipeline(
            model=policy, tokenizer=self.tokenizer, reward_model=reward, device=device, **fixed, **self.options
        )

    def _read(self, epoch: int, state: TrainerState) -> PairFile:
        """Read the pairs of a checkpoint within an epoch."""
        found, recorded = read_pairs(self.path(epoch)), cast(dict, state.stateful_callbacks).get(_KEY)
        if recorded != {"epoch": epoch, "sha256": found.sha256}:
            raise ValueError(
                f"The checkpoint of step {state.global_step} needs the pairs of epoch {epoch} that it was trained on, "
                f"but {str(self.path(epoch))!r} is missing or has others. Restore the file, or resume from the end "
                "of an epoch."
            )
        return found

    def _tokenize(self, rows: list[dict]) -> Dataset:
        pairs = Dataset.from_list(rows).select_columns(["prompt", "chosen", "rejected"])
        prepared = self.trainer._prepare_dataset(pairs, self.tokenizer, self.trainer.args, "train")  # pyright: ignore
        if len(prepared) == 0:
            raise ValueError(
                f"No prompt of {len(rows)} pairs leaves room for a completion in `max_length="
                f"{self.trainer.args.max_length}`. Raise it."  # pyright: ignore
            )
        return prepared

    def _log(self, rows: list[dict], args, state: TrainerState, control) -> None:
        values = {"pairs/num_pairs": len(rows), "pairs/margin": statistics.mean(row["margin"] for row in rows)}
        state.log_history.append({**values, "epoch": state.epoch, "step": state.global_step})
        self.trainer.callback_handler.on_log(args, state, control, {**values, "epoch": state.epoch})


def _steps_per_epoch(args: TrainingArguments, num_batches: int) -> int:
    """Return the number of steps that a trainer takes in an epoch, as `Trainer.set_initial_training_values` does."""
    return max(-(-num_batches // args.gradient_accumulation_steps), 1)


def _check_trainer(trainer: Trainer) -> None:
    from trl import DPOTrainer  # a second of imports, which a caller with such a trainer has paid

    if not isinstance(trainer, DPOTrainer):
        raise TypeError(f"`trainer` must be a `DPOTrainer` of TRL, got a `{type(trainer).__name__}`. Pass one.")
    if trainer.args.precompute_ref_log_probs:  # pyright: ignore[reportAttributeAccessIssue]
        raise ValueError(
            "`precompute_ref_log_probs` must be False, since the trainer computes these log-probabilities of its first "
            "pairs only, got True. Leave it out."
        )
    if trainer.args.dataloader_persistent_workers:
        raise ValueError(
            "`dataloader_persistent_workers` must be False, since such workers keep the first pairs, got True. Leave "
            "it out."
        )
    if not isinstance(trainer.train_dataset, Dataset):
        raise ValueError(
            f"`trainer.train_dataset` must be a `Dataset`, whose length is that of every epoch, got a "
            f"`{type(trainer.train_dataset).__name__}`. Pass the trainer a `Dataset`, and add one callback."
        )
    images = {"image", "images"} & set(trainer.train_dataset.column_names)
    if images:
        raise ValueError(
            f"`trainer.train_dataset` must have text pairs, got the column {images.pop()!r}. Best-of-N does not "
            "read images."
        )

"""Base class of all trainers: TRL's `RewardTrainer` with the model, data, loss and card of a method."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, cast

import torch
from datasets import Dataset, IterableDataset
from torch import Tensor
from transformers import PreTrainedTokenizerBase, TrainerCallback
from trl import RewardTrainer

from hf_reward_ext.base.lm.causal_lm import num_embeddings, require_vocabulary
from hf_reward_ext.base.preference.datasets import plain_dataset, rows_to_check
from hf_reward_ext.base.preference.pair_collator import PairCollator
from hf_reward_ext.base.preference.pairs import check_preference_rows, prepare_preference_dataset
from hf_reward_ext.base.saving.card import CardText, write_model_card
from hf_reward_ext.base.training.arguments import (
    check_best_metric,
    check_length,
    check_unused,
    consumed,
    keep_batches_whole,
    named_datasets,
    one_label,
)
from hf_reward_ext.base.training.averages import Averages
from hf_reward_ext.base.training.disk import check_room, naming_folder
from hf_reward_ext.base.training.guards import FiniteGradients, TokenCount, non_finite_message, restore_patience
from hf_reward_ext.base.training.known_text import require_known_text
from hf_reward_ext.base.training.loss import BatchLoss, total_loss
from hf_reward_ext.base.training.model_loading import (
    check_causal_lm,
    check_peft_config,
    load_causal_lm,
    load_processing_class,
    model_name,
)
from hf_reward_ext.base.training.progress import follow_progress_setting
from hf_reward_ext.base.training.sharding import check_sharded, wants_shards
from hf_reward_ext.base.training.tokens import set_special_tokens
from hf_reward_ext.base.training.trainer_config import BaseRewardConfig


class BaseRewardTrainer(RewardTrainer):
    """
    [`~trl.RewardTrainer`] for models that are not sequence classifiers.

    A subclass builds the model that is trained from a causal LM (`_build_model`), prepares its data
    (`_prepare_dataset`, whose `_columns` the collator reads), and computes its loss (`_batch_loss`). Losses are means
    over the items of an optimizer step, whatever the batch size, the accumulation steps and the number of devices.

    Args:
        model (`str`, `PreTrainedModel` or `PeftModel`): Causal LM, or its name. A model is loaded by name in float32
            unless `args.model_init_kwargs` has a `dtype`.
        args ([`BaseRewardConfig`], *optional*): Training arguments.
        data_collator (`callable`, *optional*): Function from prepared rows to a batch.
        train_dataset (`Dataset` or `IterableDataset`): Training data.
        eval_dataset (`Dataset`, `IterableDataset` or `dict` of them, *optional*): Evaluation data; each set of a
            `dict` has its own metrics, `eval_<name>_accuracy` for example.
        processing_class (`PreTrainedTokenizerBase`, *optional*): Tokenizer. Default: the tokenizer of the model, loaded
            by its name and at its revision.
        compute_metrics, callbacks, optimizers, optimizer_cls_and_kwargs, preprocess_logits_for_metrics: As for
            [`~trl.RewardTrainer`].
        quantization_config (*optional*): Quantization of a model that is loaded by name.
        peft_config (`PeftConfig`, *optional*): Adapter to train.

    Raises:
        TypeError: If the model is no causal LM, or data or tokenizer have another type.
        ValueError: If an argument is missing, given twice, or without effect.
        RuntimeError: If the loss or its gradient is not finite during training; the weights are not updated.
    """

    args: BaseRewardConfig
    loss_is_scaled_for_ga = True

    _config_class: ClassVar[type[BaseRewardConfig]] = BaseRewardConfig
    _columns: ClassVar[list[str]] = []
    _tag_names = ["trl", "hf-reward-ext"]
    _card_settings: ClassVar[list[str]] = []  # training arguments that the card lists

    def __init__(
        self,
        model,
        args: BaseRewardConfig | None = None,
        data_collator: Callable[[list[dict]], dict[str, Tensor]] | None = None,
        train_dataset: Dataset | IterableDataset | None = None,
        eval_dataset: Dataset | IterableDataset | Mapping[str, Dataset | IterableDataset] | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        compute_metrics: Callable | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        optimizer_cls_and_kwargs: tuple[type, dict] | None = None,
        preprocess_logits_for_metrics: Callable | None = None,
        quantization_config=None,
        peft_config=None,
    ):
        args = args or self._config_class(f"{model_name(model).split('/')[-1] or 'model'}-{self._name}")
        if wants_shards(args):
            self._check_sharding(args)
        train_dataset = plain_dataset(train_dataset, "train")
        check_length(train_dataset, args)
        keep_batches_whole(args)
        if isinstance(eval_dataset, Mapping):
            check_best_metric(eval_dataset, args)
            eval_dataset = {name: plain_dataset(dataset, name) for name, dataset in eval_dataset.items()}
        elif eval_dataset is not None:
            eval_dataset = plain_dataset(eval_dataset, "eval")
        for name, dataset in named_datasets(train_dataset, eval_dataset).items():
            self._check_rows(dataset, name, args)
        if not isinstance(model, str):
            check_unused(args, quantization_config)
        model = self._load_model(model, args, quantization_config)
        check_peft_config(model, peft_config)
        causal_lm = check_causal_lm(model)
        if processing_class is None:
            processing_class = load_processing_class(causal_lm, args)
        may_grow = self._trains_all_weights(args) and peft_config is None and model is causal_lm
        set_special_tokens(causal_lm, processing_class, args, may_grow=may_grow)
        require_vocabulary(causal_lm, processing_class, "model")
        for name, dataset in named_datasets(train_dataset, eval_dataset).items():
            require_known_text(rows_to_check(dataset), processing_class, name, num_embeddings(causal_lm))
        model, peft_config = self._build_model(model, args, processing_class, peft_config)
        train_dataset, eval_dataset = self._split(train_dataset, eval_dataset, args, processing_class)
        self._averages = {"train": Averages(), "eval": Averages()}
        self._terms: dict[str, tuple[str, float]] = {}
        with one_label(model.config), consumed(args, "model_init_kwargs", "chat_template_path"):
            super().__init__(
                model=model,
                args=args,
                data_collator=data_collator or self._collator(args, processing_class),
                train_dataset=train_dataset,
                eval_dataset=cast(Any, eval_dataset),
                processing_class=processing_class,
                compute_metrics=compute_metrics,
                callbacks=callbacks,
                optimizers=optimizers,
                optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
                preprocess_logits_for_metrics=preprocess_logits_for_metrics,
                peft_config=peft_config,
            )
        check_sharded(args, self.accelerator)
        follow_progress_setting(self)
        self.add_callback(TokenCount)
        self.add_callback(FiniteGradients)

    def _check_rows(self, dataset: Dataset | IterableDataset, name: str, args: Any) -> None:
        """Reject malformed data before anything is loaded."""
        check_preference_rows(dataset, name)

    def _check_sharding(self, args: Any) -> None:
        """Reject settings with which FSDP cannot train or save the model; for a subclass."""

    def _load_model(self, model, args: Any, quantization_config):
        """Return the causal LM, with or without adapters, for the argument `model`."""
        return load_causal_lm(model, args, quantization_config) if isinstance(model, str) else model

    def _trains_all_weights(self, args: BaseRewardConfig) -> bool:
        """Return whether a causal LM without adapters is trained and saved whole."""
        return True

    def _build_model(self, model, args: Any, processing_class, peft_config):
        """Build the model to train from a causal LM, and return it with the adapter config that TRL has to apply."""
        return model, peft_config

    def _split(self, train_dataset, eval_dataset, args: Any, processing_class):
        """Return training and evaluation data; a subclass may hold out some of the former."""
        return train_dataset, eval_dataset

    def _prepare_dataset(self, dataset, processing_class, args: Any, dataset_name):  # pyright: ignore
        """Tokenize preference pairs; for a subclass that reads other rows."""
        return prepare_preference_dataset(
            dataset,
            processing_class,
            max_length=args.max_length,
            turns=args.turns,
            num_proc=args.dataset_num_proc,
            name=dataset_name,
            chat_template_kwargs=args.chat_template_kwargs,
        )

    def _collator(self, args: Any, processing_class):
        return PairCollator(processing_class.pad_token_id, cast(int | None, args.pad_to_multiple_of))

    def _batch_loss(self, model, inputs: dict[str, Tensor]) -> BatchLoss:
        """Return the loss, metrics and predictions of one batch."""
        raise NotImplementedError(f"`{type(self).__name__}` has no loss.")

    def _count_items(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the number of items of each unit in each row of a batch of [`PairCollator`]."""
        chosen, rejected = inputs["completion_mask"].sum(-1).chunk(2)
        return {"pairs": torch.ones_like(chosen), "chosen_tokens": chosen, "rejected_tokens": rejected}

    def _evaluation_metrics(self, metrics: dict[str, float], prefix: str) -> dict[str, float]:
        """Return the metrics that are computed once, from those of a whole evaluation set."""
        return {}

    def train(self, resume_from_checkpoint=None, trial=None, ignore_keys_for_eval=None):
        """As [`~transformers.Trainer.train`]; a disk that is full is named, before the first step where it can be."""
        if self.args.should_save:
            check_room(cast(Any, self.model), str(self.args.output_dir))
        with naming_folder(str(self.args.output_dir)):
            return super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)

    def _init_training_state(
        self, max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
    ):
        """Restore the progress; a checkpoint of a training that was complete gets no further step."""
        progress = super()._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
        )
        is_ended = restore_patience(self.callback_handler.callbacks, self.state)
        return (num_train_epochs, 0) if is_ended or self.state.global_step >= max_steps else progress

    def _set_signature_columns_if_needed(self):
        if self._signature_columns is None:
            self._signature_columns = list(self._columns)

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        return super().get_batch_samples(self._marking_repeats(epoch_iterator), num_batches, device)

    def _marking_repeats(self, batches: Iterator[dict[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
        """Mark the rows of an epoch's last batch that count; accelerate adds repeated rows to it."""
        for batch in batches:
            state = self.accelerator.gradient_state
            remainder = self._remainder() if self.accelerator.num_processes > 1 and state.end_of_dataloader else 0
            if remainder > 0:
                rows = len(next(iter(self._count_items(batch).values())))
                index = torch.arange(rows) + rows * self.accelerator.process_index
                batch["counted"] = (index < remainder).to(self.args.device)
            yield batch

    def _remainder(self) -> int:
        """Return the number of rows of an epoch's last batch on all processes; 0 if it is full, -1 if it is unknown."""
        found = self.accelerator.gradient_state.remainder
        if found >= 0 or not isinstance(self.train_dataset, Dataset):
            return found
        # In an epoch that is resumed in its middle, accelerate does not have the size of the batches.
        is_split = self.accelerator.split_batches
        return len(self.train_dataset) % (self._train_batch_size * (1 if is_split else self.accelerator.num_processes))

    def _get_num_items_in_batch(self, batch_samples, device) -> dict[str, Tensor]:  # pyright: ignore
        """Return the number of items by unit in all batches of an optimizer step, the divisor of means over devices."""
        counts: dict[str, Tensor] = {}
        for batch in batch_samples:
            for unit, rows in self._count_items(batch).items():
                count = rows.sum() if "counted" not in batch else rows[batch["counted"]].sum()
                counts[unit] = counts.get(unit, 0) + count.to(device, torch.float32)
        if self.args.average_tokens_across_devices and self.accelerator.num_processes > 1 and counts:
            stacked = torch.stack(list(counts.values()))[None]
            means = cast(Tensor, self.accelerator.gather(stacked)).mean(0)
            counts = dict(zip(counts, means, strict=True))
        return counts

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        batch = self._batch_loss(model, inputs)
        if "counted" in inputs:
            batch = batch.only(inputs["counted"])
        self._record(batch, inputs)
        loss = total_loss(batch.terms, num_items_in_batch)
        return (loss, {"rewards": batch.rewards.detach()}) if return_outputs else loss

    def _record(self, batch: BatchLoss, inputs: dict[str, Tensor]) -> None:
        """Add the values of each row on all devices to the averages."""
        mode = "train" if self.model.training else "eval"
        self._terms = {f"{term.name}:{term.unit}": (term.name, term.weight) for term in batch.terms}
        sums = dict(zip(self._terms, [(term.values, term.counts) for term in batch.terms], strict=True))
        for name, values in batch.metrics.items():
            sums[name] = values if isinstance(values, tuple) else (values, torch.ones_like(values))
        columns = torch.stack([column.detach().float() for pair in sums.values() for column in pair])
        gather = self.accelerator.gather if mode == "train" else self.accelerator.gather_for_metrics
        gathered = cast(Tensor, gather(columns.T.contiguous())).T
        if mode == "train" and not gathered[: 2 * len(batch.terms)].isfinite().all():
            raise RuntimeError(non_finite_message("loss", self.args, self.state))
        for name, (values, counts) in zip(sums, gathered.view(len(sums), 2, -1).tolist(), strict=True):
            self._averages[mode].add(name, values, counts)
        if mode == "train":
            self._count_tokens(inputs)

    def _count_tokens(self, inputs: dict[str, Tensor]) -> None:
        if "attention_mask" not in inputs:
            return
        tokens = int(cast(Tensor, self.accelerator.gather(inputs["attention_mask"].sum())).sum())
        counter = next(one for one in self.callback_handler.callbacks if isinstance(one, TokenCount))
        counter.num_tokens += tokens // self._tp_size  # ranks of one group process the same tokens  # pyright: ignore[reportOperatorIssue]
        self._total_train_tokens = counter.num_tokens

    def _means(self, mode: str) -> tuple[dict[str, float], float | None]:
        """Return the means since the last log, including those of the loss and its terms."""
        means = self._averages[mode].pop()
        if not any(key in means for key in self._terms):
            return means, None
        terms = {key: means.pop(key, 0.0) for key in self._terms}  # a term without items adds nothing
        losses: dict[str, float] = {}
        for key, mean in terms.items():
            name = self._terms[key][0]
            losses[name] = losses.get(name, 0.0) + mean
        total = sum(self._terms[key][1] * mean for key, mean in terms.items())
        if self._total_train_tokens:
            means["num_tokens"] = self._total_train_tokens
        return {**means, **(losses if len(losses) > 1 else {})}, total

    def predict(self, test_dataset, ignore_keys=None, metric_key_prefix="test"):
        """Run [`~transformers.Trainer.predict`], tokenizing rows that are not tokenized yet."""
        prepared = self._prepare_dataset(test_dataset, self.processing_class, self.args, "test")  # pyright: ignore[reportArgumentType]
        return super().predict(prepared, ignore_keys, metric_key_prefix)  # pyright: ignore[reportArgumentType]

    def evaluation_loop(
        self, dataloader, description, prediction_loss_only=None, ignore_keys=None, metric_key_prefix="eval"
    ):
        self._averages["eval"] = Averages()
        output = super().evaluation_loop(dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)
        means, loss = self._means("eval")
        means.update(self._evaluation_metrics(means, metric_key_prefix))
        metrics = cast(dict[str, float], output.metrics)
        if loss is not None:  # the mean of `Trainer` weights batches, not items
            metrics[f"{metric_key_prefix}_loss"] = loss
        for name, value in means.items():
            metrics.setdefault(f"{metric_key_prefix}_{name}", value)  # metrics of `compute_metrics` take precedence
        return output

    def log(self, logs, start_time=None):
        if self.model.training:
            logs.update(self._means("train")[0])
        super().log(logs, start_time)

    def _card_name(self) -> str:
        """Return the name or folder that the card's snippet loads the model from."""
        return self.args.hub_model_id or str(self.args.output_dir)

    def _card(self) -> CardText:
        """Return the text of the card, with a snippet that loads the saved model."""
        raise NotImplementedError(f"`{type(self).__name__}` has no card.")

    def _card_metrics(self) -> dict[str, float]:
        """Return the metrics of the final weights: of the best checkpoint if it is loaded, else of the last step."""
        rows = [row for row in self.state.log_history if any(key.startswith("eval_") for key in row)]
        step = self.state.best_global_step if self.args.load_best_model_at_end else None
        if step is None and rows:
            step = rows[-1]["step"]
        return {
            key: value
            for row in rows
            if row["step"] == step
            for key, value in row.items()
            if key.startswith("eval_") and isinstance(value, float) and "per_second" not in key
        }

    def create_model_card(self, model_name=None, dataset_name=None, tags=None):
        """Write the card of this library, because the example in TRL's card applies a sigmoid to rewards."""
        if not self.is_world_process_zero():
            return
        added = [tags] if isinstance(tags, str) else list(tags or [])
        text = self._card()
        write_model_card(
            str(self.args.output_dir),
            replace(text, tags=list(dict.fromkeys([*self._tag_names, *text.tags, *added]))),
            name=model_name,
            trainer=type(self).__name__,
            dataset=dataset_name,
            settings={name: getattr(self.args, name) for name in self._card_settings},
            metrics=self._card_metrics(),
        )

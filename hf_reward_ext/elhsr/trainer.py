"""Trains an ELHSR head on TRL's `RewardTrainer`."""

from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from torch import Tensor
from transformers import EarlyStoppingCallback, set_seed

from hf_reward_ext.base.preference.completion_start import set_completion_start
from hf_reward_ext.base.saving.card import CardText
from hf_reward_ext.base.training.trainer import BaseRewardTrainer
from hf_reward_ext.elhsr.data_collator import GroupCollator
from hf_reward_ext.elhsr.feature_cache import FeatureCache
from hf_reward_ext.elhsr.features import teacher_forced_features
from hf_reward_ext.elhsr.groups import GROUP_COLUMNS, check_labels, group_by_prompt
from hf_reward_ext.elhsr.losses import LOSSES
from hf_reward_ext.elhsr.metrics import fit_calibration, group_metrics
from hf_reward_ext.elhsr.model import ELHSRModel
from hf_reward_ext.elhsr.model_card import PAPER, card_text
from hf_reward_ext.elhsr.trainer_config import ELHSRConfig


class ELHSRTrainer(BaseRewardTrainer):
    r"""
    Trains a linear reward head on the hidden states of a frozen policy.

    $$ L = \operatorname{BCE}(R, y), \quad R = \frac{\sum_t g_t \rho_t}{\sum_t g_t} $$

    Section 3 of [ELHSR](https://huggingface.co/papers/2505.12225). The policy reads every completion once; the epochs
    run on its cached features. Unlike the authors' code the best epoch is kept, candidates of one prompt never fall
    on both sides of the split, and the token ids are the generated ones.

    Args:
        model (`str`, `PreTrainedModel` or `PeftModel`): The policy. It is not changed.
        args ([`ELHSRConfig`], *optional*): Training arguments.
        train_dataset (`Dataset` or `IterableDataset`): `{prompt, completion, label}`, `{prompt, completions, labels}`,
            preference pairs, or `{prompt_ids, completion_ids, label}`; see [`group_by_prompt`].
        eval_dataset (*optional*): The same. Default: `validation_fraction` of the prompts of a map-style dataset.
        processing_class (*optional*): The policy's tokenizer. Default: loaded by the policy's name.
        head ([`ELHSRModel`], *optional*): A head to train on; default: a fresh one for the policy.
        **kwargs: Other arguments of [`BaseRewardTrainer`] (`callbacks`, `optimizers`, ...).

    Raises:
        ValueError: Before the policy runs: missing columns, labels that are all the same, a policy without hidden
            states, options that exclude each other.

    Example:
    ```python
    >>> trainer = ELHSRTrainer(policy, ELHSRConfig("out"), train_dataset=rows, processing_class=tokenizer)
    >>> trainer.train()
    >>> trainer.save_model()  # ELHSRModel.from_pretrained("out")
    ```
    """

    args: ELHSRConfig
    model: ELHSRModel
    loss_is_scaled_for_ga = False

    _config_class = ELHSRConfig
    _tag_names = ["trl", "hf-reward-ext", "elhsr"]
    _name = "ELHSR"
    _paper = PAPER
    _card_settings = ["loss_type", "learning_rate", "num_train_epochs"]
    _columns = [*GROUP_COLUMNS, "cache", "row"]

    def __init__(
        self,
        model,
        args: ELHSRConfig | None = None,
        data_collator=None,
        train_dataset: Dataset | IterableDataset | None = None,
        eval_dataset: Dataset | IterableDataset | dict | None = None,
        processing_class=None,
        compute_metrics=None,
        callbacks=None,
        optimizers=(None, None),
        optimizer_cls_and_kwargs=None,
        preprocess_logits_for_metrics=None,
        quantization_config=None,
        peft_config=None,
        *,
        head: ELHSRModel | None = None,
    ):
        self._given_head = head
        self._caches: dict[str, FeatureCache] = {}
        self._eval_groups: list[tuple[np.ndarray, np.ndarray]] = []
        super().__init__(
            model,
            args,
            data_collator,
            train_dataset,
            eval_dataset,
            processing_class,
            compute_metrics,
            callbacks,
            optimizers,
            optimizer_cls_and_kwargs,
            preprocess_logits_for_metrics,
            quantization_config,
            peft_config,
        )
        if self.eval_dataset is not None and self.args.load_best_model_at_end and self.args.early_stopping_patience:
            self.add_callback(EarlyStoppingCallback(self.args.early_stopping_patience))

    def _build_model(self, model, args, processing_class, peft_config):
        if peft_config is not None:
            raise ValueError(
                "`peft_config` must be None, got one: ELHSR trains a head and leaves the policy as it is. Leave it out."
            )
        self.policy = model if hasattr(model, "hf_device_map") else model.to(args.device)
        head = self._given_head
        if head is None:
            set_seed(args.seed)
            head = ELHSRModel.from_policy(
                model,
                processing_class,
                layers=args.layers,
                gate=args.gate,
                features=args.features,
                top_logprobs=args.top_logprobs,
                standardize=args.standardize,
            )
        head.check_policy(model, processing_class)
        self._head = head
        return head, None

    def _split(self, train_dataset, eval_dataset, args, processing_class):
        if eval_dataset is None:
            train_dataset, eval_dataset = _hold_out(train_dataset, processing_class, args)
        if eval_dataset is None:
            args.eval_strategy = "no"
            args.load_best_model_at_end = False
        return train_dataset, eval_dataset

    def _collator(self, args, processing_class):
        return GroupCollator(self._caches, self._run_policy)

    def _run_policy(self, input_ids, attention_mask):
        device = self.policy.device
        self.policy.eval()
        features = teacher_forced_features(
            self.policy, self._head.config, input_ids.to(device), attention_mask.to(device)
        )
        return features.float().cpu()

    def _prepare_dataset(self, dataset, processing_class, args: ELHSRConfig, dataset_name):  # pyright: ignore
        if "cache" in (dataset.column_names or []):
            return dataset
        groups = group_by_prompt(
            dataset,
            processing_class,
            max_length=args.max_length,
            max_candidates=args.max_candidates_per_prompt,
        )
        streaming = isinstance(groups, IterableDataset)
        where = args.feature_cache or ("none" if streaming else "memory")
        if streaming and (where != "none" or args.standardize or args.loss_type in ("pairwise", "infonca", "nca")):
            raise ValueError(
                f"A streaming dataset was given with `feature_cache={where!r}`, `standardize={args.standardize}` and "
                f"`loss_type={args.loss_type!r}`, but rows that pass once are neither cached nor gathered by prompt. "
                "Use `feature_cache='none'` with 'bce' or 'hinge', or a map-style dataset."
            )
        if streaming:
            return groups
        groups = cast(Dataset, groups)
        if dataset_name == "train":
            check_labels(groups, args.loss_type)
            set_completion_start(self._head.config, groups["prompt_ids"][:], processing_class)
        if where == "none":
            return groups
        folder = Path(args.feature_cache_dir or Path(str(args.output_dir)) / "features") if where == "disk" else None
        cache = FeatureCache(groups, self._head.config, self.policy, folder)
        with args.main_process_first(local=True, desc="features"):
            cache.fill(args.feature_batch_size, show_progress=not args.disable_tqdm)
        if args.standardize and dataset_name == "train":
            mean, scale = cache.mean_and_scale()
            self._head.feature_mean.copy_(mean)
            self._head.feature_scale.copy_(scale)
        name = f"{dataset_name}-{len(self._caches)}"
        self._caches[name] = cache
        rows = [{"cache": name, "row": row, "labels": labels} for row, labels in enumerate(groups["labels"])]
        return Dataset.from_list(rows)

    def _count_items(self, inputs):
        return {}

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        mode = "train" if self.model.training else "eval"
        labels, groups = inputs["labels"], inputs["groups"]
        rewards = model(inputs["features"], inputs["completion_mask"])
        loss_function = LOSSES[self.args.loss_type]
        if self.args.loss_type in ("infonca", "nca"):
            loss_function = partial(loss_function, alpha=self.args.target_temperature)
        loss = loss_function(rewards, labels, groups)
        correct = ((rewards > 0) == (labels > 0.5)).float().mean().detach()
        self._metrics[mode]["accuracy"].append(cast(Tensor, self.accelerator.gather_for_metrics(correct)).mean().item())
        if mode == "eval":
            own = [
                (rewards[groups == group].float().cpu().numpy(), labels[groups == group].cpu().numpy())
                for group in groups.unique()
            ]
            self._eval_groups += self.accelerator.gather_for_metrics(own, use_gather_object=True)
        return (loss, {"rewards": rewards}) if return_outputs else loss

    def _evaluation_metrics(self, metrics, prefix):
        rewards, labels = zip(*self._eval_groups, strict=True)
        self._eval_groups = []
        return group_metrics(rewards, labels)

    def train(self, *args, **kwargs):
        """Trains, keeps the best epoch, folds the standardisation and calibrates on the held-out prompts."""
        result = super().train(*args, **kwargs)
        self._head.fold_standardization()
        if self.eval_dataset is not None and not isinstance(self.eval_dataset, dict):
            rewards, labels = self._held_out_rewards()
            self._head.config.calibration = fit_calibration(rewards, labels)
        return result

    @torch.no_grad()
    def _held_out_rewards(self) -> tuple[np.ndarray, np.ndarray]:
        rewards, labels = [], []
        self._head.eval()
        for batch in self.get_eval_dataloader():
            rewards += self._head(batch["features"], batch["completion_mask"]).float().tolist()
            labels += batch["labels"].tolist()
        return np.array(rewards), np.array(labels)

    def _card(self) -> CardText:
        return card_text(self._head.config, self._card_name(), self._card_name())


def _hold_out(dataset, processing_class, args: ELHSRConfig):
    """Splits prompts, never candidates of one prompt."""
    if isinstance(dataset, IterableDataset) or args.validation_fraction == 0:
        return dataset, None
    groups = cast(
        Dataset,
        group_by_prompt(
            dataset, processing_class, max_length=args.max_length, max_candidates=args.max_candidates_per_prompt
        ),
    )
    if len(groups) < 2:
        return groups, None
    check_labels(groups, args.loss_type)
    parts = groups.train_test_split(test_size=args.validation_fraction, seed=args.seed)
    return parts["train"], parts["test"]

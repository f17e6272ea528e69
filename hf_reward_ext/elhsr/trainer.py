"""Trainer of an ELHSR head, based on TRL's `RewardTrainer`."""

from collections.abc import Iterable
from pathlib import Path
from typing import cast
from uuid import uuid4

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from jaxtyping import Float
from torch import Tensor
from transformers import EarlyStoppingCallback, set_seed
from transformers.trainer_utils import TrainOutput

from hf_reward_ext.base.preference.completion_start import set_completion_start
from hf_reward_ext.base.preference.datasets import columns_of
from hf_reward_ext.base.preference.step_rows import STEP_LOSS
from hf_reward_ext.base.saving.card import CardText
from hf_reward_ext.base.training.loss import BatchLoss, LossTerm
from hf_reward_ext.base.training.step_options import prepare_steps
from hf_reward_ext.base.training.trainer import BaseRewardTrainer
from hf_reward_ext.elhsr.centroids import fit_centroids
from hf_reward_ext.elhsr.data_collator import GroupCollator
from hf_reward_ext.elhsr.feature_cache import FeatureCache
from hf_reward_ext.elhsr.features import teacher_forced_features
from hf_reward_ext.elhsr.groups import (
    GROUP_COLUMNS,
    SHARES,
    check_group_rows,
    check_labels,
    group_by_prompt,
)
from hf_reward_ext.elhsr.hold_out import split_by_prompt
from hf_reward_ext.elhsr.losses import LOSSES, count_items
from hf_reward_ext.elhsr.metrics import fit_calibration, group_metrics
from hf_reward_ext.elhsr.model import ELHSRModel
from hf_reward_ext.elhsr.model_card import card_text
from hf_reward_ext.elhsr.trainer_config import ELHSRConfig


class ELHSRTrainer(BaseRewardTrainer):
    r"""
    Trainer of a linear reward head on the hidden states of a frozen policy.

    $$ L = \operatorname{BCE}(R, y), \quad R = \frac{\sum_t g_t \rho_t}{\sum_t g_t} $$

    Section 3 of [ELHSR](https://huggingface.co/papers/2505.12225). The policy reads every completion once, and the
    epochs run on its cached features. Unlike in the authors' code, the best epoch is kept, candidates of one prompt are
    never on both sides of the split, and the token ids are the generated ones.

    Args:
        model (`str`, `PreTrainedModel` or `PeftModel`): Policy, which is not changed.
        args ([`ELHSRConfig`], *optional*): Training arguments.
        train_dataset (`Dataset` or `IterableDataset`): Rows `{prompt, completion, label}`,
            `{prompt, completions, labels}`, preference pairs, or `{prompt_ids, completion_ids, label}`; see
            [`group_by_prompt`]. With `loss_type="step_bce"` rows of steps, see [`read_labeled_steps`].
        eval_dataset (*optional*): Rows of the same formats. Default: `validation_fraction` of the prompts of a
            map-style dataset.
        processing_class (*optional*): Tokenizer of the policy. Default: loaded by the policy's name.
        head ([`ELHSRModel`], *optional*): Head to train further. Default: a new head for the policy.
        **kwargs: Other arguments of [`BaseRewardTrainer`] (`callbacks`, `optimizers`, ...).

    Raises:
        ValueError: Before the policy runs, if columns are missing, all labels are equal, the policy has no hidden
            states, or options exclude each other.

    Example:
    ```python
    >>> trainer = ELHSRTrainer(policy, ELHSRConfig("out"), train_dataset=rows, processing_class=tokenizer)
    >>> trainer.train()
    >>> trainer.save_model()  # ELHSRModel.from_pretrained("out")
    ```
    """

    args: ELHSRConfig
    model: ELHSRModel

    _config_class = ELHSRConfig
    _tag_names = ["trl", "hf-reward-ext", "elhsr"]
    _name = "ELHSR"
    _card_settings = ["loss_type", "learning_rate", "num_train_epochs"]
    _columns = [*GROUP_COLUMNS, "step_ends", "cache", "row", "width"]

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
        self._evaluated: list[tuple[np.ndarray, np.ndarray]] = []  # rewards and labels of each prompt
        super().__init__(
            model, args, data_collator, train_dataset, eval_dataset, processing_class, compute_metrics, callbacks,
            optimizers, optimizer_cls_and_kwargs, preprocess_logits_for_metrics, quantization_config, peft_config,
        )  # fmt: skip
        self.label_names = ["labels"]
        if self.eval_dataset is not None and self.args.load_best_model_at_end and self.args.early_stopping_patience:
            self.add_callback(EarlyStoppingCallback(self.args.early_stopping_patience))

    def _check_sharding(self, args: ELHSRConfig) -> None:
        raise ValueError(
            "`fsdp` must be left out: only a head of some thousand weights is trained, and the policy is not part of "
            "the trained model. Train replicas; a policy that is too large for a device can have a `device_map`."
        )

    def _check_rows(self, dataset, name, args):
        check_group_rows(dataset, args.loss_type, name)

    def _trains_all_weights(self, args):
        return False

    def _build_model(self, model, args, processing_class, peft_config):
        if peft_config is not None:
            raise ValueError(
                "`peft_config` must be None, got one: ELHSR trains a head and does not change the policy. Leave it out."
            )
        self.policy = model if hasattr(model, "hf_device_map") else model.to(args.device)
        head = self._given_head
        if head is None:
            set_seed(args.seed)
            head = ELHSRModel.from_policy(
                model,
                processing_class,
                layers=args.layers,
                gate=args.gate and args.loss_type != "centroids",
                attention=args.attention,
                mlp_size=args.mlp_size,
                features=args.features,
                top_logprobs=args.top_logprobs,
                standardize=args.standardize,
            )
        head.check_policy(model, processing_class)
        self._head = head
        return head, None

    def _split(self, train_dataset, eval_dataset, args, processing_class):
        if eval_dataset is None:
            train_dataset, eval_dataset = self._hold_out(train_dataset, processing_class, args)
        if eval_dataset is None:
            args.eval_strategy = "no"
            args.load_best_model_at_end = False
        return train_dataset, eval_dataset

    def _hold_out(self, dataset, processing_class, args: ELHSRConfig):
        """Split the data by prompts, never between candidates of one prompt."""
        if isinstance(dataset, IterableDataset) or args.validation_fraction == 0 or "cache" in columns_of(dataset):
            return dataset, None
        groups = cast(Dataset, self._group(dataset, processing_class, args, "train"))
        if len({tuple(ids) for ids in groups["prompt_ids"]}) < 2:
            return groups, None
        check_labels(groups, args.loss_type)
        return split_by_prompt(groups, args.validation_fraction, args.seed)

    def _collator(self, args, processing_class):
        return GroupCollator(self._caches, self._run_policy, args.pad_to_multiple_of)

    def _prepare_dataset(self, dataset, processing_class, args: ELHSRConfig, dataset_name):  # pyright: ignore
        groups = self._group(dataset, processing_class, args, dataset_name)
        if "width" in columns_of(groups):
            self._check_caches(groups, dataset_name)  # pyright: ignore[reportArgumentType]
            return groups
        if dataset_name == "train" and isinstance(groups, Dataset):
            check_labels(groups, args.loss_type)
            set_completion_start(self._head.config, groups["prompt_ids"][:], processing_class)
        return self._with_features(groups, args, dataset_name)

    def _check_caches(self, rows: Dataset, name: str) -> None:
        if "cache" in columns_of(rows) and not set(rows["cache"]) <= set(self._caches):
            raise ValueError(
                f"The {name} data must be rows of this trainer, got rows of another one, whose features are not here. "
                "Pass the rows that they were made from."
            )

    def _group(self, dataset, processing_class, args: ELHSRConfig, name: str) -> Dataset | IterableDataset:
        """Group rows by prompt, without running the policy; a response with labeled steps is a group of its own."""
        if args.loss_type == STEP_LOSS and "step_ends" not in columns_of(dataset):
            return prepare_steps(dataset, processing_class, args, name).map(_as_group)
        return group_by_prompt(
            dataset,
            processing_class,
            max_length=args.max_length,
            max_candidates=args.max_candidates_per_prompt,
            loss_type=args.loss_type,
            chat_template_kwargs=cast(dict | None, args.chat_template_kwargs),
            name=name,
        )

    def _with_features(self, groups: Dataset | IterableDataset, args: ELHSRConfig, name: str):
        """Return rows for the collator, after filling the feature cache if there is one."""
        streaming = isinstance(groups, IterableDataset)
        where = args.feature_cache or ("none" if streaming else "memory")
        if streaming and (where != "none" or args.standardize or args.loss_type not in SHARES):
            raise ValueError(
                "A streaming dataset must be used with `feature_cache='none'`, `standardize=False` and 'bce' or "
                f"'hinge', got `feature_cache={where!r}`, `standardize={args.standardize}` and "
                f"`loss_type={args.loss_type!r}`. Change them, or use a map-style dataset."
            )
        if isinstance(groups, IterableDataset):
            return groups
        width = max(map(len, groups["labels"]))
        if where == "none":
            return groups.add_column("width", [width] * len(groups))  # pyright: ignore[reportCallIssue]
        cache_name = self._fill_cache(groups, args, name, where)
        kept = [column for column in ("labels", "step_ends") if column in groups.column_names]
        return Dataset.from_list(
            [
                {"cache": cache_name, "row": row, "width": width, **{column: group[column] for column in kept}}
                for row, group in enumerate(cast(Iterable[dict], groups.select_columns(kept)))
            ]
        )

    def _fill_cache(self, groups: Dataset, args: ELHSRConfig, name: str, where: str) -> str:
        """Run the policy over all completions, and return the name of the cache."""
        folder = Path(args.feature_cache_dir or Path(str(args.output_dir)) / "features") if where == "disk" else None
        cache = FeatureCache(groups, self._head.config, self.policy, folder)
        with args.main_process_first(local=True, desc="features"):
            cache.fill(args.feature_batch_size, show_progress=not args.disable_tqdm)
        if args.standardize and name == "train":
            mean, scale = cache.mean_and_scale()
            self._head.feature_mean.copy_(mean)
            self._head.feature_scale.copy_(scale)
        cache_name = f"{name}-{uuid4().hex[:8]}"  # unique across trainers
        self._caches[cache_name] = cache
        return cache_name

    def _run_policy(self, input_ids, attention_mask):
        device = self.policy.device
        self.policy.eval()
        features = teacher_forced_features(
            self.policy, self._head.config, input_ids.to(device), attention_mask.to(device)
        )
        return features.float().cpu()

    def _count_items(self, inputs):
        labels = inputs["labels"]
        counts = [count_items(self.args.loss_type, row[~row.isnan()]) for row in labels]
        return {"items": torch.tensor(counts, device=labels.device)}

    def _batch_loss(self, model, inputs) -> BatchLoss:
        labels = inputs["labels"]
        given = ~labels.isnan()
        by_prompt = _rewards(model, inputs)
        counts = self._count_items(inputs)["items"]
        losses = [
            self._prompt_loss(own[one], label[one]) for own, label, one in zip(by_prompt, labels, given, strict=True)
        ]
        correct = ((by_prompt > 0) == (labels > 0.5)) & given
        if not self.model.training:
            self._remember(by_prompt, labels)
        return BatchLoss(
            [LossTerm("loss", torch.stack(losses) * counts, counts, "items")],
            {"accuracy": (correct.sum(-1).float(), given.sum(-1).float())},
            by_prompt,
        )

    def _prompt_loss(self, rewards: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss over the candidates, or their pairs, of one prompt."""
        scaled = {"alpha": self.args.target_temperature} if self.args.loss_type in ("infonca", "nca") else {}
        return LOSSES[self.args.loss_type](rewards, labels, torch.zeros_like(labels, dtype=torch.long), **scaled)

    def _remember(self, rewards: Tensor, labels: Tensor) -> None:
        rows = [(own[~label.isnan()].float().cpu().numpy(), label[~label.isnan()].cpu().numpy())
                for own, label in zip(rewards, labels, strict=True)]  # fmt: skip
        self._evaluated += self.accelerator.gather_for_metrics(rows, use_gather_object=True)

    def evaluation_loop(
        self, dataloader, description, prediction_loss_only=None, ignore_keys=None, metric_key_prefix="eval"
    ):
        self._evaluated = []
        return super().evaluation_loop(dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)

    def _evaluation_metrics(self, metrics, prefix):
        rewards, labels = zip(*self._evaluated, strict=True)
        if self.args.loss_type == STEP_LOSS:  # steps are no candidates, of which the best would be chosen
            rewards, labels = (list(np.concatenate(parts)[:, None]) for parts in (rewards, labels))
        return group_metrics(rewards, labels)

    def train(self, *args, **kwargs):
        """Train, keep the best epoch, fold the standardization, and calibrate on the held-out prompts."""
        if self.args.loss_type == "centroids":
            fit_centroids(self._head, self.get_train_dataloader(), self._sum_over_processes)
            result = TrainOutput(0, 0.0, {})
        else:
            result = super().train(*args, **kwargs)
        self._head.fold_standardization()
        if self.eval_dataset is not None:
            self._head.config.calibration = fit_calibration(*self._held_out_rewards())
        return result

    def _sum_over_processes(self, total: Tensor) -> Tensor:
        return self.accelerator.reduce(total.to(self.accelerator.device), "sum").cpu()  # pyright: ignore

    @torch.no_grad()
    def _held_out_rewards(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the rewards and labels of all evaluation sets, from all processes."""
        self._evaluated = []
        self._head.eval()
        sets = self.eval_dataset.values() if isinstance(self.eval_dataset, dict) else [self.eval_dataset]
        for dataset in sets:
            for batch in self.get_eval_dataloader(dataset):  # pyright: ignore[reportArgumentType]
                self._remember(_rewards(self._head, batch), batch["labels"])
        rewards, labels = (np.concatenate(parts) for parts in zip(*self._evaluated, strict=True))
        return rewards, labels

    def _card(self) -> CardText:
        return card_text(self._head.config, self._card_name(), self._card_name())


def _rewards(head, batch: dict[str, Tensor]) -> Float[Tensor, "prompts width"]:
    """Return the rewards of candidates, or of steps, in the form of their labels."""
    if "step_ends" in batch:
        return head(batch["features"], batch["completion_mask"], batch["step_ends"])
    labels = batch["labels"]
    rewards = head(batch["features"], batch["completion_mask"])
    return torch.full_like(labels, torch.nan).masked_scatter(~labels.isnan(), rewards)


def _as_group(row: dict) -> dict:
    return {"completion_ids": [row["completion_ids"]]}

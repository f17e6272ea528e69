"""Arguments of all trainers: their checks, and how TRL receives what was applied already."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from datasets import Dataset, IterableDataset

from hf_reward_ext.base.training.trainer_config import BaseRewardConfig


def named_datasets(train_dataset, eval_dataset) -> dict[str, Dataset | IterableDataset]:
    """Return all data sets with their names; a set of evaluation data without a name is "eval"."""
    sets = eval_dataset if isinstance(eval_dataset, Mapping) else {"eval": eval_dataset}
    return {"train": train_dataset, **{str(name): dataset for name, dataset in sets.items() if dataset is not None}}


def check_length(train_dataset: Dataset | IterableDataset, args: BaseRewardConfig) -> None:
    """Raise `ValueError` for a stream without a number of steps."""
    if isinstance(train_dataset, IterableDataset) and args.max_steps <= 0:
        raise ValueError(
            f"`max_steps` must be positive for an `IterableDataset`, whose length is unknown, got {args.max_steps}. "
            "Set it in the training arguments."
        )


def keep_batches_whole(args: BaseRewardConfig) -> None:
    """Let every process read a stream itself, because accelerate would split a batch between a pair and its rows."""
    if args.accelerator_config.dispatch_batches:  # pyright: ignore[reportAttributeAccessIssue]
        raise ValueError(
            "`dispatch_batches` must be False or None, got True: a batch has several rows for each row of the data, "
            "and accelerate would cut them apart. Leave it out of `accelerator_config`."
        )
    args.accelerator_config.dispatch_batches = False  # pyright: ignore[reportAttributeAccessIssue]


def check_best_metric(eval_dataset: Mapping, args: BaseRewardConfig) -> None:
    """Raise `ValueError` if the best model of several evaluation sets is that of a metric of none of them."""
    metric = str(args.metric_for_best_model).removeprefix("eval_")
    if args.load_best_model_at_end and not any(metric.startswith(f"{name}_") for name in eval_dataset):
        names = ", ".join(f"'eval_{name}_loss'" for name in eval_dataset)
        raise ValueError(
            "`metric_for_best_model` must be a metric of one evaluation set where there are several, got "
            f"{args.metric_for_best_model!r}. Choose for example one of {names}."
        )


def check_unused(args: BaseRewardConfig, quantization_config) -> None:
    """Raise `ValueError` for arguments of loading with a model that is loaded already."""
    for name, value in (
        ("model_init_kwargs", args.model_init_kwargs),
        ("quantization_config", quantization_config),
    ):
        if value is not None:
            raise ValueError(
                f"`{name}` must be None for a model that is loaded already, got {value!r}. Use it when you load the "
                "model, or pass the model's name."
            )


@contextmanager
def one_label(config) -> Iterator[None]:
    """Set one label, which TRL requires of a reward model, and restore the labels of the causal LM afterwards."""
    fields = {field: getattr(config, field, None) for field in ("id2label", "label2id")}
    config.num_labels = 1
    try:
        yield
    finally:
        for field, value in fields.items():
            setattr(config, field, value)


@contextmanager
def consumed(args: BaseRewardConfig, *names: str) -> Iterator[None]:
    """Hide arguments that were applied to the causal LM already, so that TRL does not apply them again."""
    values = {name: getattr(args, name) for name in names}
    for name in names:
        setattr(args, name, None)
    try:
        yield
    finally:
        for name, value in values.items():
            setattr(args, name, value)

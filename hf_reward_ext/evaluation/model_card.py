"""Conversion of estimates to model card metadata (`model-index`)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from hf_reward_ext.base.stats.intervals import Estimate

_DATASETS = {
    "rewardbench": ("RewardBench", "allenai/reward-bench"),
    "rewardbench-2": ("RewardBench 2", "allenai/reward-bench-2"),
    "rm-bench": ("RM-Bench", "THU-KEG/RM-Bench"),
    "judgebench": ("JudgeBench", "ScalerLab/JudgeBench"),
    "llmbar": ("LLMBar", "princeton-nlp/LLMBar"),
    "processbench": ("ProcessBench", "Qwen/ProcessBench"),
    "prmbench": ("PRMBench", "hitsmy/PRMBench_Preview"),
}
_F1 = ("f1", "negative_f1", "prm_score")  # estimates that are means of precision and recall


def eval_results(
    estimates: Mapping[str, Estimate],
    format: str,
    confidence: float,
    dataset_name: str | None = None,
    dataset_type: str | None = None,
    dataset_split: str | None = None,
    task_type: str = "text-classification",
) -> list[EvalResult]:
    """
    Return one entry per estimate, with the interval in `metric_args`.

    Args:
        estimates (`dict` from `str` to [`Estimate`]): Measured values.
        format (`str`): Format of the rows, which determines the default name of the dataset.
        confidence (`float`): Confidence level of the intervals.
        dataset_name, dataset_type, dataset_split (`str`, *optional*): Title of the dataset, name on the
            Hub, and split.
        task_type (`str`, *optional*): Name of the task on the Hub.

    Raises:
        ValueError: If the dataset has no name.
    """
    known_name, known_type = _DATASETS.get(format, (None, None))
    name, kind = dataset_name or known_name, dataset_type or known_type
    if name is None or kind is None:
        raise ValueError(
            f"`dataset_name` and `dataset_type` must be given for {format!r} rows, got {dataset_name!r} and "
            f"{dataset_type!r}. Pass both."
        )
    return [
        EvalResult(
            task_type=task_type,
            dataset_type=kind,
            dataset_name=name,
            dataset_split=dataset_split,
            metric_type="f1" if key.partition("/")[0] in _F1 else "accuracy",
            metric_name=key,
            metric_value=round(estimate.value, 6),
            metric_args={
                "lower": round(estimate.lower, 6),
                "upper": round(estimate.upper, 6),
                "confidence": confidence,
            },
        )
        for key, estimate in estimates.items()
    ]


def add_to_model_card(folder: str | Path, results: Sequence[EvalResult], model_name: str | None = None) -> None:
    """
    Add results to the metadata of a saved model's `README.md`; results of other datasets are kept.

    Args:
        folder (`str` or `Path`): Folder of the saved model.
        results (`list` of `EvalResult`): Results, for example from [`PreferenceEvaluation.to_eval_results`].
        model_name (`str`, *optional*): Name of the model. Default: the name in the card, or of the folder.

    Raises:
        ValueError: If there is no card.

    Example:
    ```python
    >>> add_to_model_card("reward-model", result.to_eval_results())
    ```
    """
    path = Path(folder) / "README.md"
    if not path.is_file():
        raise ValueError(f"{path} is not there, but results are added to a card. Save the model with its card first.")
    card = ModelCard.load(path)
    data = cast(ModelCardData, card.data)
    new = {(result.dataset_type, result.metric_name) for result in results}
    kept = [one for one in data.eval_results or [] if (one.dataset_type, one.metric_name) not in new]
    data.eval_results = [*kept, *results]
    data.model_name = model_name or data.get("model_name") or Path(folder).resolve().name
    card.save(path)

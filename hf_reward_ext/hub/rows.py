"""Datasets on the Hub of rows that commands and writers made: candidates, completions, judgments, rows for trainers."""

import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from datasets import Dataset
from huggingface_hub import CommitInfo, DatasetCard, DatasetCardData

from hf_reward_ext.base.saving.card import CARD
from hf_reward_ext.base.saving.markdown import escape_markdown
from hf_reward_ext.base.saving.upload import push_folder
from hf_reward_ext.hub.columns import COLUMNS

_FILE = "train.parquet"
_TAGS = ["hf_reward_ext", "reward-model"]
_TEXT = """\
# {title}

{count} rows, made with [hf_reward_ext](https://github.com/hf-reward-ext/hf_reward_ext) {version} (Python {python}, \
transformers {transformers}).

```python
from datasets import load_dataset

rows = load_dataset({name!r}, split="train")
```

| column | content |
|---|---|
{columns}
"""


def save_rows(
    folder: str | Path,
    rows: Iterable[Mapping[str, Any]],
    *,
    title: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """
    Save rows as a folder that `load_dataset` reads: a parquet file and a dataset card.

    Args:
        folder (`str` or `Path`): Folder, created if missing.
        rows (iterable of `dict`, or `Dataset`): Rows of `bon`, `generate`, `judge` or `write_best_of_n`.
        title (`str`, *optional*): Title of the card. Default: the name of the folder.
        settings (`dict`, *optional*): Settings that the rows depend on, for the card: models, sampling, seed.

    Raises:
        ValueError: If there are no rows.

    Example:
    ```python
    >>> save_rows("outputs/candidates", Dataset.from_json("candidates.jsonl"))
    ```
    """
    folder, data = Path(folder), _as_dataset(rows)
    folder.mkdir(parents=True, exist_ok=True)
    data.to_parquet(folder / _FILE)
    columns = "\n".join(f"| `{name}` | {COLUMNS.get(name, 'column of the data')} |" for name in data.column_names)
    text = _TEXT.format(
        title=escape_markdown(title or folder.resolve().name),
        count=len(data),
        version=version("hf_reward_ext"),
        python=platform.python_version(),
        transformers=version("transformers"),
        name=str(folder),
        columns=columns,
    )
    if settings:
        lines = [f"| {escape_markdown(name)} | {escape_markdown(value)} |" for name, value in settings.items()]
        text += "\n".join(["", "| setting | value |", "|---|---|", *lines, ""])
    metadata = DatasetCardData(
        tags=_TAGS, configs=[{"config_name": "default", "data_files": [{"split": "train", "path": _FILE}]}]
    )
    DatasetCard(f"---\n{metadata.to_yaml()}\n---\n\n{text}").save(folder / CARD)


def push_rows(
    rows: Iterable[Mapping[str, Any]],
    repo_id: str,
    *,
    title: str | None = None,
    settings: Mapping[str, Any] | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str = "Upload rows with hf_reward_ext",
) -> CommitInfo:
    """
    Upload rows as a dataset of the Hub, with a card that explains their columns.

    Args:
        rows, title, settings: As for [`save_rows`].
        repo_id (`str`): Dataset on the Hub, created if it does not exist.
        private, token, revision, create_pr, commit_message (*optional*): As for [`push_folder`].

    Returns:
        `CommitInfo` of the Hub.

    Raises:
        ValueError: If there are no rows.

    Example:
    ```python
    >>> push_rows(Dataset.from_json("candidates.jsonl"), "me/candidates", private=True)
    ```
    """
    with TemporaryDirectory() as parent:
        folder = Path(parent) / repo_id.split("/")[-1]
        save_rows(folder, rows, title=title, settings=settings)
        return push_folder(
            folder, repo_id, private=private, token=token, revision=revision, create_pr=create_pr,
            commit_message=commit_message, repo_type="dataset",
        )  # fmt: skip


def _as_dataset(rows: Iterable[Mapping[str, Any]]) -> Dataset:
    if isinstance(rows, Dataset):
        data = rows
    else:
        listed = list(rows)
        names = dict.fromkeys(name for row in listed for name in row)
        data = Dataset.from_dict({name: [row.get(name) for row in listed] for name in names})
    if not len(data):
        raise ValueError("`rows` must have a row to save, got none. Pass rows of `bon`, `generate` or `judge`.")
    return data

"""The model card of every saved model: what it is, its base, and a snippet that runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

from hf_reward_ext.base.saving.markdown import escape_markdown

CARD = "README.md"

_TEXT = """\
# {name}

{what}

```python
{snippet}
```

{origin}; the method is described in [{paper_title}](https://huggingface.co/papers/{paper_id}).
"""


@dataclass(frozen=True)
class CardText:
    """
    The part of a card that depends on the saved model.

    Args:
        what (`str`): One paragraph.
        snippet (`str`): Python that loads and uses it.
        paper (`dict`): `title` and arXiv `id`.
        tags (`list[str]`): Metadata.
        base_model (`str`, *optional*): Name of the base on the Hub.
    """

    what: str
    snippet: str
    paper: Mapping[str, str]
    tags: Sequence[str]
    base_model: str | None = None


def write_model_card(
    folder: str | Path,
    text: CardText,
    *,
    name: str | None = None,
    trainer: str | None = None,
    dataset: str | None = None,
    settings: Mapping[str, object] | None = None,
    metrics: Mapping[str, float] | None = None,
) -> None:
    """
    Writes `README.md` with the Hub's metadata.

    Args:
        folder (`str` or `Path`): Folder of the saved model.
        text ([`CardText`]): The part that depends on the model.
        name (`str`, *optional*): Title. Default: the folder's name.
        trainer (`str`, *optional*): Class that trained it.
        dataset (`str`, *optional*): Name of its training data on the Hub.
        settings (`dict`, *optional*): Training arguments worth knowing, printed as a table.
        metrics (`dict`, *optional*): Last evaluation, printed as a table.
    """
    origin = "Made with `hf_reward_ext`"
    if trainer:
        origin = f"Trained with `{trainer}` of `hf_reward_ext`, on [TRL](https://github.com/huggingface/trl)"
    body = _TEXT.format(
        name=escape_markdown(name or Path(folder).resolve().name),
        what=text.what,
        snippet=text.snippet,
        origin=origin,
        paper_title=text.paper["title"],
        paper_id=text.paper["id"],
    )
    body += _table("training", {key: str(value) for key, value in (settings or {}).items()})
    body += _table("evaluation", {key: f"{value:.4g}" for key, value in sorted((metrics or {}).items())})
    data = ModelCardData(
        library_name="hf_reward_ext",
        tags=list(text.tags),
        base_model=text.base_model,
        datasets=[dataset] if dataset else None,
        license=None,
    )
    ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}").save(Path(folder) / CARD)


def hub_name(name: str | None) -> str | None:
    """The name of a base as metadata may carry it: no folder of this machine."""
    return name if name and not Path(name).is_dir() else None


def _table(title: str, values: Mapping[str, str]) -> str:
    if not values:
        return ""
    rows = "\n".join(f"| {escape_markdown(key)} | {escape_markdown(value)} |" for key, value in values.items())
    return f"\n| {title} | value |\n|---|---:|\n{rows}\n"

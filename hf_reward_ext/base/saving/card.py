"""Model cards of all saved models: a description, the base model, and an example that runs."""

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
        what (`str`): Description, one paragraph.
        snippet (`str`): Python code that loads and uses the model.
        paper (`dict`): `title` and arXiv `id`.
        tags (`list[str]`): Tags of the Hub's metadata.
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
    Write the model card `README.md` with metadata for the Hub.

    Args:
        folder (`str` or `Path`): Folder of the saved model.
        text ([`CardText`]): Part of the card that depends on the model.
        name (`str`, *optional*): Title. Default: the folder's name.
        trainer (`str`, *optional*): Name of the trainer class.
        dataset (`str`, *optional*): Name of its training data on the Hub.
        settings (`dict`, *optional*): Training arguments to show in a table.
        metrics (`dict`, *optional*): Metrics of the last evaluation, shown in a table.
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
    """Return the name of a base model for metadata, or `None` if it is a local folder."""
    return name if name and not Path(name).is_dir() else None


def _table(title: str, values: Mapping[str, str]) -> str:
    if not values:
        return ""
    rows = "\n".join(f"| {escape_markdown(key)} | {escape_markdown(value)} |" for key, value in values.items())
    return f"\n| {title} | value |\n|---|---:|\n{rows}\n"

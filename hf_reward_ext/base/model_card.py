"""The model card of everything we save: what it is, its base, and a snippet that runs."""

from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

_TEXT = """\
# {name}

{what}

```python
{snippet}
```

Trained with [{trainer}](https://github.com/huggingface/trl) and `hf_reward_ext`; the method is described in
[{paper_title}](https://huggingface.co/papers/{paper_id}).
"""


def write_model_card(
    folder: str | Path,
    *,
    name: str,
    what: str,
    snippet: str,
    trainer: str,
    paper: dict[str, str],
    tags: list[str],
    base_model: str | None = None,
    metrics: dict[str, float] | None = None,
) -> None:
    """
    Writes `README.md` with the Hub's metadata.

    Args:
        folder: Where the model is saved.
        name, what, snippet, trainer (`str`): Title, one paragraph, Python that uses the model, trainer class.
        paper (`dict`): `title` and arXiv `id`.
        tags (`list[str]`), base_model (`str`, *optional*): Metadata.
        metrics (`dict`, *optional*): Last evaluation, printed as a table.
    """
    text = _TEXT.format(
        name=name, what=what, snippet=snippet, trainer=trainer, paper_title=paper["title"], paper_id=paper["id"]
    )
    if metrics:
        rows = "\n".join(f"| {key} | {value:.4g} |" for key, value in sorted(metrics.items()))
        text += f"\n| evaluation | value |\n|---|---:|\n{rows}\n"
    data = ModelCardData(library_name="hf_reward_ext", tags=tags, base_model=base_model, license=None)
    ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}").save(Path(folder) / "README.md")

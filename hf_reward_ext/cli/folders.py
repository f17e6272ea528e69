"""Checks of model folders before loading, and errors of loading with the name of the model."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers import CONFIG_MAPPING

_JSON = ("config.json", "adapter_config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json")


def check_model_folder(folder: str | Path, option: str) -> None:
    """
    Reject a folder whose files cannot be those of a model.

    Args:
        folder (`str` or `Path`): Folder of the model.
        option (`str`): Name of the option, for messages.

    Raises:
        FileNotFoundError: If there is no config, or no weights.
        ValueError: If a file is truncated, not JSON, or of an unknown model type.
    """
    path = Path(folder)
    is_adapter = (path / "adapter_config.json").is_file() and not (path / "config.json").is_file()
    if not is_adapter and not (path / "config.json").is_file():
        raise FileNotFoundError(
            f"`{option}` must be the folder of a model, got {str(folder)!r}, but it has no config.json or "
            "adapter_config.json. Pass a folder that a trainer wrote."
        )
    for name in _JSON:
        if (path / name).exists():
            read = _read_object(path / name, folder, option)
            if name == "config.json":
                _check_type(read, folder, option)
    weights = sorted(path.glob("*.safetensors"))
    pattern = "adapter_model.safetensors" if is_adapter else "*.safetensors"
    if not any(file.is_file() for file in path.glob(pattern)):
        raise FileNotFoundError(
            f"`{option}` must be the folder of a model, got {str(folder)!r}, but it has no {pattern} with weights. "
            "Save the model again, or copy the folder again."
        )
    for file in weights:
        if not is_whole(file):
            raise _broken(file, folder, option, "is truncated or not a safetensors file")


def is_whole(file: Path) -> bool:
    """Return whether a safetensors file has the size given in its header."""
    try:
        with safe_open(file, "pt"):
            return True
    except (SafetensorError, OSError):
        return False


@contextmanager
def loading(name: str, option: str) -> Iterator[None]:
    """Add option and name to errors that transformers and PEFT raise while they load a model."""
    try:
        yield
    except (RuntimeError, OSError, KeyError, AttributeError, SafetensorError) as error:
        raise ValueError(
            f"`{option}` must be a model that can be loaded, got {name!r}: {' '.join(str(error).split())[:300]} Check "
            "its files, or save it again."
        ) from error


def _read_object(file: Path, folder: str | Path, option: str) -> dict[str, Any]:
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise _broken(file, folder, option, "is truncated or not JSON") from error
    if not isinstance(read, dict):
        raise _broken(file, folder, option, "has no JSON object")
    return read


def _check_type(config: dict[str, Any], folder: str | Path, option: str) -> None:
    kind = config.get("model_type")
    if kind is None:
        raise _broken(Path(folder) / "config.json", folder, option, "has no `model_type`")
    if kind not in CONFIG_MAPPING and "auto_map" not in config:
        raise ValueError(
            f"`{option}` must be a model that this version of transformers has, got {str(folder)!r}, whose config.json "
            f"has the `model_type` {kind!r}. Check the file, or install a newer version."
        )


def _broken(file: Path, folder: str | Path, option: str, flaw: str) -> ValueError:
    return ValueError(
        f"`{option}` must be the folder of a model, got {str(folder)!r}, but its {file.name} {flaw} (it may be a "
        "pointer of git-lfs, or an interrupted download). Copy it again."
    )

"""Tensors in a checkpoint, read from its safetensors files without loading the model or using the network."""

import json
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from safetensors import safe_open

_WHOLE = ("model.safetensors", "adapter_model.safetensors")
_INDEX = "model.safetensors.index.json"


class SavedTensors:
    """
    Names and values of the tensors in a folder, or in the local copy of a repository of the Hub.

    Args:
        path_or_repo (`str` or `Path`): Folder, or name on the Hub.

    Attributes:
        names (`dict[str, Path]`): File of each tensor; empty if there are no safetensors files.
        architecture (`str`, *optional*): Architecture in the checkpoint's `config.json`.
    """

    def __init__(self, path_or_repo: str | Path):
        self.path_or_repo = str(path_or_repo)
        self.names: dict[str, Path] = {}
        for file in self._files():
            with safe_open(file, "pt") as tensors:
                self.names |= dict.fromkeys(tensors.keys(), file)
        config = _local(self.path_or_repo, "config.json")
        architectures = json.loads(config.read_text(encoding="utf-8")).get("architectures") if config else None
        self.architecture: str | None = architectures[0] if architectures else None

    def _files(self) -> list[Path]:
        whole = [file for name in _WHOLE if (file := _local(self.path_or_repo, name))]
        index = _local(self.path_or_repo, _INDEX)
        if whole or index is None:
            return whole
        parts = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        return [file for name in parts if (file := _local(self.path_or_repo, name))]

    def name_of(self, parameter: str) -> str | None:
        """Return the saved name of a parameter, which may differ by a prefix."""
        if parameter in self.names:
            return parameter
        longer = (name for name in self.names if name.endswith(f".{parameter}") or parameter.endswith(f".{name}"))
        return next(longer, None)

    def begins_as(self, name: str, values: torch.Tensor, rows: int = 64) -> bool:
        """Return whether the first rows of a saved tensor equal `values`, in the float type of `values`."""
        with safe_open(self.names[name], "pt") as tensors:
            part: Any = tensors.get_slice(name)
            saved = part[:rows] if part.get_shape() else tensors.get_tensor(name)
        own = values.detach()[:rows] if values.dim() else values.detach()
        return saved.shape == own.shape and torch.equal(saved.to(own.dtype), own.cpu())


def _local(path_or_repo: str, name: str) -> Path | None:
    if Path(path_or_repo).is_dir():
        file = Path(path_or_repo) / name
        return file if file.is_file() else None
    if not path_or_repo or path_or_repo.count("/") > 1:
        return None
    cached = try_to_load_from_cache(path_or_repo, name)
    return Path(cached) if isinstance(cached, str) else None

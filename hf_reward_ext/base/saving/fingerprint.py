"""Fingerprints of models, so that results of one model are never completed with another."""

import hashlib
import json
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import torch
from torch import Tensor, nn

_FILES = (
    "*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", "adapter_config.json",
    "tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "chat_template.*",
    "*.jinja", "*.model", "*.py",
)  # fmt: skip
_WHOLE = 2**30  # number of bytes hashed in full; larger files are identified by size, time and both ends
_SAMPLE = 4096


def model_files(folder: str | Path) -> list[Path]:
    """Return the files in a folder from which a model is loaded."""
    paths = sorted(path for path in Path(folder).iterdir() if path.is_file())
    return [path for path in paths if any(fnmatch(path.name, pattern) for pattern in _FILES)]


def fingerprint_folder(folder: str | Path) -> str:
    """
    Return the first 16 hexadecimal digits of the hash of all files of a model, independent of its path.

    Args:
        folder (`str` or `Path`): The saved model.
    """
    found = hashlib.sha256()
    for path in model_files(folder):
        found.update(f"{path.name}:{fingerprint_file(path)};".encode())
    return found.hexdigest()[:16]


def fingerprint_file(path: str | Path) -> str:
    """Return the hash of a file's content, or for a large file of its size, time, beginning and end."""
    path = Path(path)
    with path.open("rb") as file:
        size = path.stat().st_size
        if size <= _WHOLE:
            return hashlib.file_digest(file, "sha256").hexdigest()
        found = hashlib.sha256(f"{size}:{path.stat().st_mtime_ns}".encode())
        found.update(file.read(2**24))
        file.seek(size - 2**24)
        found.update(file.read())
        return found.hexdigest()


def fingerprint_weights(model: nn.Module) -> str:
    """
    Return the fingerprint of a model in memory, from a sample of each weight; it changes with further training.

    Args:
        model (`nn.Module`): Model on any device; offloaded weights are identified by name and shape.
    """
    found = hashlib.sha256()
    for name, weight in model.state_dict(keep_vars=True).items():
        if isinstance(weight, Tensor):
            for text in _describe(name, weight.detach()):
                found.update(text)
    return found.hexdigest()[:16]


def _describe(name: str, weight: Tensor) -> Iterator[bytes]:
    yield json.dumps([name, str(weight.dtype), list(weight.shape)]).encode()
    if hasattr(weight, "__tensor_flatten__"):  # a quantized weight consists of several tensors
        names, _ = weight.__tensor_flatten__()  # pyright: ignore[reportAttributeAccessIssue]
        for part in names:
            yield from _describe(part, getattr(weight, part))
    elif not weight.is_meta and weight.numel():
        values = weight.reshape(-1)
        sample = values[:: max(1, len(values) // _SAMPLE)]
        yield sample.contiguous().view(torch.uint8).cpu().numpy().tobytes()

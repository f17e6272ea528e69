"""Memory of the weights of a saved model, from the headers of its files."""

import json
import re
from math import prod
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, NotASafetensorsRepoError, OfflineModeIsEnabled
from safetensors import safe_open
from transformers.utils import cached_file

_INDEX, _WHOLE, _ADAPTER = "model.safetensors.index.json", "model.safetensors", "adapter_model.safetensors"
_WIDE_FLOATS = ("F64", "F32", "F16", "BF16")  # narrower ones are quantized, and stay as they are


def weight_bytes(name: str, revision: str | None = None, float_bits: int | None = None) -> int | None:
    """
    Return the number of bytes of the weights of a model once they are loaded, from the headers of its files.

    Args:
        name (`str`): Name or folder of a model or adapter; the base of an adapter is not included.
        revision (`str`, *optional*): Branch, tag or commit on the Hub.
        float_bits (`int`, *optional*): Number of bits of each loaded float. Default: as in the files, and always so for
            quantized checkpoints.

    Returns:
        `int`, or `None` if the Hub cannot be asked for the headers.

    Example:
    ```python
    >>> weight_bytes("Qwen/Qwen3-0.6B", float_bits=32)
    3006529536
    ```
    """
    folder = _folder_of(name, revision)
    files = [] if folder is None else _weight_files(folder)
    counts = _counts_of_files(files) if files else _counts_on_hub(name, revision)
    if counts is None:
        return None
    if folder is not None and _is_quantized(folder):
        float_bits = None
    return sum(count * _bits(kind, float_bits) for kind, count in counts.items()) // 8


def _folder_of(name: str, revision: str | None) -> Path | None:
    """Return the folder with the config of a model, also of a cached one."""
    if Path(name).is_dir():
        return Path(name)
    for file in ("config.json", "adapter_config.json"):
        try:
            found = cached_file(name, file, revision=revision, _raise_exceptions_for_missing_entries=False)
        except OSError:  # neither a folder nor a repository; loading gives the reason
            return None
        if found is not None:
            return Path(found).parent
    return None


def _weight_files(folder: Path) -> list[Path]:
    """Return the files from which a model is loaded; none if one of them is not there yet."""
    if (folder / _INDEX).is_file():
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        files = [folder / file for file in sorted(set(index["weight_map"].values()))]
    else:
        files = [folder / file for file in (_WHOLE, _ADAPTER) if (folder / file).is_file()][:1]
    return files if all(file.is_file() for file in files) else []


def _counts_of_files(files: list[Path]) -> dict[str, int]:
    """Return the number of values of each type."""
    counts: dict[str, int] = {}
    for file in files:
        with safe_open(file, "pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118  not a dictionary
                tensor = tensors.get_slice(key)
                kind = tensor.get_dtype()
                counts[kind] = counts.get(kind, 0) + prod(tensor.get_shape())
    return counts


def _counts_on_hub(name: str, revision: str | None) -> dict[str, int] | None:
    try:
        found = HfApi().get_safetensors_metadata(name, revision=revision).parameter_count
        return {str(kind): count for kind, count in found.items()}
    except (HfHubHTTPError, NotASafetensorsRepoError, OfflineModeIsEnabled, OSError, ValueError):
        return None  # loading gives the reason


def _is_quantized(folder: Path) -> bool:
    config = folder / "config.json"
    return config.is_file() and "quantization_config" in json.loads(config.read_text(encoding="utf-8"))


def _bits(kind: str, float_bits: int | None) -> int:
    if float_bits is not None and kind in _WIDE_FLOATS:
        return float_bits
    digits = re.search(r"\d+", kind)  # of BF16, F8_E4M3, I64, but not of BOOL
    return int(digits.group()) if digits else 8

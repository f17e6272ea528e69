"""Checks of a checkpoint while it is loaded: the format, and no missing, unexpected or non-finite weights."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from json import JSONDecodeError
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers.utils import cached_file

from hf_reward_ext.base.saving.paths import check_path

_FILE = "model.safetensors"


def require_config(name: str | Path, kind: str, **hub_kwargs) -> None:
    """
    Reject a folder or repository without `config.json`.

    Args:
        name (`str` or `Path`): Folder or name on the Hub.
        kind (`str`): Expected kind of model, for messages.
        **hub_kwargs: Arguments of `cached_file` (`revision`, `token`, `subfolder`, ...).

    Raises:
        ValueError: If there is no `config.json`.
    """
    _require_file(name, "config.json", kind, hub_kwargs)


def check_loaded(name: str | Path, model: nn.Module, report: Mapping[str, Any]) -> None:
    """
    Reject a model that was not loaded completely.

    Args:
        name (`str` or `Path`): Folder or name on the Hub.
        model (`nn.Module`): Loaded model.
        report (`dict`): Loading report of `from_pretrained(..., output_loading_info=True)`.

    Raises:
        ValueError: If weights are missing, unexpected, not finite, or have another shape; the message names them.
    """
    for key, problem in (
        ("missing_keys", "lacks {}, which would be random"),
        ("mismatched_keys", "has another shape of {}"),
        ("unexpected_keys", "holds {} too, which this model does not have"),
    ):
        names = sorted(one if isinstance(one, str) else str(one[0]) for one in report.get(key) or ())
        is_packed = key == "unexpected_keys" and getattr(model, "hf_quantizer", None) is not None
        if names and not is_packed:  # quantized weights have additional tensors, such as scales
            refuse_weights(name, model, _FILE, problem.format(_some(names)))
    check_finite(name, model)


def check_finite(name: str | Path, model: nn.Module, file: str = _FILE) -> None:
    """
    Reject weights that are NaN or infinite.

    Raises:
        ValueError: If a weight is not finite; the message names it.
    """
    broken = [key for key, values in model.state_dict().items() if not _is_finite(values)]
    if broken:
        refuse_weights(name, model, file, f"holds NaN or infinity in {_some(broken)}")


def refuse_weights(name: str | Path, model: nn.Module, file: str, problem: str) -> None:
    """Raise `ValueError` about the weights of a checkpoint."""
    raise ValueError(
        f"The checkpoint {str(name)!r} must hold every weight of a `{type(model).__name__}`, finite and no other, but "
        f"{file} {problem}. Save the model again, or load an older checkpoint."
    )


@contextmanager
def naming_checkpoint(name: str | Path, is_plain: bool) -> Iterator[None]:
    """
    Turn errors of other libraries about the files of a checkpoint into one that names it.

    Args:
        name (`str` or `Path`): Folder or name on the Hub.
        is_plain (`bool`): Whether the caller gave no other arguments, so that every error is about the files.

    Raises:
        ValueError: If a file of the checkpoint is damaged.
    """
    try:
        yield
    except Exception as error:
        is_of_file = isinstance(error, (SafetensorError, LookupError, AttributeError, ArithmeticError, UnicodeError))
        is_of_file |= isinstance(error, (AssertionError, JSONDecodeError)) or "size mismatch" in str(error)
        is_about_value = isinstance(error, (ValueError, TypeError, RuntimeError, ImportError))
        if str(name) in str(error) or not (is_of_file or is_plain and is_about_value):
            raise
        raise ValueError(
            f"The checkpoint {str(name)!r} must hold the files that `save_pretrained` wrote, but one is damaged or was "
            f"changed ({type(error).__name__}: {' '.join(str(error).split())}). Save the model again, or load an older "
            "checkpoint."
        ) from error


@contextmanager
def whole_adapter(name: str | Path, **hub_kwargs) -> Iterator[None]:
    """
    Reject an adapter with missing weights, which PEFT would initialize, or one stored as a pickle.

    Args:
        name (`str` or `Path`): Folder or name on the Hub.
        **hub_kwargs: Arguments of `cached_file` (`revision`, `token`, `subfolder`, ...).

    Raises:
        ValueError: If weights are missing, or there is no safetensors file.
    """
    _require_file(name, "adapter_model.safetensors", "an adapter", hub_kwargs)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Found missing adapter keys")
        try:
            with naming_checkpoint(name, is_plain=False):
                yield
        except UserWarning as error:
            if "Found missing adapter keys" not in str(error):
                raise
            lost = str(error).partition(":")[2].strip().rstrip(".")
            raise ValueError(
                f"The checkpoint {str(name)!r} must hold every weight of its adapter, but adapter_model.safetensors "
                f"lacks {lost}, which would be random. Save the adapter again, or load an older checkpoint."
            ) from error


def _require_file(name: str | Path, file: str, kind: str, hub_kwargs: dict[str, Any]) -> None:
    check_path(name)
    if cached_file(str(name), file, _raise_exceptions_for_missing_entries=False, **hub_kwargs) is None:
        raise ValueError(
            f"{str(name)!r} must hold {kind}, but it has no {file}. Pass the folder that `save_pretrained` wrote."
        )


def _is_finite(values: torch.Tensor) -> bool:
    if hasattr(values, "__tensor_flatten__"):  # a quantized weight has no operations, but the tensors in it do
        names, _ = values.__tensor_flatten__()  # pyright: ignore[reportAttributeAccessIssue]
        return all(_is_finite(getattr(values, name)) for name in names)
    if not values.is_floating_point() or values.is_meta:
        return True
    values = values if values.dtype.itemsize > 1 else values.float()  # `isfinite` has no 8-bit floats
    return bool(torch.isfinite(values).all())


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{names[:5]}{more}"

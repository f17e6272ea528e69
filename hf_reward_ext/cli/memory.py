"""Refusal of models that do not fit in memory, before a weight is read."""

import os
from dataclasses import fields
from pathlib import Path
from typing import cast

import psutil
import torch
from accelerate.utils import get_max_memory

from hf_reward_ext.base.saving.weight_size import weight_bytes
from hf_reward_ext.cli.models import base_of
from hf_reward_ext.cli.options import LoadingOptions, is_function, is_training_free, is_url
from hf_reward_ext.demo.policy import NAME as DEMO_POLICY

_GROUPS = Path("/sys/fs/cgroup")
# Of both versions of control groups: files with limit and use, and the pages of files within the use.
_FIRST = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_SECOND = ("memory.max", "memory.current", "inactive_file")
_GIB = 2**30
FLOAT_BITS = {"auto": None, "float32": 32, "bfloat16": 16, "float16": 16}


def check_memory(options: LoadingOptions) -> None:
    """
    Reject models whose weights need more memory than there is, from the headers of their files.

    Models that several options name, and bases, are counted once.

    Args:
        options ([`LoadingOptions`]): Options of a command, whose fields have a `kind`.

    Raises:
        ValueError: If the weights do not fit; the message has the estimate, what is available, and the remedy.
    """
    check_weights(_models_of(options), FLOAT_BITS[options.dtype], options.device)


def check_weights(models: dict[str, str | None], float_bits: int | None, device: str | None) -> None:
    """
    Reject models whose weights need more memory than there is.

    Args:
        models (`dict[str, str | None]`): Revision of each model by name or folder.
        float_bits (`int`, *optional*): Number of bits of each loaded float, `None` for those of the files.
        device (`str`, *optional*): Device; `"auto"` for all of them. Default: the first GPU, or the CPU.

    Raises:
        ValueError: If they do not fit.
    """
    needed = _needed(models, float_bits)
    device = device or _default_device()
    available = available_bytes(device)
    if available is None or needed <= available:
        return
    names = " and ".join(map(repr, models))
    where = "all devices" if device == "auto" else repr(device)
    raise ValueError(
        f"The weights of {names} must fit in memory: they need about {needed / _GIB:.3g} GiB, but "
        f"{available / _GIB:.3g} GiB are available on {where}. "
        f"{_remedy(models, needed, device, available)}"
    )


def _remedy(models: dict[str, str | None], needed: int, device: str, available: int) -> str:
    """Return what makes the weights fit."""
    if _needed(models, FLOAT_BITS["bfloat16"]) <= available:
        return "Load them with `--dtype bfloat16`."
    if device not in ("auto", "cpu") and needed <= cast(int, available_bytes("auto")):
        return "Distribute them with `--device auto` (`device_map`)."
    return "Use a quantized checkpoint (with a `quantization_config`), a smaller model, or a machine with more memory."


def _needed(models: dict[str, str | None], float_bits: int | None) -> int:
    return sum(weight_bytes(name, revision, float_bits) or 0 for name, revision in models.items())


def _models_of(options: LoadingOptions) -> dict[str, str | None]:
    """Return the revision of every model that the options name, and of the bases they have."""
    models: dict[str, str | None] = {}
    for field in fields(options):
        if field.metadata.get("kind") not in ("model", "scorer"):
            continue
        value = getattr(options, field.name)
        for name in value if isinstance(value, list) else [value]:
            if _is_loaded(name):
                models[name] = options.revision if field.metadata.get("revision") else None
    policy = getattr(options, "model", None)
    for name in list(models):
        base = base_of(name, models[name])
        if base is not None and _is_loaded(base) and (policy is None or name == policy):
            models.setdefault(base, None)
    return models


def _is_loaded(name: str | None) -> bool:
    """Return whether a name is that of a model with files."""
    if not name or name == DEMO_POLICY:
        return False
    return not (is_function(name) or is_training_free(name) or is_url(name))


def _default_device() -> str:
    return torch.accelerator.current_accelerator().type if torch.accelerator.is_available() else "cpu"


def available_bytes(device: str) -> int | None:
    """
    Return the memory that is free on a device; on a CPU the share of one of the processes of this machine.

    Args:
        device (`str`): `"cpu"`, `"cuda:0"`, ..., or `"auto"` for the CPU and all others.

    Returns:
        `int`, or `None` for a device that does not exist or cannot be asked.
    """
    if device == "auto":
        return sum(size for place, size in get_max_memory().items() if place not in ("cpu", "mps")) + _of_cpu()
    kind = device.partition(":")[0]
    if kind in ("cpu", "mps"):  # which share their memory
        return _of_cpu()
    module = getattr(torch, kind, None)
    if kind != _default_device() or not hasattr(module, "mem_get_info"):
        return None
    return module.mem_get_info(torch.device(device))[0]


def _of_cpu() -> int:
    limits = [psutil.virtual_memory().available, *_group_limits(), *_address_limits()]
    return max(0, min(limits)) // int(os.environ.get("LOCAL_WORLD_SIZE") or 1)


def _address_limits() -> list[int]:
    """Return what `ulimit -v` leaves of this process's address space."""
    if not hasattr(psutil, "RLIMIT_AS"):  # Linux only
        return []
    process = psutil.Process()
    limit = process.rlimit(psutil.RLIMIT_AS)[0]
    return [] if limit < 0 else [limit - process.memory_info().vms]


def _group_limits() -> list[int]:
    """Return what the control groups of this process leave, such as those of a container or of a batch system."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:  # another system
        return []
    limits = []
    for number, controllers, inner in (line.split(":", 2) for line in lines):
        if number == "0":
            limits += _limits_along(_GROUPS, inner, *_SECOND)
        elif "memory" in controllers.split(","):
            limits += _limits_along(_GROUPS / "memory", inner, *_FIRST)
    return limits


def _limits_along(root: Path, inner: str, *names: str) -> list[int]:
    """Return what is left to a group and each of those that it is in."""
    folder, limits = root / inner.strip("/"), []
    while folder.is_relative_to(root):
        limits += _limit_of(folder, *names)
        folder = folder.parent
    return limits


def _limit_of(folder: Path, limit_name: str, used_name: str, cached_name: str) -> list[int]:
    try:
        limit, used, statistics = (
            (folder / name).read_text(encoding="utf-8").strip() for name in (limit_name, used_name, "memory.stat")
        )
    except OSError:  # not every group has a limit
        return []
    if limit == "max":
        return []
    cached = dict(line.split() for line in statistics.splitlines()).get(cached_name, 0)  # given back when needed
    return [int(limit) - int(used) + int(cached)]

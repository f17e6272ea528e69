"""Sizes of the tour, its folders, and what is kept of finished stages."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hf_reward_ext.base.saving.atomic import replace_text


@dataclass(frozen=True)
class Size:
    """
    Numbers of a tour.

    Args:
        num_train, num_validation, num_test (`int`): Numbers of problems of each split.
        num_samples (`int`): Number of candidates per training and validation problem.
        num_candidates (`int`): Number of candidates per test problem.
        num_guided (`int`): Number of guided samples per test problem.
        num_pairs (`int`): Maximum number of pairs for guide and channel.
        num_judge_pairs (`int`): Number of pairs for the judge's training.
    """

    num_train: int = 160
    num_validation: int = 32
    num_test: int = 48
    num_samples: int = 8
    num_candidates: int = 16
    num_guided: int = 4
    num_pairs: int = 240
    num_judge_pairs: int = 240


SMALL = Size(
    num_train=6, num_validation=2, num_test=2, num_samples=4, num_candidates=4, num_guided=2, num_pairs=4,
    num_judge_pairs=4,
)  # fmt: skip


def check_settings(folder: Path, settings: dict[str, Any]) -> None:
    """
    Record the settings of a run, or compare them with those of the run that is resumed.

    Raises:
        ValueError: If the folder holds a run with other settings.
    """
    path = folder / "settings.json"
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        different = sorted(name for name in kept.keys() | settings if kept.get(name) != settings.get(name))
        if different:
            raise ValueError(
                f"`--output` must be new or hold a run with the same settings, but {different[0]} of {str(folder)!r} "
                f"is {kept.get(different[0])!r} and not {settings.get(different[0])!r}. Choose another folder, or "
                "delete it."
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    replace_text(path, json.dumps(settings, indent=1) + "\n")


def settings_of(model: str, dtype, size: Size, seed: int) -> dict[str, Any]:
    """Return the settings that results depend on."""
    return {"model": model, "dtype": str(dtype).removeprefix("torch."), "seed": seed, **asdict(size)}


def keep(path: Path, compute: Callable[[], Any]) -> Any:
    """
    Return the JSON value of a finished stage, which is computed and written if it is not there.

    The seconds of the stage are kept with it as `seconds`; a stage that resumed counts its last part only.
    """
    if not path.exists():
        started = time.perf_counter()
        value = compute()
        value["seconds"] = round(time.perf_counter() - started, 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, json.dumps(value) + "\n")
    return json.loads(path.read_text(encoding="utf-8"))

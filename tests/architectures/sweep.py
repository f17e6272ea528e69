"""From a use of an architecture to a cell of the table."""

import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from traceback import walk_tb

from architectures.build import UNBUILT
from architectures.subject import Subject
from architectures.uses import USES, UnsoundError, WrongError

import hf_reward_ext

KINDS = ("exact", "slow path", "refused", "n/a", "wrong", "crash")
_PACKAGE = str(Path(hf_reward_ext.__file__).parent)


@dataclass
class Cell:
    """One of `KINDS`, and for the last four what was seen."""

    kind: str
    note: str = ""


def cell(use, subject: Subject) -> Cell:
    """What comes of a use."""
    if not subject.modes:
        return Cell("n/a", subject.evidence)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return Cell("slow path" if use(subject) else "exact")
        except UnsoundError as error:
            return Cell("n/a", str(error)[:400])
        except WrongError as error:
            return Cell("wrong", str(error)[:400])
        except Exception as error:
            return Cell("refused" if is_ours(error) else "crash", f"{type(error).__name__}: {str(error)[:600]}")


def is_ours(error: Exception) -> bool:
    """Whether the package raised it itself, in whole sentences."""
    frames = [frame.f_code.co_filename for frame, _ in walk_tb(error.__traceback__)]
    sentences = str(error).rstrip().endswith(".") and str(error).count(". ") >= 1
    return frames[-1].startswith(_PACKAGE) and sentences and isinstance(error, (ValueError, TypeError, RuntimeError))


def row(model_type: str, uses=tuple(USES)) -> dict:
    """Everything about one architecture, ready for JSON."""
    if model_type in UNBUILT:
        return {"unbuilt": UNBUILT[model_type]}
    try:
        subject = Subject(model_type)
    except Exception as error:
        return {"unbuilt": f"{type(error).__name__}: {str(error)[:200]}", "is_new": True}
    return {
        "dtype": str(subject.dtype).removeprefix("torch."),
        "batch": subject.kind,
        "unsound": subject.unsound,
        "evidence": subject.evidence,
        "cells": {name: asdict(cell(USES[name], subject)) for name in uses},
    }

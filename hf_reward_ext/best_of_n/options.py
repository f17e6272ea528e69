"""Options of the `"reward-bon"` pipeline, checked before sampling."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np

from hf_reward_ext.base.options import SEED, check_callable
from hf_reward_ext.base.scoring.combine import max_rank, min_max
from hf_reward_ext.base.scoring.rewards import Rewards, check_rewards
from hf_reward_ext.best_of_n.pruning import Pruning
from hf_reward_ext.best_of_n.resampling import Resampling
from hf_reward_ext.best_of_n.stopping import BetaVotes, StopRule, as_stop_rule

_COMBINATIONS = {"max_rank": max_rank, "min_max": min_max}
# Arguments of `generate` that allow a single row.
_ONE_ROW = ("assistant_model", "assistant_early_exit", "prompt_lookup_num_tokens", "streamer")
_VOTES = ("majority", "weighted")


@dataclass(frozen=True)
class BestOfNOptions:
    """
    Options of a call of [`BestOfNPipeline`], which documents the fields.

    Raises:
        TypeError: If a value has another type.
        ValueError: If a value is out of range, or requires another option.
    """

    num_candidates: int | tuple[int, int] = 16
    stop: str | StopRule | None = None
    return_all: bool = False
    vote: str | None = None
    extract_answer: Callable | None = None
    prune: Pruning | Resampling | None = None
    candidates_per_batch: int | str | None = None
    combine: str | Callable | None = None
    seed: int | None = None
    show_progress: bool | None = None

    def __post_init__(self):
        self._check_counts()
        if isinstance(self.candidates_per_batch, str) and self.candidates_per_batch != "auto":
            raise TypeError(
                f"`candidates_per_batch` must be an integer or 'auto', got {self.candidates_per_batch!r}. Pass 'auto' "
                "to find what fits in memory."
            )
        if self.candidates_per_batch not in (None, "auto"):
            _check_count("candidates_per_batch", self.candidates_per_batch)
        if self.vote not in (None, *_VOTES):
            raise ValueError(f"`vote` must be 'majority' or 'weighted', got {self.vote!r}.")
        if self.vote is not None and self.extract_answer is None:
            raise ValueError(
                f"`extract_answer` must be given with `vote={self.vote!r}`, got None. Pass a callable from the "
                "completion text to an answer."
            )
        if self.extract_answer is not None:
            check_callable("extract_answer", self.extract_answer, ["completion"])
            if self.vote is None:
                raise ValueError(
                    "`vote` must be given with `extract_answer`, got None: answers are counted in votes alone. Pass "
                    "'majority' or 'weighted', or leave `extract_answer` out."
                )
        if self.prune is not None and not isinstance(self.prune, Pruning | Resampling):
            raise TypeError(f"`prune` must be a `Pruning` or a `Resampling`, got a `{type(self.prune).__name__}`.")
        if self.prune is not None and self.candidates_per_batch is not None:
            raise ValueError(
                "`candidates_per_batch` and `prune` must not be given together, because pruning compares all "
                "candidates of a prompt. Leave one out."
            )
        if callable(self.combine):
            check_callable("combine", self.combine, ["rewards", "second_rewards"])
        elif self.combine is not None and self.combine not in _COMBINATIONS:
            raise ValueError(f"`combine` must be one of {sorted(_COMBINATIONS)} or a callable, got {self.combine!r}.")
        if self.seed is not None:
            SEED.check("seed", self.seed)
            object.__setattr__(self, "seed", int(self.seed))  # `set_seed` takes no NumPy integers
        for name in ("return_all", "show_progress"):
            if not isinstance(getattr(self, name), bool | None):
                raise TypeError(f"`{name}` must be True or False, got {getattr(self, name)!r}. Pass one of them.")

    def _check_counts(self) -> None:
        counts = self.num_candidates
        if not isinstance(counts, tuple | list):
            _check_count("num_candidates", counts)
            if self.stop is not None:
                raise ValueError(
                    f"`stop` was given with `num_candidates={counts}`, but it decides between the least and the most. "
                    "Pass both, for example `num_candidates=(4, 64)`."
                )
            return
        object.__setattr__(self, "num_candidates", tuple(counts))
        if len(counts) != 2:
            raise ValueError(
                f"`num_candidates` must be a count, or the least and the most, got {counts!r}. Pass for example "
                "`(4, 64)`."
            )
        for count in counts:
            _check_count("num_candidates", count)
        if counts[0] > counts[1]:
            raise ValueError(f"`num_candidates` must be the least and the most, got {counts!r}. Swap them.")
        if self.stop is None:
            raise ValueError(
                f"`num_candidates={counts!r}` was given without `stop`, which decides how many are drawn. Pass for "
                "example `stop='beta'`, or one number."
            )
        if self.stop != "expected_improvement" and isinstance(as_stop_rule(self.stop), BetaVotes) and not self.vote:
            raise ValueError(
                "`stop` counts votes, but `vote` was not given. Pass `vote='majority'` and `extract_answer`, or "
                "another rule."
            )

    @property
    def is_adaptive(self) -> bool:
        """Whether a rule decides how many candidates are drawn."""
        return self.stop is not None

    @property
    def least_candidates(self) -> int:
        """Candidates that every prompt gets."""
        return self.num_candidates[0] if isinstance(self.num_candidates, tuple) else self.num_candidates

    @property
    def most_candidates(self) -> int:
        """Candidates that a prompt gets at most."""
        return self.num_candidates[1] if isinstance(self.num_candidates, tuple) else self.num_candidates

    def updated(self, given: Mapping[str, Any]) -> Self:
        """Return these options updated by those of a call; `None` means the default."""
        defaults = {field.name: field.default for field in fields(self)}
        return replace(self, **{name: defaults[name] if value is None else value for name, value in given.items()})

    def fuse(self, rewards: Rewards, second_rewards: Rewards) -> Rewards:
        """Combine both rewards of candidates, if there are two."""
        both = [index for index, pair in enumerate(zip(rewards, second_rewards, strict=True)) if None not in pair]
        fused: Rewards = [None] * len(rewards)
        if both:
            combine = self.combine if callable(self.combine) else _COMBINATIONS[self.combine or "min_max"]
            columns = [np.array([values[index] for index in both], dtype=float) for values in (rewards, second_rewards)]
            for index, value in zip(both, check_rewards(combine(*columns), both, "combine"), strict=True):
                fused[index] = value
        return fused


def check_generation(settings: Mapping[str, Any], num_candidates: int) -> None:
    """
    Reject settings of `generate` that do not give different candidates.

    Args:
        settings (`dict`): Effective generation settings.
        num_candidates (`int`): Number of candidates of each prompt.

    Raises:
        ValueError: For beams, `num_return_sequences`, and several candidates without sampling, or with a streamer or
            drafts.
    """
    if (settings.get("num_return_sequences") or 1) != 1:
        raise ValueError(
            "`num_return_sequences` must be None, since `num_candidates` sets the number of candidates. Leave it out."
        )
    if (settings.get("num_beams") or 1) > 1:
        raise ValueError(
            f"`num_beams` must be 1, since candidates are sampled, got {settings['num_beams']}. Leave it out."
        )
    for name in _ONE_ROW:
        if settings.get(name) is not None and num_candidates > 1:
            raise ValueError(
                f"`{name}` must be None for {num_candidates} candidates, since `generate` writes a single row with it. "
                "Leave it out."
            )
    if not settings.get("do_sample") and num_candidates > 1:
        raise ValueError(
            f"`do_sample` must be True for {num_candidates} candidates, which are all the same otherwise, got False. "
            "Pass `do_sample=True`."
        )


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"`{name}` must be an integer, got {value!r}.")
    if value < 1:
        raise ValueError(f"`{name}` must be at least 1, got {value}. Pass a positive number.")

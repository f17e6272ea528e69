"""Base classes of the rewards: TRL's signature, and what they log."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import Any

from hf_reward_ext.base.scoring.rewards import Rewards
from hf_reward_ext.base.scoring.scorer import Scorer

LogMetric = Callable[[str, float], None]
LogExtra = Callable[[str, list], None]


@dataclass
class Scored:
    """
    Rewards of a batch, and the values to log with them.

    Args:
        rewards (`list` of `float` or `None`): One reward per completion; `None` where the reward does not apply.
        metrics (`dict` from `str` to `float`, *optional*): Values of the batch, for the metrics of the trainer.
        extra (`dict` from `str` to `list`, *optional*): Values of each completion, for its table of completions.
    """

    rewards: Rewards
    metrics: dict[str, float] = field(default_factory=dict)
    extra: dict[str, list] = field(default_factory=dict)


class Reward(ABC):
    """
    Base class of rewards for the `reward_funcs` of TRL's trainers, which are scorers everywhere else too.

    Metrics and table columns are logged as `<name>/<value>`; every reward logs `<name>/answered_rate`, the share of
    completions with a reward.

    Args:
        name (`str`): Name in logs.
        parts (`list` of [`Scorer`], *optional*): Scorers that this reward calls.
    """

    def __init__(self, name: str, parts: Sequence[Scorer] = ()):
        self.__name__ = name
        self.parts = list(parts)

    @abstractmethod
    def compute(self, prompts: Sequence, completions: Sequence, columns: Mapping[str, Any]) -> Scored:
        """
        Compute the rewards of a batch.

        Args:
            prompts, completions (`list` of `str` or of messages): One prompt per completion.
            columns (`dict` from `str` to `list`): Columns of the data, and `completion_ids`, `log_metric`,
                `log_extra` if they were passed.
        """

    def score(
        self,
        prompts: Sequence,
        completions: Sequence,
        completion_ids: Sequence[Sequence[int]] | None = None,
        log_metric: LogMetric | None = None,
        log_extra: LogExtra | None = None,
        **columns,
    ) -> Rewards:
        """
        Compute and log the rewards of completions, synchronously.

        Args:
            prompts, completions (`list` of `str` or of messages): One prompt per completion.
            completion_ids (`list` of `list[int]`, *optional*): Token ids of the completions.
            log_metric, log_extra (`callable`, *optional*): Functions of the trainer that log a value of the batch, and
                a column of the table of completions.
            **columns: Columns of the data, one value per completion.

        Returns:
            `list` of `float` or `None`: One reward per completion; `None` where the reward does not apply.

        Raises:
            ValueError: If there are not as many prompts as completions, or a text cannot be read.
        """
        if len(prompts) != len(completions):
            raise ValueError(
                f"`prompts` must have one prompt per completion, got {len(prompts)} for {len(completions)}. Repeat "
                "the prompt for each of its completions."
            )
        given = {"completion_ids": completion_ids, "log_metric": log_metric, "log_extra": log_extra}
        columns |= {name: value for name, value in given.items() if value is not None}
        scored = self.compute(prompts, completions, columns)
        if log_metric is not None and scored.rewards:
            answered = sum(reward is not None for reward in scored.rewards) / len(scored.rewards)
            for name, value in {"answered_rate": answered, **scored.metrics}.items():
                log_metric(f"{self.__name__}/{name}", value)
        if log_extra is not None:
            for name, values in scored.extra.items():
                log_extra(f"{self.__name__}/{name}", values)
        return scored.rewards

    def scorer(self, tokenizer=None, batch_size: int = 16) -> Scorer:
        """Return the reward as a scorer, for [`as_scorer`]."""
        return Scorer(self.score, name=self.__name__, parts=self.parts)


class SyncReward(Reward):
    """Base class of rewards that need no waiting."""

    def __call__(
        self,
        prompts: Sequence,
        completions: Sequence,
        completion_ids: Sequence[Sequence[int]] | None = None,
        log_metric: LogMetric | None = None,
        log_extra: LogExtra | None = None,
        **columns,
    ) -> Rewards:
        """Compute and log the rewards; arguments as for [`score`]."""
        return self.score(prompts, completions, completion_ids, log_metric, log_extra, **columns)


class AsyncReward(Reward):
    """
    Base class of rewards that run a model: asynchronous, in a thread, one call at a time.

    A trainer of TRL awaits all asynchronous rewards together.
    """

    def __init__(self, name: str, parts: Sequence[Scorer] = ()):
        super().__init__(name, parts)
        self._lock = Lock()

    async def __call__(
        self,
        prompts: Sequence,
        completions: Sequence,
        completion_ids: Sequence[Sequence[int]] | None = None,
        log_metric: LogMetric | None = None,
        log_extra: LogExtra | None = None,
        **columns,
    ) -> Rewards:
        """Compute and log the rewards; arguments as for [`score`]."""
        score = partial(self.score, prompts, completions, completion_ids, log_metric, log_extra, **columns)
        return await asyncio.to_thread(score)

    def score(self, *args, **kwargs) -> Rewards:
        with self._lock:
            return super().score(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._lock = Lock()

"""Stopping rules, which decide from the candidates so far whether another one is sampled."""

import math
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_reward_ext.base.options import check_callable, check_number


@dataclass(frozen=True)
class Drawn:
    """
    Candidates of one prompt so far, in the order of sampling.

    Args:
        scores (`list`): Rewards; `None` for missing ones.
        num_tokens (`list[int]`): Numbers of generated tokens.
        completions (`list[str]`): Texts, without the prompt.
        answers (`list`, *optional*): Answers, if candidates vote; `None` is not counted.
    """

    scores: Sequence[float | None]
    num_tokens: Sequence[int]
    completions: Sequence[str]
    answers: Sequence[Hashable | None] | None = None


StopRule = Callable[[Drawn], Any]
"""Function of [`Drawn`] that returns a true value to stop; a text is used as the reason."""


@dataclass(frozen=True)
class BetaVotes:
    r"""
    Rule that stops when the leading answer will very probably win against the second one.

    $$ P(p_1 > 1/2 \mid v_1, v_2) = 1 - I_{1/2}(v_1 + 1, v_2 + 1) $$

    [Adaptive-Consistency](https://huggingface.co/papers/2305.11860), the Beta criterion: $v_1$ and $v_2$ are the votes
    of the first two answers, under a uniform prior. Every vote counts 1.

    Args:
        probability (`float`, *optional*, defaults to 0.95): Probability of the lead at which sampling stops.

    Example:
    ```python
    >>> pipe(prompt, num_candidates=(4, 64), stop=BetaVotes(0.99), vote="majority", extract_answer=last_number)
    ```
    """

    probability: float = 0.95

    def __post_init__(self):
        check_number("probability", self.probability, above=0, below=1)

    def __call__(self, drawn: Drawn) -> str | None:
        from scipy.special import betainc  # importing scipy is slow, and few calls need it

        votes = Counter(answer for answer in drawn.answers or () if answer is not None)
        counts = [count for _, count in votes.most_common(2)]
        if not counts:
            return None
        first, second = counts[0], counts[1] if len(counts) > 1 else 0
        return "beta" if 1 - betainc(first + 1, second + 1, 0.5) >= self.probability else None


@dataclass(frozen=True)
class ExpectedImprovement:
    r"""
    Rule that stops when the expected improvement by another candidate is less than its cost.

    $$ E[\max(U - u^*, 0)] \le c \bar{T} $$

    The index of Pandora's box, as in [optimal stopping for LLM generation](https://huggingface.co/papers/2510.01394):
    $u^*$ is the best so far and $\bar{T}$ the mean number of tokens of a candidate. Reconstructed: the distribution of
    the next reward is a Student t fitted to those of the prompt (a normal distribution of unknown mean and variance).
    At least three rewards are required before it stops.

    Args:
        price_per_token (`float`): Cost $c$ of a token in units of the reward, or of the probability of a correct
            completion with `calibration`.
        calibration (`tuple` of two `float`, *optional*): Slope and intercept of the logistic map from reward to
            probability (`head.config.calibration`); rewards are then
            converted to probabilities.

    Example:
    ```python
    >>> stop = ExpectedImprovement(1e-4, calibration=head.config.calibration)  # 100 tokens for a percent
    >>> pipe(prompt, num_candidates=(4, 64), stop=stop)
    ```
    """

    price_per_token: float
    calibration: tuple[float, float] | None = None

    def __post_init__(self):
        check_number("price_per_token", self.price_per_token, least=0)
        if self.calibration is not None:
            slope, intercept = self.calibration
            check_number("calibration", slope, above=0)
            check_number("calibration", intercept)
            object.__setattr__(self, "calibration", (slope, intercept))

    def __call__(self, drawn: Drawn) -> str | None:
        rewards = [score for score in drawn.scores if score is not None]
        if len(rewards) < 3:
            return None
        price = self.price_per_token * sum(drawn.num_tokens) / len(drawn.num_tokens)
        return "expected_improvement" if self.expected(rewards) <= price else None

    def expected(self, rewards: Sequence[float]) -> float:
        """Return the expected improvement of the best reward by one more sample, from at least three rewards."""
        from scipy.special import expit
        from scipy.stats import t as student

        values = np.asarray(rewards, dtype=float)
        freedom, best = len(values) - 1, float(values.max())
        scale = float(values.std(ddof=1)) * math.sqrt(1 + 1 / len(values))
        if scale == 0:
            return 0.0
        if self.calibration is None:
            gap = (best - float(values.mean())) / scale
            density = (freedom + gap**2) / (freedom - 1) * student.pdf(gap, freedom)
            return float(scale * (density - gap * student.sf(gap, freedom)))
        slope, intercept = self.calibration
        shares = (np.arange(2000) + 0.5) / 2000
        worth = expit(slope * (values.mean() + scale * student.ppf(shares, freedom)) + intercept)
        return float(np.maximum(worth - expit(slope * best + intercept), 0).mean())


def as_stop_rule(stop: Any) -> StopRule:
    """
    Return the rule for a value of `stop`.

    Args:
        stop (`"beta"` or callable): Rule; `"beta"` is `BetaVotes()`.

    Raises:
        TypeError: If it is neither text nor callable.
        ValueError: If the name is unknown.
    """
    if isinstance(stop, str):
        if stop != "beta":
            raise ValueError(
                f"`stop` must be 'beta', 'expected_improvement' or a callable of the candidates drawn, got {stop!r}."
            )
        return BetaVotes()
    if not callable(stop) or isinstance(stop, type):
        raise TypeError(
            "`stop` must be 'beta', 'expected_improvement' or a callable of the candidates drawn, got "
            f"`{stop.__name__ if isinstance(stop, type) else type(stop).__name__}`. Pass for example `BetaVotes(0.9)`."
        )
    check_callable("stop", stop, ["drawn"])
    return stop


def reason_to_stop(rule: StopRule, drawn: Drawn) -> str | None:
    """
    Return the reason of a rule as text; `None` to continue.

    Raises:
        TypeError: If the rule returns what is neither true nor false: NaN, several values, a coroutine.
    """
    found, name = rule(drawn), getattr(rule, "__name__", None) or type(rule).__name__
    if isinstance(found, str):
        return found or None
    try:
        is_true = bool(found) if bool(found == found) else None
    except (TypeError, ValueError, RuntimeError):  # of arrays and tensors
        is_true = None
    if is_true is None or isinstance(found, Awaitable | Iterator):
        raise TypeError(
            f"`stop` must return True, False, a text or None, got {found!r} from `{name}`. Compare, as in "
            "`len(drawn.scores) > 8`."
        )
    return name if is_true else None

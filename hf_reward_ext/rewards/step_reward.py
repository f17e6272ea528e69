"""Reward of a completion from the rewards of its steps."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from hf_reward_ext.base.options import check_choice
from hf_reward_ext.base.preference.validation import read_prompt
from hf_reward_ext.base.scoring.completion import CompletionScorer
from hf_reward_ext.base.scoring.scorer import as_single_scorer
from hf_reward_ext.rewards.reward import AsyncReward, Scored
from hf_reward_ext.rewards.steps import AGGREGATIONS, Aggregation, Splitter, aggregate_steps, check_marks, split_steps
from hf_reward_ext.rewards.texts import check_text_only, final_text

Credit = Literal["value", "difference"]


class StepReward(AsyncReward):
    r"""
    Reward from the rewards of the steps of a completion, which are those of its prefixes.

    $$ v_k = r(x, y_{\le k}), \qquad r_k = v_k \text{ ("value")} \quad \text{or} \quad v_k - v_{k-1}
       \text{ ("difference")} $$

    A difference is the credit of a step; that of the first step is its value. Models with rewards of prefixes (an ELHSR
    head, a channel, an autoregressive reward model, or the name of one) read all prefixes of a completion in one
    forward, at the last token of each step; only the whole completion ends with EOS. For other rewards $k$ prefixes
    are scored as $k$ texts; pass a [`ModelReward`] for batches and a cache. Of messages, the last one of the assistant
    is divided. A completion has no reward if one of its prefixes has none.

    Logs `<name>/steps`, the mean number of steps, and the column `<name>/step_rewards`.

    Args:
        reward (`callable` or model): Reward $r$ of a prefix, see [`as_scorer`].
        marks (`str` or `callable`, *optional*, defaults to two line breaks): What ends a step, see [`split_steps`].
        credit (`str`, *optional*, defaults to `"value"`): Reward of a step: `"value"` or `"difference"`.
        aggregation (`str`, *optional*, defaults to `"min"`): `"min"`, `"last"`, `"mean"` or `"product"` of the steps.
        probabilities (`bool`, *optional*, defaults to `False`): Whether values are log-odds, from which probabilities
            are computed. Required for a product.
        tokenizer (*optional*): Tokenizer of a model that is passed as an object.
        batch_size (`int`, *optional*, defaults to 16): Number of texts per forward of a model.
        name (`str`, *optional*): Name in logs. Default: the name of the reward with `_steps`.

    Raises:
        TypeError: If the reward cannot score text.
        ValueError: For another choice, a product without probabilities, or a malformed mark.

    Example:
    ```python
    >>> StepReward(ModelReward("path/to/reward_model"), aggregation="min").score(prompts, completions)
    ```
    """

    def __init__(
        self,
        reward: Any,
        marks: str | Splitter = "\n\n",
        *,
        credit: Credit = "value",
        aggregation: Aggregation = "min",
        probabilities: bool = False,
        tokenizer: Any = None,
        batch_size: int = 16,
        name: str | None = None,
    ):
        check_choice("credit", credit, ("value", "difference"))
        check_aggregation(aggregation, probabilities and credit == "value")
        check_marks(marks)
        self.reward = as_single_scorer(reward, tokenizer, batch_size)
        super().__init__(name or f"{self.reward.__name__}_steps", [self.reward])
        self.marks = marks
        self.credit = credit
        self.aggregation: Aggregation = aggregation
        self.probabilities = probabilities

    def compute(self, prompts: Sequence, completions: Sequence, columns: Mapping[str, Any]) -> Scored:
        check_text_only(self.__name__, prompts, completions, columns)
        steps = self.step_rewards(prompts, completions)
        rewards = [None if own is None else aggregate_steps(own, self.aggregation) for own in steps]
        counts = [len(own) for own in steps if own is not None]
        metrics = {"steps": sum(counts) / len(counts)} if counts else {}
        return Scored(rewards, metrics, {"step_rewards": steps})

    def step_rewards(self, prompts: Sequence, completions: Sequence) -> list[list[float] | None]:
        """
        Return the reward of each step of each completion; `None` if a prefix has none.

        Args:
            prompts, completions (`list` of `str` or of messages): One prompt per completion.
        """
        steps = [split_steps(final_text(one), self.marks) for one in completions]
        reader = self.reward.model_scorer
        if isinstance(reader, CompletionScorer) and reader.reads_prefixes:
            return [self._credits(own) for own in reader.score_steps(prompts, completions, steps)]
        prefixes = [_prefixes(*pair) for pair in zip(completions, steps, strict=True)]
        repeated = [prompt for prompt, own in zip(prompts, prefixes, strict=True) for _ in own]
        values = iter(self.reward(repeated, [prefix for own in prefixes for prefix in own]))
        return [self._credits([next(values) for _ in own]) for own in prefixes]

    def _credits(self, values: Sequence[float | None]) -> list[float] | None:
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            return None
        if self.probabilities:
            known = [probability(value) for value in known]
        if self.credit == "value":
            return known
        return [value - before for value, before in zip(known, [0.0, *known], strict=False)]


def check_aggregation(aggregation: Aggregation, has_probabilities: bool) -> None:
    """Raise `ValueError` for another aggregation, or a product of other numbers than probabilities."""
    check_choice("aggregation", aggregation, AGGREGATIONS)
    if aggregation == "product" and not has_probabilities:
        raise ValueError(
            "`aggregation='product'` must come with `probabilities=True` and `credit='value'`: a product of other "
            "numbers has no meaning."
        )


def probability(log_odds: float) -> float:
    """Return the probability for log-odds, without overflow."""
    return 1 / (1 + math.exp(-max(min(log_odds, 700.0), -700.0)))


def _prefixes(completion: Any, steps: Sequence[str]) -> list:
    """Return the completion up to the end of each step."""
    texts = ["".join(steps[: number + 1]) for number in range(len(steps))]
    if isinstance(completion, str):
        return texts
    *before, last = read_prompt(completion, "completion")
    if last["role"] != "assistant":  # pyright: ignore[reportArgumentType]
        return [completion]  # cut before its answer: one step
    return [[*before, {**last, "content": text}] for text in texts]  # pyright: ignore[reportGeneralTypeIssues]

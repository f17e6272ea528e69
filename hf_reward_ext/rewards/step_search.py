"""Look-ahead search by the rewards of steps."""

import weakref
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hf_reward_ext.base.lm.forward import cache_of
from hf_reward_ext.base.lm.per_thread import PerThread
from hf_reward_ext.base.preference.step_ends import find_step_ends
from hf_reward_ext.rewards.step_reward import check_aggregation, probability
from hf_reward_ext.rewards.steps import Aggregation, Splitter, aggregate_steps, check_marks, split_steps
from hf_reward_ext.sla.step_reward import ReadStep, resolve_reward


class StepSearchReward:
    r"""
    Reward of [`sla_generate`] that scores a leaf by the rewards of its steps instead of its tokens.

    $$ S(y_{\le t}) = \operatorname{aggregate}(v_1, \dots, v_{k-1}, v_t), \qquad
       v_j = \frac{\sum_{i \le e_j} g_i r_i}{\sum_{i \le e_j} g_i} $$

    $v_j$ is the reward of the answer up to the end $e_j$ of step $j$, as [`StepReward`] reads it, and the unfinished
    step counts with the reward so far. Rewards of the prompt do not count. The answer is decoded after each token to
    find its steps.

    Args:
        model ([`RewardTransformer`] or any causal LM): Model whose `generate` is called.
        tokenizer: Tokenizer of the model.
        marks (`str` or `callable`, *optional*, defaults to two line breaks): What ends a step, see [`split_steps`].
        reward (*optional*): Source of the token rewards, as for [`sla_generate`]. Default: the channel of the model.
        aggregation (`str`, *optional*, defaults to `"min"`): `"min"`, `"last"`, `"mean"` or `"product"` of the steps.
        probabilities (`bool`, *optional*, defaults to `False`): Whether values are log-odds, from which probabilities
            are computed. Required for a product.

    Raises:
        TypeError: If the reward has no rewards of tokens.
        ValueError: For another aggregation, a product without probabilities, a malformed mark, or a reward of another
            base.

    Example:
    ```python
    >>> reward = StepSearchReward(rt, tokenizer, ";", aggregation="min")
    >>> rt.generate(**inputs, custom_generate=sla_generate, reward=reward, width=2, step=4, depth=2)
    ```
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        marks: str | Splitter = "\n\n",
        *,
        reward: Any = None,
        aggregation: Aggregation = "min",
        probabilities: bool = False,
    ):
        check_aggregation(aggregation, probabilities)
        check_marks(marks)
        _, self._token_reward = resolve_reward(model, reward)
        self.layers = getattr(self._token_reward, "layers", None)
        self.tokenizer = tokenizer
        self.marks = marks
        self.aggregation: Aggregation = aggregation
        self.probabilities = probabilities
        self._call = PerThread(_Call)

    def __call__(self, step: ReadStep) -> tuple[Float[Tensor, " rows"], Float[Tensor, " rows"]]:
        """Return values and weights whose weighted mean over the tokens of a leaf is its score."""
        returned = self._token_reward(step)
        rewards, gates = returned if isinstance(returned, tuple) else (returned, torch.ones(len(step.input_ids)))
        call = self._call.value
        call.begin(cache_of(step.output))
        leaves = []
        rows = zip(step.input_ids.tolist(), step.attention_mask.bool().tolist(), strict=True)
        for (ids, mask), reward, gate in zip(rows, rewards.tolist(), gates.tolist(), strict=True):
            read = tuple(token for token, is_text in zip(ids, mask, strict=True) if is_text)
            before = call.leaves.get(read[:-1])
            leaves.append((read, _Leaf() if before is None else self._extend(before, read[-1], reward, gate)))
        call.leaves = dict(leaves)
        # The search takes a mean over tokens, whose sum must therefore be the score times their number.
        values = [
            leaf.score * len(leaf.tokens) - leaf.score_before * max(len(leaf.tokens) - 1, 0) for _, leaf in leaves
        ]
        weights = [float(len(leaf.tokens) > 0) for _, leaf in leaves]
        return torch.tensor(values, dtype=torch.float64), torch.tensor(weights, dtype=torch.float64)

    def _extend(self, leaf: "_Leaf", token: int, reward: float, gate: float) -> "_Leaf":
        tokens, total, weight = (*leaf.tokens, token), leaf.total + gate * reward, leaf.weight + gate
        values = (*leaf.values, total / max(weight, 1e-8))
        steps = split_steps(self.tokenizer.decode(tokens, skip_special_tokens=True), self.marks)
        ends = find_step_ends(self.tokenizer, tokens, steps)
        of_steps = [probability(values[end]) if self.probabilities else values[end] for end in ends]
        return _Leaf(tokens, total, weight, values, aggregate_steps(of_steps, self.aggregation), leaf.score)


class _Leaf(NamedTuple):
    """Tokens of an answer so far, sums of their rewards and weights, rewards up to each token, and the scores."""

    tokens: tuple[int, ...] = ()
    total: float = 0.0
    weight: float = 0.0
    values: tuple[float, ...] = ()
    score: float = 0.0
    score_before: float = 0.0


class _Call:
    """Leaves of the last forward of one call of `generate`, by their tokens with those of the prompt."""

    def __init__(self):
        self.leaves: dict[tuple[int, ...], _Leaf] = {}
        self._cache: Any = lambda: None

    def begin(self, cache: Any) -> None:
        """Forget the leaves of another call, which has another cache."""
        if cache is None or self._cache() is not cache:
            self.leaves, self._cache = {}, weakref.ref(cache) if cache is not None else lambda: None

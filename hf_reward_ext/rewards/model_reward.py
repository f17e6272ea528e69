"""Reward of a model in TRL's trainers: in micro-batches, cached, on a device of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate import PartialState

from hf_reward_ext.base.recent import Recent
from hf_reward_ext.base.scoring.rewards import Rewards
from hf_reward_ext.base.scoring.scorer import Scorer, as_single_scorer
from hf_reward_ext.rewards.reward import AsyncReward, Scored
from hf_reward_ext.rewards.texts import check_text_only, text_key


class ModelReward(AsyncReward):
    """
    Reward of any model that scores text, for the `reward_funcs` of TRL's trainers.

    TRL runs a model in `reward_funcs` on all completions in a single forward. This runs it in batches of `batch_size`,
    scores equal completions once, and gives the same number as all other parts of this library
    (see docs/scoring.md).

    Logs `<name>/cached_rate` and `<name>/answered_rate`.

    Args:
        reward_model (`str`, `PreTrainedModel` or [`WeightedReward`]): Reward model, its name or folder, a judge with
            pointwise verdicts, or a weighted set of models, see [`as_scorer`].
        tokenizer (*optional*): Tokenizer of a model that is passed as an object.
        batch_size (`int`, *optional*, defaults to 16): Number of texts per forward.
        device (`str` or `torch.device`, *optional*): Device of the model. Default: the device of this process.
        cache_size (`int`, *optional*, defaults to 10000): Maximum number of cached rewards; the least recently used
            ones are dropped.
        name (`str`, *optional*): Name in logs. Default: the name of the model.

    Raises:
        TypeError: For a function, which belongs directly into `reward_funcs`, and for a model without its tokenizer.
        ValueError: For a judge of pairs.

    Example:
    ```python
    >>> GRPOTrainer(policy, reward_funcs=ModelReward("path/to/reward_model", batch_size=8), args=args, ...)
    ```
    """

    def __init__(
        self,
        reward_model: Any,
        tokenizer: Any = None,
        *,
        batch_size: int = 16,
        device: torch.device | str | None = None,
        cache_size: int = 10000,
        name: str | None = None,
    ):
        self.model_scorer = as_single_scorer(reward_model, tokenizer, batch_size)
        _check_has_models(self.model_scorer)
        super().__init__(name or self.model_scorer.__name__, [self.model_scorer])
        self.device = device
        self._cache: Recent[tuple[str, str], float | None] = Recent(cache_size)

    def compute(self, prompts: Sequence, completions: Sequence, columns: Mapping[str, Any]) -> Scored:
        check_text_only(self.__name__, prompts, completions, columns)
        device: Any = PartialState().device if self.device is None else self.device
        self.model_scorer.to(device)
        keys = [(text_key(prompt), text_key(text)) for prompt, text in zip(prompts, completions, strict=True)]
        places = {key: index for index, key in enumerate(keys)}

        def score(missing: list[tuple[str, str]]) -> Rewards:
            rows = [places[key] for key in missing]
            return self.model_scorer([prompts[row] for row in rows], [completions[row] for row in rows])

        rewards, cached = self._cache.look_up(keys, score)
        return Scored(rewards, {"cached_rate": cached})


def _check_has_models(scorer: Scorer) -> None:
    for part in scorer.parts or [scorer]:
        if not part.models:
            raise TypeError(
                f"`reward_model` must be a model, got a function ({part.__name__}), whose rewards may depend on more "
                "than the text. Pass the function to `reward_funcs` directly."
            )

"""Rewards of completions by any scorer of text."""

from collections.abc import Sequence
from typing import Any

import torch

from hf_reward_ext.base.scoring.rewards import Rewards
from hf_reward_ext.base.scoring.scorer import as_single_scorer
from hf_reward_ext.callbacks.prompts import Prompt


class RewardCaller:
    """
    Caller of a scorer that returns raw rewards of candidates.

    Args:
        reward_model (`str`, `PreTrainedModel`, [`ELHSRModel`] or `callable`): Anything that [`as_scorer`] takes and
            that rewards single completions. Functions receive columns of the prompts by name.
        processing_class (*optional*): Tokenizer of a reward model given as an object.

    Raises:
        TypeError: If it cannot score text.
        ValueError: If it compares pairs and cannot score single completions.
    """

    def __init__(self, reward_model: Any, processing_class: Any = None):
        self.scorer = as_single_scorer(reward_model, processing_class)

    def to(self, device: torch.device) -> None:
        """Move the models of the scorer to the device of this process."""
        self.scorer.to(device)

    def check_columns(self, prompts: Sequence[Prompt]) -> None:
        """Raise `TypeError` if a function needs a column that the prompts do not have."""
        self.scorer.check_columns({*prompts[0].columns, "completion_ids"})

    def __call__(
        self,
        prompts: Sequence[Prompt],
        texts: Sequence[Sequence[str]],
        completion_ids: Sequence[Sequence[list[int]]] | None = None,
    ) -> list[Rewards]:
        """
        Score the candidates of prompts.

        Args:
            prompts (`list` of [`Prompt`]): The prompts.
            texts (`list` of `list[str]`): Candidates of each prompt.
            completion_ids (`list` of `list` of `list[int]`, *optional*): Token ids of the candidates, for
                functions that read them.

        Returns:
            `list` of `list`: A number per candidate, or `None` without an answer.

        Raises:
            TypeError, ValueError: As for [`Scorer`], and if the prompts have different columns.
        """
        rows = [(prompt, text) for prompt, group in zip(prompts, texts, strict=True) for text in group]
        columns: dict[str, Any] = {name: [prompt.columns[name] for prompt, _ in rows] for name in prompts[0].columns}
        if completion_ids is not None:
            columns["completion_ids"] = [ids for group in completion_ids for ids in group]
        rewards = self.scorer.score(
            [prompt.shown for prompt, _ in rows], [as_completion(prompt, text) for prompt, text in rows], columns
        )
        ends = [sum(map(len, texts[: number + 1])) for number in range(len(texts))]
        return [rewards[end - len(group) : end] for end, group in zip(ends, texts, strict=True)]


def as_completion(prompt: Prompt, text: str) -> str | list[dict[str, str]]:
    """Return a completion in the format of its prompt: text, or the assistant's message."""
    return text if isinstance(prompt.shown, str) else [{"role": "assistant", "content": text}]


def share_unanswered(groups: Sequence[Rewards], name: str) -> dict[str, float]:
    """Return the share of rewards that are `None` under a name, or an empty `dict` if there are none."""
    missing = [reward is None for group in groups for reward in group]
    return {name: sum(missing) / len(missing)} if any(missing) else {}

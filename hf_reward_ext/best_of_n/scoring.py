"""Rewards of candidates, computed during generation, from their texts, or both."""

from collections.abc import Sequence
from typing import Any

from hf_reward_ext.base.scoring.rewards import Rewards, check_rewards
from hf_reward_ext.base.scoring.scorer import Scorer
from hf_reward_ext.best_of_n.candidates import as_turn
from hf_reward_ext.best_of_n.options import BestOfNOptions


class CandidateScores:
    """
    Raw rewards of the candidates of one prompt, which can be extended.

    Args:
        prompt (`str` or messages): Prompt of the candidates.
        scorer ([`Scorer`], *optional*): Scorer of texts; without it rewards are computed during generation.
        second_scorer ([`Scorer`], *optional*): Scorer of the second reward.
        name (`str`): Name of the reward, for messages.
    """

    def __init__(self, prompt: Any, scorer: Scorer | None, second_scorer: Scorer | None, name: str):
        self.prompt = prompt
        self.scorer = scorer
        self.second_scorer = second_scorer
        self.name = name
        self._first: Rewards = []
        self._second: Rewards = []

    def add(self, texts: Sequence[str], completion_ids: Sequence[list[int]] | None, rewards: Any) -> None:
        """
        Score more candidates.

        Args:
            texts (`list[str]`): Completions.
            completion_ids (`list[list[int]]`, *optional*): Token ids of the completions; a function that requires them
                cannot score without.
            rewards (`torch.Tensor` of shape `(candidates,)`, *optional*): Rewards computed during generation.
        """
        prompts = [self.prompt] * len(texts)
        completions = list(texts) if isinstance(self.prompt, str) else [as_turn(self.prompt, text) for text in texts]
        columns = {} if completion_ids is None else {"completion_ids": completion_ids}
        if self.scorer is None:
            self._first += check_rewards(rewards, prompts, self.name)
        else:
            self._first += self.scorer.score(prompts, completions, columns, nan_is_missing=True)
        if self.second_scorer is not None:
            self._second += self.second_scorer.score(prompts, completions, columns, nan_is_missing=True)

    def scores(self, options: BestOfNOptions) -> Rewards:
        """Return one reward of each candidate so far."""
        return list(self._first) if self.second_scorer is None else options.fuse(self._first, self._second)

    def final_scores(self, options: BestOfNOptions) -> Rewards:
        """
        Return one reward of each candidate.

        Raises:
            ValueError: If no candidate has a reward.
        """
        scores = self.scores(options)
        if all(score is None for score in scores):
            raise ValueError(
                f"`{self.name}` must reward at least one of the {len(scores)} candidates of the prompt "
                f"{str(self.prompt)[:80]!r}, got `None` or NaN for all. Leave the prompt out."
            )
        return scores

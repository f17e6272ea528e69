"""Training arguments of stage 1."""

import math
from dataclasses import dataclass, field

from hf_reward_ext.base.training.trainer_config import BaseRewardConfig


@dataclass
class FastSlowConfig(BaseRewardConfig):
    r"""
    Training arguments of [`FastSlowTrainer`]; those of [`~trl.RewardConfig`] and [`~transformers.TrainingArguments`]
    hold. The paper's values are unknown; the defaults are ours.

    Args:
        verdicts (`list[str]`, defaults to `["A", "B"]`): Verdict strings, see [`verdict_kind`]. Not read when the model
            is a [`FastSlowRewardModel`], which has its own.
        kind (`str`, *optional*): `"pairwise"`, `"binary"` or `"rating"`, where the strings do not tell.
        bradley_terry_weight (`float`, defaults to 1.0): $\lambda_{BT}$ of the comparison by first tokens.
        verdict_weight (`float`, defaults to 0.2): $\lambda_{tok}$, which keeps the first token a verdict.
        judgment_weight (`float`, defaults to 1.0): $\lambda_{slow}$ of written judgments.
        center_rewards_coefficient (`float`, *optional*, defaults to 0.01): $\lambda_c$ of $(s^+ + s^-)^2$; with
            pairwise verdicts that sum is the preference for a place, so it works against position bias.
        score_temperature (`float`, *optional*): $\tau_s$ of scores in the comparison. Default: 1, and 0.2 for ratings,
            whose scores stay in [-1, 1].
        max_length (`int`, *optional*, defaults to 1024): Pairs whose judge prompt has more *tokens* are left out, and
            judgments that would end beyond it; both are counted.
    """

    verdicts: list[str] = field(default_factory=lambda: ["A", "B"], metadata={"help": "Verdict strings."})
    kind: str | None = field(default=None, metadata={"help": "pairwise, binary or rating. Default: by verdicts."})
    bradley_terry_weight: float = field(default=1.0, metadata={"help": "Weight of the comparison by first tokens."})
    verdict_weight: float = field(default=0.2, metadata={"help": "Weight of the first token being a verdict."})
    judgment_weight: float = field(default=1.0, metadata={"help": "Weight of written judgments."})
    center_rewards_coefficient: float | None = field(
        default=0.01, metadata={"help": "Weight of the squared sum of both scores."}
    )
    score_temperature: float | None = field(default=None, metadata={"help": "Temperature of scores."})

    def __post_init__(self):
        super().__post_init__()
        if self.chat_template_kwargs is not None:
            raise ValueError(
                f"`chat_template_kwargs` must be None for a judge, got {self.chat_template_kwargs!r}: it renders its "
                "prompt alike in training and in use. Leave it out."
            )
        if self.kind not in (None, "pairwise", "binary", "rating"):
            raise ValueError(
                f"`kind={self.kind!r}` was given, but verdicts are 'pairwise', 'binary' or a 'rating'. Choose one."
            )
        weights = {
            "bradley_terry_weight": self.bradley_terry_weight,
            "verdict_weight": self.verdict_weight,
            "judgment_weight": self.judgment_weight,
        }
        for name, weight in weights.items():
            if not 0 <= weight < math.inf:
                raise ValueError(
                    f"`{name}={weight}` was given, but a negative weight teaches the opposite. Pass 0 to leave the "
                    "term out."
                )
        if self.score_temperature is not None and not 0 < self.score_temperature < math.inf:
            raise ValueError(
                f"`score_temperature={self.score_temperature}` was given, but scores are divided by it, so it is "
                "positive. Pass for example 1.0."
            )

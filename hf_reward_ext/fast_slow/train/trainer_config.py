"""Training arguments of stage 1."""

import math
from dataclasses import dataclass, field

from hf_reward_ext.base.training.trainer_config import BaseRewardConfig


@dataclass
class FastSlowConfig(BaseRewardConfig):
    r"""
    Training arguments of [`FastSlowTrainer`].

    Also accepts all arguments of [`~trl.RewardConfig`] and [`~transformers.TrainingArguments`]. The paper's values are
    unknown; the defaults are ours.

    Args:
        verdicts (`list[str]`, defaults to `["A", "B"]`): Verdict strings, see [`verdict_kind`]. Unused if the model is
            a [`FastSlowRewardModel`], which has its own.
        kind (`str`, *optional*): Kind of verdicts, `"pairwise"`, `"binary"` or `"rating"`. Default: inferred from
            the strings.
        bradley_terry_weight (`float`, defaults to 1.0): Weight $\lambda_{BT}$ of the comparison by first tokens.
        verdict_weight (`float`, defaults to 0.2): Weight $\lambda_{tok}$ of the loss that makes the first token a
            verdict.
        judgment_weight (`float`, defaults to 1.0): Weight $\lambda_{slow}$ of written judgments.
        center_rewards_coefficient (`float`, *optional*, defaults to 0.01): Weight $\lambda_c$ of $(s^+ + s^-)^2$.
            With pairwise verdicts that sum is the preference for a position, so the term reduces position bias.
        score_temperature (`float`, *optional*): Temperature $\tau_s$ of scores in the comparison. Default: 1, or 0.2
            for ratings, whose scores are in [-1, 1].
        max_length (`int`, *optional*, defaults to 1024): Maximum number of tokens. Pairs with a longer judge prompt
            and judgments with a later end are dropped; both are counted.
    """

    verdicts: list[str] = field(default_factory=lambda: ["A", "B"], metadata={"help": "Verdict strings."})
    kind: str | None = field(
        default=None,
        metadata={"help": "Kind of verdicts: pairwise, binary or rating. Default: inferred from the verdicts."},
    )
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
            raise ValueError(f"`kind` must be 'pairwise', 'binary' or 'rating', got {self.kind!r}. Choose one.")
        weights = {
            "bradley_terry_weight": self.bradley_terry_weight,
            "verdict_weight": self.verdict_weight,
            "judgment_weight": self.judgment_weight,
        }
        for name, weight in weights.items():
            if not 0 <= weight < math.inf:
                raise ValueError(
                    f"`{name}` must be a finite number of at least 0, got {weight}. Pass 0 to leave the term out."
                )
        if self.score_temperature is not None and not 0 < self.score_temperature < math.inf:
            raise ValueError(
                f"`score_temperature` must be a positive number, got {self.score_temperature}: scores are divided by "
                "it. Pass for example 1.0."
            )

"""Training arguments of an autoregressive reward model."""

from dataclasses import dataclass, field
from typing import Literal

from hf_reward_ext.base.training.trainer_config import BaseRewardConfig


@dataclass
class GenARMConfig(BaseRewardConfig):
    r"""
    Training arguments of [`GenARMTrainer`].

    Also accepts all arguments of [`~trl.RewardConfig`] and [`~transformers.TrainingArguments`].

    The paper's values: LoRA with learning rate 5e-4 (full fine-tuning of Tulu 2: 5e-7), batch 32, one epoch (Tulu 2:
    three), weight decay 0.05, `beta` 0.05 for HH-RLHF, 0.5 and 0.01 for PKU-SafeRLHF, 0.1 for Tulu 2.

    Args:
        beta (`float`, defaults to 0.05): Scale $\beta_r$ of the rewards in the loss. Decoding weights guides by
            `alpha` instead.
        gamma (`float`, defaults to 0.0): Margin of all pairs, in scaled reward units; only for `"sigmoid"`.
        label_smoothing (`float`, defaults to 0.0): Probability that a preference is wrong; only for `"sigmoid"`.
        loss_type (`str`, defaults to `"sigmoid"`): Loss, `"sigmoid"` (Bradley-Terry) or `"hinge"`.
        length_normalization (`bool`, defaults to `False`): Whether to compare means instead of sums of
            log-probabilities. The paper uses sums.
        turns (`str`, defaults to `"last"`): Assistant turns of a chat that are scored, `"last"` or `"all"`. Turns
            that both sides share cancel in the loss, but not in the logged rewards.
        preference_conditioned (`bool`, defaults to `False`): Whether to train one guide for all objectives, named in
            the column `objective` of every pair; a reconstruction of PARM, see [`GenARMTrainer`].
        max_length (`int`, *optional*, defaults to 1024): Maximum number of tokens; longer pairs are dropped and
            counted.
    """

    beta: float = field(default=0.05, metadata={"help": "Scale of the rewards in the loss."})
    gamma: float = field(default=0.0, metadata={"help": "Margin of all pairs, in scaled reward units."})
    label_smoothing: float = field(default=0.0, metadata={"help": "Probability that a preference is wrong."})
    loss_type: Literal["sigmoid", "hinge"] = field(default="sigmoid", metadata={"help": "Loss: sigmoid or hinge."})
    length_normalization: bool = field(
        default=False, metadata={"help": "Whether to compare means instead of sums of log-probabilities."}
    )
    turns: Literal["last", "all"] = field(
        default="last", metadata={"help": "Scored assistant turns of a chat: last or all."}
    )

    preference_conditioned: bool = field(
        default=False, metadata={"help": "Train one LoRA guide for the objectives in the column objective."}
    )

    _numbers = {**BaseRewardConfig._numbers, "beta": {}, "gamma": {}, "label_smoothing": {}}
    _choices = {**BaseRewardConfig._choices, "turns": ("last", "all")}

    def __post_init__(self):
        super().__post_init__()
        if self.loss_type not in ("sigmoid", "hinge"):
            raise ValueError(f"`loss_type` must be 'sigmoid' or 'hinge', got {self.loss_type!r}. Choose one.")
        if not self.beta > 0:
            raise ValueError(f"`beta` must be positive, got {self.beta}. Pass for example 0.05.")
        if not 0 <= self.label_smoothing < 0.5:
            raise ValueError(
                f"`label_smoothing` must be a probability in [0, 0.5), got {self.label_smoothing}. Pass for example "
                "0.1."
            )
        if self.loss_type == "hinge" and (self.gamma or self.label_smoothing):
            raise ValueError(
                f"`gamma` and `label_smoothing` must be 0 with `loss_type='hinge'`, got {self.gamma} and "
                f"{self.label_smoothing}. Set both to 0, or use 'sigmoid'."
            )
        if self.center_rewards_coefficient is not None:
            raise ValueError(
                f"`center_rewards_coefficient` must be None, got {self.center_rewards_coefficient}: rewards of "
                "GenARM are log-probabilities without a free offset. Leave it out."
            )

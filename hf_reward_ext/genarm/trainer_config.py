"""Training arguments of GenARM."""

from dataclasses import dataclass, field
from typing import Literal

from trl import RewardConfig


@dataclass
class GenARMConfig(RewardConfig):
    r"""
    Training arguments of [`GenARMTrainer`]; those of [`~trl.RewardConfig`] and [`~transformers.TrainingArguments`]
    hold.

    Parameters:
        beta (`float`, defaults to 0.05): $\beta_r$, scale of the rewards in the loss. The paper: 0.05 on HH-RLHF, 0.5
            and 0.01 on PKU-SafeRLHF, 0.1 on Tulu 2. Independent of `alpha` at decoding.
        gamma (`float`, defaults to 0.0): A margin that all pairs have to reach, in scaled reward units.
        label_smoothing (`float`, defaults to 0.0): Probability that a label is wrong.
        loss_type (`str`, defaults to `"sigmoid"`): `"sigmoid"` (Bradley-Terry) or `"hinge"`.
        length_normalization (`bool`, defaults to `False`): Mean instead of sum of log-probabilities. Not in the paper:
            guidance adds token rewards, whose sum is the reward.
        turns (`str`, defaults to `"last"`): Assistant turns of a chat that count: `"last"` or `"all"`.
        max_length (`int`, defaults to 1024): Pairs of which one side has more *tokens* are left out, and counted.
    """

    beta: float = field(default=0.05, metadata={"help": "Scale of the rewards in the loss."})
    gamma: float = field(default=0.0, metadata={"help": "Margin of all pairs, in scaled reward units."})
    label_smoothing: float = field(default=0.0, metadata={"help": "Probability that a label is wrong."})
    loss_type: Literal["sigmoid", "hinge"] = field(default="sigmoid", metadata={"help": "Loss: sigmoid or hinge."})
    length_normalization: bool = field(
        default=False, metadata={"help": "Mean instead of sum of log-probabilities. Not in the paper."}
    )
    turns: Literal["last", "all"] = field(
        default="last", metadata={"help": "Assistant turns of a chat that count: last or all."}
    )

    def __post_init__(self):
        super().__post_init__()
        if self.beta <= 0:
            raise ValueError(f"`beta={self.beta}` was given, but it scales rewards. Pass a positive number.")
        if not 0 <= self.label_smoothing < 0.5:
            raise ValueError(
                f"`label_smoothing={self.label_smoothing}` was given, but it is a probability below 0.5. Pass one."
            )
        if self.loss_type == "hinge" and (self.gamma or self.label_smoothing):
            raise ValueError(
                f"`loss_type='hinge'` was given with gamma={self.gamma} and label_smoothing={self.label_smoothing}, "
                "but the hinge has its own margin and no smoothing. Leave them at 0."
            )
        if self.center_rewards_coefficient is not None:
            raise ValueError(
                "`center_rewards_coefficient` was given, but rewards of GenARM are log-probabilities, whose level is "
                "fixed by their sum. Leave it out."
            )

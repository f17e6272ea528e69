"""Training arguments of a reward channel."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from hf_reward_ext.base.training.step_options import check_step_separator
from hf_reward_ext.base.training.trainer_config import BaseRewardConfig


@dataclass
class SLAConfig(BaseRewardConfig):
    r"""
    Training arguments of [`SLATrainer`].

    Also accepts all arguments of [`~trl.RewardConfig`] and [`~transformers.TrainingArguments`].

    Defaults that differ from TRL's are those of the authors' training script: learning rate 5e-5 with cosine schedule
    and 10 % warm-up, 3 epochs, 2048 tokens, no activation checkpointing. Their batch is 256 pairs. A small policy
    trains well at 1e-3.

    Parameters:
        loss_type (`str`, defaults to `"sequence_bt"`): Loss on token rewards: `"sequence_bt"` (the paper's),
            `"token_bt"`, `"sequence_ce"` or `"token_ce"`; or `"step_bce"` (ours) for rows with a label of each step:
            the cross-entropy of the mean token reward up to each step.
        step_separator (`str`, *optional*): Text between steps, required for `"step_bce"`: `"\n"` for most of TRL's
            data, `""` for rows of [`label_steps`].
        freeze_base (`bool`, defaults to `True`): Whether to stop the channel loss from updating the base. A
            `policy_loss` still updates it.
        policy_loss (`str`, *optional*): Loss that trains the policy together with the channel: `"sft"`, `"simpo"`
            or `"dpo"`.
        channel_loss_weight, policy_loss_weight (`float`, default to 1): Weights of the two losses.
        dpo_beta (`float`, defaults to 0.1): Beta of `"dpo"`. The paper does not state a value.
        simpo_beta (`float`, defaults to 2.5), simpo_gamma_beta_ratio (`float`, defaults to 0.55): Beta of
            `"simpo"`, and its margin divided by beta.
        token_bt_scale (`float`, defaults to 1), token_bt_margin (`float`, defaults to 0): Scale and margin of
            reward differences in `"token_bt"`.
        channel_size (`int`, defaults to 256), layers (`list[int]`, *optional*), head_size (`int`, *optional*): Sizes
            and layers of a new channel, see [`RewardTransformerConfig`].
        turns (`str`, defaults to `"last"`): Assistant turns of a chat that are scored, `"last"` or `"all"`.
        cache_hidden_states (`bool`, defaults to `False`): Whether to keep the frozen base's hidden states of all
            completion tokens in memory after the first epoch.
    """

    _activation_checkpointing: ClassVar[bool] = False  # a frozen base has no activations to keep

    loss_type: Literal["sequence_bt", "token_bt", "sequence_ce", "token_ce", "step_bce"] = field(
        default="sequence_bt", metadata={"help": "Loss on the token rewards."}
    )
    step_separator: str | None = field(default=None, metadata={"help": "Text between steps, with loss_type=step_bce."})
    freeze_base: bool = field(default=True, metadata={"help": "Whether the channel loss leaves the base unchanged."})
    policy_loss: Literal["sft", "simpo", "dpo"] | None = field(
        default=None, metadata={"help": "Loss that trains the policy too: sft, simpo or dpo."}
    )
    channel_loss_weight: float = field(default=1.0, metadata={"help": "Weight of the channel's loss."})
    policy_loss_weight: float = field(default=1.0, metadata={"help": "Weight of the policy's loss."})
    dpo_beta: float = field(default=0.1, metadata={"help": "Beta of DPO."})
    simpo_beta: float = field(default=2.5, metadata={"help": "Beta of SimPO."})
    simpo_gamma_beta_ratio: float = field(default=0.55, metadata={"help": "Margin of SimPO divided by its beta."})
    token_bt_scale: float = field(default=1.0, metadata={"help": "Scale of reward differences in token_bt."})
    token_bt_margin: float = field(default=0.0, metadata={"help": "Margin of reward differences in token_bt."})
    channel_size: int = field(default=256, metadata={"help": "Width of the channel."})
    layers: list[int] | None = field(
        default=None, metadata={"help": "Hidden states that the channel reads; 0 is the embedding. Default: all."}
    )
    head_size: int | None = field(default=None, metadata={"help": "Width of a hidden layer in the head."})
    turns: Literal["last", "all"] = field(default="last", metadata={"help": "Scored assistant turns: last or all."})
    cache_hidden_states: bool = field(
        default=False,
        metadata={"help": "Whether to keep the frozen base's states in memory after the first epoch."},
    )

    num_train_epochs: float = field(default=3, metadata={"help": "Number of epochs."})
    learning_rate: float = field(default=5e-5, metadata={"help": "Learning rate of AdamW."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Learning rate schedule."})
    warmup_steps: float = field(default=0.1, metadata={"help": "Number or share of linear warm-up steps."})
    max_length: int | None = field(default=2048, metadata={"help": "Maximum length; longer pairs are dropped."})

    _numbers = {
        **BaseRewardConfig._numbers,
        "channel_loss_weight": {"least": 0},
        "policy_loss_weight": {"least": 0},
        "dpo_beta": {"above": 0},
        "simpo_beta": {"above": 0},
        "simpo_gamma_beta_ratio": {"least": 0},
        "token_bt_scale": {"above": 0},
        "token_bt_margin": {},
    }
    _counts = {**BaseRewardConfig._counts, "channel_size": 1, "head_size": 1}
    _optional = BaseRewardConfig._optional | {"head_size"}
    _choices = {**BaseRewardConfig._choices, "turns": ("last", "all")}

    def __post_init__(self):
        super().__post_init__()
        if self.cache_hidden_states and (self.policy_loss is not None or not self.freeze_base):
            raise ValueError(
                "`cache_hidden_states` must be False for a base that is trained, got True with "
                f"`freeze_base={self.freeze_base}` and `policy_loss={self.policy_loss!r}`. Leave one of them out."
            )
        if self.loss_type not in ("sequence_bt", "token_bt", "sequence_ce", "token_ce", "step_bce"):
            raise ValueError(
                "`loss_type` must be 'sequence_bt', 'token_bt', 'sequence_ce', 'token_ce' or 'step_bce', got "
                f"{self.loss_type!r}. Choose one."
            )
        check_step_separator(self.loss_type, self.step_separator)
        if self.loss_type == "step_bce":
            self._check_steps()
        if self.policy_loss not in (None, "sft", "simpo", "dpo"):
            raise ValueError(
                f"`policy_loss` must be 'sft', 'simpo', 'dpo' or None, got {self.policy_loss!r}. Choose one."
            )

    def _check_steps(self) -> None:
        """Reject options of pairs, which rows of steps are not."""
        for name, unused in (
            ("policy_loss", None),
            ("center_rewards_coefficient", None),
            ("cache_hidden_states", False),
            ("turns", "last"),
        ):
            if getattr(self, name) != unused:
                raise ValueError(
                    f"`{name}` must be {unused!r} with `loss_type='step_bce'`, whose rows are single responses, got "
                    f"{getattr(self, name)!r}. Leave it out."
                )

"""Training arguments of an ELHSR head."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from transformers import IntervalStrategy
from transformers.trainer_utils import SaveStrategy

from hf_reward_ext.base.training.step_options import check_step_separator
from hf_reward_ext.base.training.trainer_config import BaseRewardConfig


@dataclass
class ELHSRConfig(BaseRewardConfig):
    r"""
    Training arguments of [`ELHSRTrainer`].

    Also accepts all arguments of [`~trl.RewardConfig`] and [`~transformers.TrainingArguments`].

    The batch size counts prompts, each with all its candidates. Defaults that differ from TRL's are the
    paper's: 40 epochs at most, stopped after 3 without a lower validation loss, constant learning rate 1e-4, weight
    decay 1e-5, no gradient clipping. A small policy trains well with 1e-3.

    Parameters:
        loss_type (`str`, defaults to `"bce"`): Loss on rewards: `"bce"` (the paper's), `"hinge"`, `"pairwise"`,
            `"infonca"` or `"nca"`, which compare candidates of one prompt. `"centroids"` needs no training: see
            [`fit_centroids`]. `"step_bce"` (ours) is for rows with a label of each step: the cross-entropy of the
            reward of the response up to each step.
        step_separator (`str`, *optional*): Text between steps, required for `"step_bce"`: `"\n"` for most of TRL's
            data, `""` for rows of [`label_steps`].
        target_temperature (`float`, defaults to 0.01): Temperature of the soft labels of `"infonca"` and `"nca"`.
        layers (`list[int]`, *optional*): Hidden states to read (0 embedding, -1 after the final norm). Default: all.
        gate (`bool`, defaults to `True`): Whether to learn a weight for each token.
        attention (`bool`, defaults to `False`): Whether the weights are a softmax over the tokens instead of gates.
            Not in the paper.
        mlp_size (`int`, *optional*): Width of a hidden layer of the head. Default: none, as in the paper.
        features (`str`, defaults to `"hidden_states"`): Features, `"hidden_states"` or `"logits"`.
        top_logprobs (`int`, *optional*): Number of largest log-probabilities to read instead of all logits, with
            `features="logits"`.
        standardize (`bool`, defaults to `False`): Whether to standardize features by mean and scale of the training
            tokens. The standardization is folded into the weights at the end. Not in the paper.
        feature_cache (`str`, *optional*): Location of cached features: `"memory"` (float32), `"disk"` (memory-mapped
            bfloat16) or `"none"` (the policy runs in every epoch). Default: `"memory"`, and `"none"` for streaming
            data.
        feature_cache_dir (`str`, *optional*): Folder of the disk cache. Default: `output_dir/features`.
        feature_batch_size (`int`, defaults to 16): Number of completions per forward of the policy.
        validation_fraction (`float`, defaults to 0.2): Share of prompts to hold out if there is no `eval_dataset`.
            Candidates of one prompt are not separated.
        early_stopping_patience (`int`, *optional*, defaults to 3): Number of epochs without improvement before
            stopping; the best epoch is kept, not the last. `None` disables early stopping.
        max_candidates_per_prompt (`int`, *optional*): Maximum number of candidates per prompt.
    """

    _numbers = {**BaseRewardConfig._numbers, "target_temperature": {"above": 0}}
    _counts = {
        **BaseRewardConfig._counts,
        "top_logprobs": 1,
        "mlp_size": 1,
        "feature_batch_size": 1,
        "early_stopping_patience": 1,
        "max_candidates_per_prompt": 1,
    }
    _choices = {
        **BaseRewardConfig._choices,
        "loss_type": ("bce", "hinge", "pairwise", "infonca", "nca", "centroids", "step_bce"),
        "features": ("hidden_states", "logits"),
        "feature_cache": ("memory", "disk", "none"),
    }
    _optional = BaseRewardConfig._optional | {
        "top_logprobs",
        "mlp_size",
        "early_stopping_patience",
        "max_candidates_per_prompt",
        "feature_cache",
    }
    _activation_checkpointing: ClassVar[bool] = False  # a linear head has nothing to checkpoint

    loss_type: Literal["bce", "hinge", "pairwise", "infonca", "nca", "centroids", "step_bce"] = field(
        default="bce",
        metadata={"help": "Loss on the rewards: bce, hinge, pairwise, infonca, nca, centroids or step_bce."},
    )
    step_separator: str | None = field(default=None, metadata={"help": "Text between steps, with loss_type=step_bce."})
    target_temperature: float = field(
        default=0.01, metadata={"help": "Temperature of the soft labels of infonca and nca."}
    )
    layers: list[int] | None = field(
        default=None,
        metadata={"help": "Hidden states to read; 0 is the embedding, -1 the final one. Default: all."},
    )
    gate: bool = field(default=True, metadata={"help": "Whether to learn a weight for each token."})
    attention: bool = field(
        default=False, metadata={"help": "Whether the weights of tokens are a softmax instead of gates."}
    )
    mlp_size: int | None = field(default=None, metadata={"help": "Width of a hidden layer. Default: none."})
    features: Literal["hidden_states", "logits"] = field(
        default="hidden_states", metadata={"help": "Features that the head reads: hidden_states or logits."}
    )
    top_logprobs: int | None = field(
        default=None, metadata={"help": "Number of largest log-probabilities to read, with features=logits."}
    )
    standardize: bool = field(default=False, metadata={"help": "Whether to standardize features during training."})
    feature_cache: Literal["memory", "disk", "none"] | None = field(
        default=None, metadata={"help": "Location of cached features: memory, disk or none."}
    )
    feature_cache_dir: str | None = field(default=None, metadata={"help": "Folder of the disk cache."})
    feature_batch_size: int = field(default=16, metadata={"help": "Number of completions per forward of the policy."})
    validation_fraction: float = field(
        default=0.2, metadata={"help": "Share of prompts to hold out if there is no evaluation data."}
    )
    early_stopping_patience: int | None = field(
        default=3, metadata={"help": "Number of epochs without improvement before training stops."}
    )
    max_candidates_per_prompt: int | None = field(
        default=None, metadata={"help": "Maximum number of candidates per prompt."}
    )

    num_train_epochs: float = field(default=40, metadata={"help": "Maximum number of epochs."})
    learning_rate: float = field(default=1e-4, metadata={"help": "Learning rate of AdamW."})
    lr_scheduler_type: str = field(default="constant", metadata={"help": "Learning rate schedule."})
    weight_decay: float = field(default=1e-5, metadata={"help": "Weight decay of AdamW."})
    max_grad_norm: float = field(default=0.0, metadata={"help": "Maximum gradient norm; 0 for no clipping."})
    eval_strategy: str = field(default="epoch", metadata={"help": "Evaluation strategy: no, steps or epoch."})
    save_strategy: str = field(default="epoch", metadata={"help": "Saving strategy: no, steps or epoch."})
    save_total_limit: int | None = field(
        default=2, metadata={"help": "Maximum number of checkpoints, including the best."}
    )
    load_best_model_at_end: bool = field(default=True, metadata={"help": "Whether to keep the best epoch."})
    bf16: bool | None = field(default=False, metadata={"help": "Whether to train the head in bfloat16."})

    def __post_init__(self):
        if self.center_rewards_coefficient is not None:
            raise ValueError(
                f"`center_rewards_coefficient` must be None for ELHSR, got {self.center_rewards_coefficient}: its "
                "losses compare single completions with labels, not pairs. Leave it out."
            )
        self._check_strategies()
        super().__post_init__()
        if self.loss_type == "centroids" and (self.attention or self.mlp_size):
            raise ValueError(
                "`loss_type='centroids'` must be used without `attention` and `mlp_size`, which need training, got "
                f"`attention={self.attention}` and `mlp_size={self.mlp_size}`. Leave them out."
            )
        check_step_separator(self.loss_type, self.step_separator)
        if self.loss_type == "step_bce" and self.max_candidates_per_prompt is not None:
            raise ValueError(
                "`max_candidates_per_prompt` must be None with `loss_type='step_bce'`, whose rows are single "
                f"responses, got {self.max_candidates_per_prompt}. Leave it out."
            )
        if not 0 <= self.validation_fraction < 1:
            raise ValueError(
                f"`validation_fraction` must be a share in [0, 1), got {self.validation_fraction}. Pass for example "
                "0.2."
            )
        if self.feature_cache == "none" and self.standardize:
            raise ValueError(
                "`standardize` must be False with `feature_cache='none'`, got True: mean and scale come from the "
                "cached features. Use `feature_cache='memory'` or 'disk'."
            )

    def _check_strategies(self) -> None:
        """Check strategies before transformers does, whose error would not mention the default of this class."""
        save, evaluate = SaveStrategy(self.save_strategy).value, IntervalStrategy(self.eval_strategy).value
        if self.load_best_model_at_end and save not in ("best", evaluate):
            raise ValueError(
                f"`save_strategy` and `eval_strategy` must be the same for `load_best_model_at_end`, which is on by "
                f"default in `ELHSRConfig`, got {save!r} and {evaluate!r}. Set both to one of 'epoch' and 'steps', or "
                "`load_best_model_at_end=False`."
            )
        if self.load_best_model_at_end and evaluate == "no":
            raise ValueError(
                "`eval_strategy` must not be 'no' for `load_best_model_at_end`, which is on by default in "
                "`ELHSRConfig`. Set `load_best_model_at_end=False` too."
            )

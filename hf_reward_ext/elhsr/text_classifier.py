"""ELHSR head and policy in the sequence-classification format, which can be loaded as a reward model by name."""

from typing import Any, Self

from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import AutoModel

from hf_reward_ext.base.saving.base_model import load_base
from hf_reward_ext.base.scoring.whole_text import WholeTextRewardModel, check_one_label
from hf_reward_ext.elhsr.features import teacher_forced_features
from hf_reward_ext.elhsr.model_config import ELHSRModelConfig


class ELHSRForSequenceClassification(WholeTextRewardModel):
    r"""
    Sequence-classification model of a frozen policy and its head, which scores finished texts.

    $$ R = \frac{\sum_t g_t \rho_t}{\sum_t g_t} $$

    `GRPOTrainer(reward_funcs="folder")` works after `import hf_reward_ext`. The policy is the frozen one that the head
    was trained on, not the one in training. See [`WholeTextRewardModel`] for the start of the completion. TRL decodes
    completions without EOS, so the head does not read it.

    Args:
        policy (`PreTrainedModel` or `PeftModel`): Policy that the head was trained on, which is frozen.
        head ([`ELHSRModel`]): Reward head.

    Raises:
        ValueError: If the head was trained on another policy.

    Example:
    ```python
    >>> scorer = AutoModelForSequenceClassification.from_pretrained("head")
    >>> scorer(**inputs).logits[:, 0]  # raw rewards, (batch,)
    ```
    """

    config: ELHSRModelConfig
    config_class = ELHSRModelConfig
    base_model_prefix = "policy"

    def __init__(self, policy, head: Any):
        head.check_policy(policy)
        super().__init__(head.config)
        self.policy = policy.requires_grad_(False)
        self.head = head.to(next(policy.parameters()).device)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path, base=None, *, num_labels: int = 1, config=None, revision=None, **base_kwargs
    ) -> Self:
        """
        Load the head, and the policy by the name in the head's config.

        Args:
            pretrained_model_name_or_path (`str`): Name or folder of the head.
            base (`PreTrainedModel` or `PeftModel`, *optional*): Policy, required if it cannot be loaded by name.
            config ([`ELHSRModelConfig`], *optional*): Configuration of the head. Default: the saved one.
            revision (`str`, *optional*): Revision of the head; the revision of the policy is in its config.
            **base_kwargs: Arguments for loading the policy (`dtype`, `device_map`, ...).

        Raises:
            ValueError: If `num_labels` is not 1, or the head was trained on another policy.
        """
        check_one_label(num_labels)
        base_kwargs.pop("adapter_kwargs", None)  # passed by the Auto classes
        head = AutoModel.from_pretrained(pretrained_model_name_or_path, config=config, revision=revision or "main")
        return cls(base if base is not None else _policy_of(head.config, base_kwargs), head).eval()

    @property
    def reader(self):
        """Frozen policy."""
        return self.policy

    @property
    def trained_part(self):
        """The head."""
        return self.head

    def text_rewards(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Int[Tensor, "batch seq"],
        completion_mask: Bool[Tensor, "batch seq"],
    ) -> Float[Tensor, " batch"]:
        """Return the gated mean of the head over each completion."""
        features = teacher_forced_features(self.policy, self.config, input_ids, attention_mask)
        return self.head(features, completion_mask)

    def prefix_rewards(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Int[Tensor, "batch seq"],
        completion_mask: Bool[Tensor, "batch seq"],
    ) -> Float[Tensor, "batch seq"]:
        """Return the gated mean of the head over each completion up to each token."""
        features = teacher_forced_features(self.policy, self.config, input_ids, attention_mask)
        return self.head.prefix_rewards(features, completion_mask)


def _policy_of(config: ELHSRModelConfig, kwargs: dict):
    if config.base_model_name_or_path is None or config.adapter is not None:
        missing = "one without a name" if config.adapter is None else f"one with the adapter {config.adapter!r}"
        raise ValueError(f"`base` must be given for a head that was trained on {missing}, got None. Pass `base=`.")
    return load_base(config, **kwargs)

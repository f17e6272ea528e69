"""Reward Transformer in the sequence-classification format, which can be loaded as a reward model by name."""

from typing import Any, Self

from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import AutoModel

from hf_reward_ext.base.lm.forward import positions_of
from hf_reward_ext.base.scoring.whole_text import WholeTextRewardModel, check_one_label
from hf_reward_ext.base.training.token_rewards import masked_mean, prefix_means
from hf_reward_ext.sla.model_config import RewardTransformerConfig


class RewardTransformerForSequenceClassification(WholeTextRewardModel):
    r"""
    Sequence-classification model whose logit is the mean token reward of a completion.

    $$ R = \frac{1}{T} \sum_t r_t $$

    `GRPOTrainer(reward_funcs="folder")` works after `import hf_reward_ext`. See [`WholeTextRewardModel`] for the start
    of the completion.

    Args:
        reward_transformer ([`RewardTransformer`]): Reward Transformer to wrap.

    Example:
    ```python
    >>> scorer = AutoModelForSequenceClassification.from_pretrained("channel")
    >>> scorer(**inputs).logits[:, 0]  # raw rewards, (batch,)
    ```
    """

    config: RewardTransformerConfig
    config_class = RewardTransformerConfig
    base_model_prefix = "reward_transformer"

    def __init__(self, reward_transformer: Any):
        super().__init__(reward_transformer.reward_channel.config)
        self.reward_transformer = reward_transformer

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, base=None, *, num_labels: int = 1, **kwargs) -> Self:
        """
        Load channel and base as [`RewardTransformer.from_pretrained`] does.

        Raises:
            ValueError: If `num_labels` is not 1.
        """
        check_one_label(num_labels)
        return cls(AutoModel.from_pretrained(pretrained_model_name_or_path, base, **kwargs)).eval()

    @property
    def reader(self):
        """Base of the channel."""
        return self.reward_transformer.base

    @property
    def trained_part(self):
        """Reward Transformer, which saves its channel alone."""
        return self.reward_transformer

    def text_rewards(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Int[Tensor, "batch seq"],
        completion_mask: Bool[Tensor, "batch seq"],
    ) -> Float[Tensor, " batch"]:
        """Return the mean token reward of each completion."""
        return masked_mean(self._token_rewards(input_ids, attention_mask), completion_mask)

    def prefix_rewards(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Int[Tensor, "batch seq"],
        completion_mask: Bool[Tensor, "batch seq"],
    ) -> Float[Tensor, "batch seq"]:
        """Return the mean token reward of each completion up to each token."""
        return prefix_means(self._token_rewards(input_ids, attention_mask), completion_mask)

    def _token_rewards(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.reward_transformer(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=positions_of(attention_mask),
            use_cache=False,
        ).token_rewards

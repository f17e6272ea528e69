"""A Reward Transformer as a scorer of whole texts, for everything that loads reward models by name."""

from typing import Self

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from hf_reward_ext.base.token_rewards import masked_mean
from hf_reward_ext.sla.model import RewardTransformer
from hf_reward_ext.sla.model_config import RewardTransformerConfig


class RewardTransformerForSequenceClassification(PreTrainedModel):
    r"""
    Mean token reward of a completion, as `AutoModelForSequenceClassification` loads it.

    $$ R = \frac{1}{T} \sum_t r_t $$

    `GRPOTrainer(reward_funcs="folder")` works after `import hf_reward_ext`. There nobody says where the completion
    begins: it is taken to begin after the last `completion_start_ids`, which the trainer reads off its prompts, or with
    the text where there are none. Pass `completion_mask` to say it.

    Args:
        reward_transformer ([`RewardTransformer`]): The model.

    Example:
    ```python
    >>> scorer = AutoModelForSequenceClassification.from_pretrained("channel")
    >>> scorer(**inputs).logits[:, 0]  # raw rewards, (batch,)
    ```
    """

    config: RewardTransformerConfig
    config_class = RewardTransformerConfig
    base_model_prefix = "reward_transformer"
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True

    def __init__(self, reward_transformer: RewardTransformer):
        super().__init__(reward_transformer.reward_channel.config)
        self.reward_transformer = reward_transformer

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, base=None, *, num_labels: int = 1, **kwargs) -> Self:
        """
        Loads channel and base as [`RewardTransformer.from_pretrained`] does.

        Raises:
            ValueError: If more than one label is asked for.
        """
        if num_labels != 1:
            raise ValueError(f"`num_labels={num_labels}` was given, but a reward is one number per text. Leave it out.")
        return cls(RewardTransformer.from_pretrained(pretrained_model_name_or_path, base, **kwargs)).eval()

    def save_pretrained(self, save_directory, **kwargs):
        """Saves the channel alone, with the pointer to its base."""
        self.reward_transformer.save_pretrained(save_directory, **kwargs)

    def forward(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Int[Tensor, "batch seq"] | None = None,
        completion_mask: Bool[Tensor, "batch seq"] | None = None,
        **kwargs,
    ) -> SequenceClassifierOutput:
        """
        Args:
            input_ids, attention_mask (`torch.Tensor` of shape `(batch, seq)`): Texts, padded on either side.
            completion_mask (`torch.Tensor` of shape `(batch, seq)`, *optional*): `True` on tokens that count.

        Returns:
            `SequenceClassifierOutput` whose `logits` are `(batch, 1)`.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if completion_mask is None:
            completion_mask = self._completion_mask(input_ids, attention_mask.bool())
        out = self.reward_transformer(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=(attention_mask.cumsum(-1) - 1).clamp(min=0),
            use_cache=False,
        )
        return SequenceClassifierOutput(logits=masked_mean(out.token_rewards, completion_mask)[:, None])  # pyright: ignore

    def _completion_mask(
        self, input_ids: Int[Tensor, "batch seq"], is_text: Bool[Tensor, "batch seq"]
    ) -> Bool[Tensor, "batch seq"]:
        start = self.config.completion_start_ids
        if not start or len(start) > input_ids.shape[1]:
            return is_text
        needle = torch.tensor(start, device=input_ids.device)
        found = (input_ids.unfold(-1, len(start), 1) == needle).all(-1)
        positions = torch.arange(found.shape[1], device=input_ids.device)
        last = torch.where(found, positions, -len(start)).amax(-1)
        after = torch.arange(input_ids.shape[1], device=input_ids.device) >= (last + len(start))[:, None]
        return torch.where((after & is_text).any(-1, keepdim=True), after & is_text, is_text)

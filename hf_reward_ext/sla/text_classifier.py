"""A Reward Transformer as a scorer of whole texts, for everything that loads reward models by name."""

from typing import Any, Self

from jaxtyping import Bool, Int
from torch import Tensor
from transformers import AutoModel, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from hf_reward_ext.base.lm.keywords import check_scoring_keywords
from hf_reward_ext.base.preference.masks import fill_masks
from hf_reward_ext.base.scoring.scorer import Scorer, completion_scorer
from hf_reward_ext.base.training.token_rewards import masked_mean
from hf_reward_ext.sla.model_config import RewardTransformerConfig


class RewardTransformerForSequenceClassification(PreTrainedModel):
    r"""
    Mean token reward of a completion, as `AutoModelForSequenceClassification` loads it.

    $$ R = \frac{1}{T} \sum_t r_t $$

    `GRPOTrainer(reward_funcs="folder")` works after `import hf_reward_ext`. There nobody says where the completion
    begins: it is taken to begin after `completion_start_ids`, which the trainer reads off its prompts, or with
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

    def __init__(self, reward_transformer: Any):
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
        return cls(AutoModel.from_pretrained(pretrained_model_name_or_path, base, **kwargs)).eval()

    def save_pretrained(self, save_directory, **kwargs):
        """Saves the channel alone, with the pointer to its base."""
        self.reward_transformer.save_pretrained(save_directory, **kwargs)

    def push_to_hub(self, repo_id: str, **kwargs):  # pyright: ignore[reportIncompatibleMethodOverride]
        """Uploads what [`save_pretrained`] writes; arguments as for [`RewardTransformer.push_to_hub`]."""
        return self.reward_transformer.push_to_hub(repo_id, **kwargs)

    def forward(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Int[Tensor, "batch seq"] | None = None,
        completion_mask: Bool[Tensor, "batch seq"] | None = None,
        **kwargs,
    ) -> SequenceClassifierOutput:
        """
        Args:
            input_ids (`torch.Tensor` of shape `(batch, seq)`): Texts, padded on either side.
            attention_mask (`torch.Tensor` of shape `(batch, seq)`, *optional*): 0 on padding. Default: the padding
                token of the config, or else of the base, is padding at the ends.
            completion_mask (`torch.Tensor` of shape `(batch, seq)`, *optional*): `True` on tokens that count.

        Returns:
            `SequenceClassifierOutput` whose `logits` are `(batch, 1)`.

        Raises:
            TypeError: For other keywords.
        """
        check_scoring_keywords(self, kwargs)
        attention_mask, completion_mask = fill_masks(
            input_ids,
            attention_mask,
            completion_mask,
            self._pad_token_id,
            self.config.completion_start_ids,
            self.config.completion_starts_after,
        )
        out = self.reward_transformer(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=(attention_mask.cumsum(-1) - 1).clamp(min=0),
            use_cache=False,
        )
        return SequenceClassifierOutput(logits=masked_mean(out.token_rewards, completion_mask)[:, None])  # pyright: ignore

    def scorer(self, tokenizer=None, batch_size: int = 16) -> Scorer:
        """Scores completions after their prompts; for [`as_scorer`]."""
        return completion_scorer(self, tokenizer, batch_size, reader=self.reward_transformer.base)

    @property
    def _pad_token_id(self) -> int | None:
        own = self.config.pad_token_id  # TRL sets it
        return own if own is not None else self.reward_transformer.config.get_text_config().pad_token_id

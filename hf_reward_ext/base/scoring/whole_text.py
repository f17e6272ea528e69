"""Base class of reward models that score finished texts, in the sequence-classification format."""

from abc import ABC, abstractmethod

from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from hf_reward_ext.base.lm.keywords import check_scoring_keywords
from hf_reward_ext.base.preference.masks import fill_masks
from hf_reward_ext.base.scoring.micro_batches import TOKENS_PER_FORWARD, in_micro_batches
from hf_reward_ext.base.scoring.scorer import Scorer, completion_scorer


class WholeTextRewardModel(PreTrainedModel, ABC):
    """
    A small trained part together with the language model that computes its inputs.

    Callers such as `GRPOTrainer` do not pass the start of the completion. It begins after `completion_start_ids`, which
    the trainers find in their prompts, or with the text if the config has none. Pass `completion_mask` to override it.
    Such callers pass all texts of a step in a single call; without gradients they are scored in parts of at most
    `tokens_per_forward` tokens.

    Attributes:
        tokens_per_forward (`int`, defaults to 4096): Maximum number of tokens in a forward of the language model.
    """

    tokens_per_forward: int = TOKENS_PER_FORWARD
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True

    @property
    @abstractmethod
    def reader(self) -> PreTrainedModel:
        """Language model that reads the text."""

    @property
    @abstractmethod
    def trained_part(self) -> PreTrainedModel:
        """Part that is saved and uploaded, with a pointer to the language model."""

    @abstractmethod
    def text_rewards(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Int[Tensor, "batch seq"],
        completion_mask: Bool[Tensor, "batch seq"],
    ) -> Float[Tensor, " batch"]:
        """Return the reward of every completion."""

    @abstractmethod
    def prefix_rewards(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Int[Tensor, "batch seq"],
        completion_mask: Bool[Tensor, "batch seq"],
    ) -> Float[Tensor, "batch seq"]:
        """Return the reward of the completion up to each token; arguments as for [`text_rewards`]."""

    def save_pretrained(self, save_directory, **kwargs):
        """Save the trained part alone, with a pointer to the language model."""
        self.trained_part.save_pretrained(save_directory, **kwargs)

    def push_to_hub(self, repo_id: str, **kwargs):  # pyright: ignore[reportIncompatibleMethodOverride]
        """Upload the files of [`save_pretrained`]; arguments as for `push_to_hub` of the trained part."""
        return self.trained_part.push_to_hub(repo_id, **kwargs)  # pyright: ignore[reportArgumentType]

    def forward(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Int[Tensor, "batch seq"] | None = None,
        completion_mask: Bool[Tensor, "batch seq"] | None = None,
        **kwargs,
    ) -> SequenceClassifierOutput:
        """
        Score texts.

        Args:
            input_ids (`torch.Tensor` of shape `(batch, seq)`): Texts, padded on either side.
            attention_mask (`torch.Tensor` of shape `(batch, seq)`, *optional*): 0 on padding. Default: inferred from
                the padding token of the config, or else of the language model, at both ends.
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
        rewards = in_micro_batches(
            self.text_rewards, self.tokens_per_forward, input_ids, attention_mask, completion_mask
        )
        return SequenceClassifierOutput(logits=rewards[:, None])  # pyright: ignore[reportArgumentType]

    def scorer(self, tokenizer=None, batch_size: int = 16) -> Scorer:
        """Score completions after their prompts; for [`as_scorer`]."""
        return completion_scorer(self, tokenizer, batch_size, reader=self.reader)

    @property
    def _pad_token_id(self) -> int | None:
        own = self.config.pad_token_id  # set by TRL
        return own if own is not None else self.reader.config.get_text_config().pad_token_id

    def get_input_embeddings(self):
        return self.reader.get_input_embeddings()


def check_one_label(num_labels: int) -> None:
    """Raise `ValueError` for more than one label: a reward is one number per text."""
    if num_labels != 1:
        raise ValueError(f"`num_labels` must be 1, since a reward is one number per text, got {num_labels}.")

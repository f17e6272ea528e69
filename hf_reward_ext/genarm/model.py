"""Scoring of text with an autoregressive reward model."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.modeling_outputs import ModelOutput

from hf_reward_ext.base.lm.forward import positions_of
from hf_reward_ext.base.lm.keywords import check_scoring_keywords
from hf_reward_ext.base.preference.masks import fill_masks
from hf_reward_ext.base.saving.card import CardText
from hf_reward_ext.base.saving.config import check_nestable
from hf_reward_ext.base.saving.model import BaseRewardModel, tokenizer_path
from hf_reward_ext.base.scoring.micro_batches import TOKENS_PER_FORWARD, in_micro_batches
from hf_reward_ext.base.scoring.scorer import Scorer, completion_scorer
from hf_reward_ext.base.training.token_rewards import masked_mean, masked_sum
from hf_reward_ext.genarm.fused_head import add_fused_lm_head, token_logps
from hf_reward_ext.genarm.model_card import scorer_card
from hf_reward_ext.genarm.model_config import GenARMRewardModelConfig
from hf_reward_ext.genarm.quantization import check_is_serializable, share_quantization


@dataclass
class GenARMRewardOutput(ModelOutput):
    """
    Output of [`GenARMRewardModel`].

    Args:
        logits (`torch.Tensor` of shape `(batch, 1)`): Raw reward of each row, in nats.
        token_rewards (`torch.Tensor` of shape `(batch, seq)`): Reward of each token, at its position; 0 for ignored
            tokens.
    """

    logits: Tensor | None = None
    token_rewards: Tensor | None = None


class GenARMRewardModel(BaseRewardModel):
    r"""
    Reward model that scores text with an autoregressive reward model.

    $$ r(x, y) = \beta \sum_t \log\pi_r(y_t \mid x, y_{<t}) $$

    Source: [GenARM](https://huggingface.co/papers/2410.08193). The reward of $y_t$ comes from the logits one position
    before it, which predict it, and is at the position of $y_t$ in `token_rewards`.

    Registered with `AutoModelForSequenceClassification`, so `GRPOTrainer(reward_funcs="folder")` works. The
    start of the completion is not passed there, so it begins after the `completion_start_ids` of the config. Without
    them every token after the first counts. The prompt is the same within a group and cancels in GRPO's advantages,
    unless `length_normalization` divides it by another length. Pass `completion_mask` to set it explicitly. Without
    gradients, texts are scored in parts of at most `tokens_per_forward` tokens.

    Args:
        config ([`GenARMRewardModelConfig`]): Configuration of the model.
        causal_lm (`PreTrainedModel`, *optional*): Autoregressive reward model. Default: a model with random
            weights.

    Attributes:
        tokens_per_forward (`int`, defaults to 4096): Maximum number of tokens in a forward of the language model.

    Example:
    ```python
    >>> rm = GenARMRewardModel.from_causal_lm(arm)
    >>> rm(**inputs).logits  # (batch, 1)
    ```
    """

    config: GenARMRewardModelConfig
    config_class = GenARMRewardModelConfig
    base_model_prefix = "causal_lm"
    tokens_per_forward: int = TOKENS_PER_FORWARD
    _supports_sdpa = _supports_flash_attn = True

    def __init__(self, config: GenARMRewardModelConfig, causal_lm: PreTrainedModel | None = None):
        super().__init__(config)
        self.causal_lm = causal_lm if causal_lm is not None else AutoModelForCausalLM.from_config(config.causal_lm)
        add_fused_lm_head(self.causal_lm)
        if causal_lm is None:
            self.post_init()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        add_fused_lm_head(self.causal_lm)  # pickled methods are those of the class

    @classmethod
    def from_causal_lm(cls, causal_lm, **config_kwargs) -> Self:
        """
        Wrap a trained model; `config_kwargs` are fields of [`GenARMRewardModelConfig`].

        Raises:
            TypeError: For an adapter, whose weights would be saved without their base.
        """
        if hasattr(causal_lm, "peft_config"):
            raise TypeError("`causal_lm` must be a whole model, got a `PeftModel`. Pass `model.merge_and_unload()`.")
        # Multimodal models have it in the configuration of their text part.
        pad = getattr(causal_lm.config.get_text_config(decoder=True), "pad_token_id", None)
        config = GenARMRewardModelConfig(causal_lm=copy.deepcopy(causal_lm.config), pad_token_id=pad, **config_kwargs)
        model = cls(config, causal_lm).train(causal_lm.training)
        share_quantization(causal_lm, model)
        return model

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        """Load a model saved by [`save_pretrained`]; `quantization_config` quantizes it."""
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if kwargs.get("output_loading_info") else loaded
        share_quantization(model, model.causal_lm)  # pyright: ignore[reportAttributeAccessIssue]
        return loaded

    def save_pretrained(self, save_directory: str | Path, *args, **kwargs) -> None:
        check_is_serializable(self)
        check_nestable(self.causal_lm.config, "reward model")
        if getattr(self, "hf_quantizer", None) is not None:
            kwargs.setdefault("save_original_format", False)  # quantized weights cannot be converted to another layout
        super().save_pretrained(save_directory, *args, **kwargs)

    def forward(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Int[Tensor, "batch seq"] | None = None,
        completion_mask: Bool[Tensor, "batch seq"] | None = None,
        **kwargs,
    ) -> GenARMRewardOutput:
        """
        Score texts.

        Args:
            input_ids (`torch.Tensor` of shape `(batch, seq)`): Prompts and completions, padded on either side.
            attention_mask (`torch.Tensor` of shape `(batch, seq)`, *optional*): 0 on padding. Default: `pad_token_id`
                at the ends is padding.
            completion_mask (`torch.Tensor` of shape `(batch, seq)`, *optional*): `True` on tokens that count.

        Returns:
            [`GenARMRewardOutput`].

        Raises:
            ValueError: If a row has no token that counts.
            TypeError: For other keywords.
        """
        check_scoring_keywords(self, kwargs)
        attention_mask, completion_mask = fill_masks(
            input_ids,
            attention_mask,
            completion_mask,
            self.config.pad_token_id,
            self.config.completion_start_ids,
            self.config.completion_starts_after,  # pyright: ignore[reportArgumentType]
        )
        counted = attention_mask.bool() & completion_mask.bool()
        # The first token has no prediction.
        counted[:, 1:] &= attention_mask[:, :-1].bool()
        counted[:, 0] = False
        if not counted.any(-1).all():
            row = int((~counted.any(-1)).nonzero()[0])
            raise ValueError(
                f"Row {row} has no token whose probability is known, but the reward is a sum over tokens. Give it a "
                "prompt and a completion."
            )
        labels = input_ids.masked_fill(~counted, -100)
        logps = in_micro_batches(
            self._token_logps, self.tokens_per_forward, input_ids, labels, attention_mask, positions_of(attention_mask)
        )
        token_rewards = self.config.beta * torch.nn.functional.pad(logps, (1, 0))
        pool = masked_mean if self.config.length_normalization else masked_sum
        return GenARMRewardOutput(logits=pool(token_rewards, counted)[:, None], token_rewards=token_rewards)

    def _token_logps(self, input_ids: Tensor, labels: Tensor, attention_mask: Tensor, position_ids: Tensor) -> Tensor:
        inputs = {"attention_mask": attention_mask, "position_ids": position_ids}
        return token_logps(self.causal_lm, input_ids, labels=labels, **inputs)[0]

    def token_rewards(self, input_ids: Tensor, attention_mask=None, completion_mask=None) -> Float[Tensor, "batch seq"]:
        """Return the reward of each token, at its position; arguments as for the call."""
        return self(input_ids, attention_mask, completion_mask).token_rewards

    def prefix_rewards(
        self, input_ids: Int[Tensor, "batch seq"], attention_mask=None, completion_mask=None
    ) -> Float[Tensor, "batch seq"]:
        """Return the reward of the completion up to each token; arguments as for the call."""
        rewards = self.token_rewards(input_ids, attention_mask, completion_mask).cumsum(-1)
        if not self.config.length_normalization:
            return rewards
        counted = completion_mask.bool() & (torch.arange(input_ids.shape[1], device=input_ids.device) > 0)
        return rewards / counted.cumsum(-1).clamp(min=1)

    def scorer(self, tokenizer=None, batch_size: int = 16) -> Scorer:
        """Return the scorer of completions, for [`as_scorer`]."""
        return completion_scorer(self, tokenizer, batch_size, reader=self.causal_lm)

    def get_input_embeddings(self):
        return self.causal_lm.get_input_embeddings()

    def get_output_embeddings(self):
        return self.causal_lm.get_output_embeddings()  # quantizers do not change the head

    def _card(self, folder: Path, path_or_repo: str) -> CardText:
        return scorer_card(path_or_repo, tokenizer_path(folder, path_or_repo, self.causal_lm.config.name_or_path))

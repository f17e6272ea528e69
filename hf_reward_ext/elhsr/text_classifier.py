"""A head with its policy as a scorer of whole texts, for everything that loads reward models by name."""

from typing import Any, Self

from jaxtyping import Bool, Int
from torch import Tensor
from transformers import AutoModel, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from hf_reward_ext.base.lm.keywords import check_scoring_keywords
from hf_reward_ext.base.preference.masks import fill_masks
from hf_reward_ext.base.saving.base_model import load_base
from hf_reward_ext.base.scoring.scorer import Scorer, completion_scorer
from hf_reward_ext.elhsr.features import teacher_forced_features
from hf_reward_ext.elhsr.model_config import ELHSRModelConfig


class ELHSRForSequenceClassification(PreTrainedModel):
    r"""
    Reward of finished texts: a frozen policy reads them, its head scores the states, as
    `AutoModelForSequenceClassification` loads it.

    $$ R = \frac{\sum_t g_t \rho_t}{\sum_t g_t} $$

    `GRPOTrainer(reward_funcs="folder")` works after `import hf_reward_ext`. The policy here is the frozen one that the
    head was trained on, not the one in training. Nobody says there where the completion begins: it is taken to begin
    after `completion_start_ids`, which [`ELHSRTrainer`] reads off its prompts, or with the text where there
    are none. Pass `completion_mask` to say it. TRL decodes completions without EOS, which the head then misses.

    Args:
        policy (`PreTrainedModel` or `PeftModel`): What the head was trained on; it is frozen.
        head ([`ELHSRModel`]): The head.

    Raises:
        ValueError: If the two do not belong together.

    Example:
    ```python
    >>> scorer = AutoModelForSequenceClassification.from_pretrained("head")
    >>> scorer(**inputs).logits[:, 0]  # raw rewards, (batch,)
    ```
    """

    config: ELHSRModelConfig
    config_class = ELHSRModelConfig
    base_model_prefix = "policy"
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True

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
        Loads the head, and the policy by the name in the head's config.

        Args:
            pretrained_model_name_or_path (`str`): Name or folder of the head.
            base (`PreTrainedModel` or `PeftModel`, *optional*): The policy, where it has no name to load it by.
            config ([`ELHSRModelConfig`], *optional*): Default: the saved one.
            revision (`str`, *optional*): Of the head; that of the policy is in the head's config.
            **base_kwargs: For the loading of the policy (`dtype`, `device_map`, ...).

        Raises:
            ValueError: If more than one label is asked for, or the policy is not the one of the head.
        """
        if num_labels != 1:
            raise ValueError(f"`num_labels={num_labels}` was given, but a reward is one number per text. Leave it out.")
        base_kwargs.pop("adapter_kwargs", None)  # the Auto classes pass it along
        head = AutoModel.from_pretrained(pretrained_model_name_or_path, config=config, revision=revision or "main")
        return cls(base if base is not None else _policy_of(head.config, base_kwargs), head).eval()

    def save_pretrained(self, save_directory, **kwargs):
        """Saves the head alone, with the pointer to its policy."""
        self.head.save_pretrained(save_directory, **kwargs)

    def push_to_hub(self, repo_id: str, **kwargs):  # pyright: ignore[reportIncompatibleMethodOverride]
        """Uploads the head alone; arguments as for [`ELHSRModel.push_to_hub`]."""
        return self.head.push_to_hub(repo_id, **kwargs)

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
                token of the config, or else of the policy, is padding at the ends.
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
        features = teacher_forced_features(self.policy, self.config, input_ids, attention_mask)
        return SequenceClassifierOutput(logits=self.head(features, completion_mask)[:, None])  # pyright: ignore

    def scorer(self, tokenizer=None, batch_size: int = 16) -> Scorer:
        """Scores completions after their prompts; for [`as_scorer`]."""
        return completion_scorer(self, tokenizer, batch_size, reader=self.policy)

    @property
    def _pad_token_id(self) -> int | None:
        own = self.config.pad_token_id  # TRL sets it
        return own if own is not None else self.policy.config.get_text_config().pad_token_id

    def get_input_embeddings(self):
        return self.policy.get_input_embeddings()


def _policy_of(config: ELHSRModelConfig, kwargs: dict):
    if config.base_model_name_or_path is None or config.adapter is not None:
        missing = "one without a name" if config.adapter is None else f"one with the adapter {config.adapter!r}"
        raise ValueError(
            f"No `base` was given, and the head was trained on {missing}, so the policy cannot be loaded. Pass `base=`."
        )
    return load_base(config, **kwargs)

"""A sequence-classification reward model as a callable on texts."""

from collections.abc import Sequence
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer


class TextScorer:
    """
    Raw rewards of prompt-completion pairs from any model that TRL's `RewardTrainer` could have trained.

    Args:
        model (`PreTrainedModel`): With one label; its `logits[:, 0]` is the reward. No sigmoid is applied.
        tokenizer: Its tokenizer. Messages go through its chat template.
        batch_size (`int`, *optional*, defaults to 16): Pairs per forward.

    Raises:
        ValueError: If the model has more than one label, or the tokenizer no padding token.

    Example:
    ```python
    >>> scorer = TextScorer.from_pretrained("path/to/reward_model")
    >>> scorer(["2+2="], ["4"])  # (1,)
    ```
    """

    def __init__(self, model, tokenizer, batch_size: int = 16):
        if getattr(model.config, "num_labels", None) != 1:
            raise ValueError(
                f"The reward model has `num_labels={getattr(model.config, 'num_labels', None)}`, but a reward is one "
                "number per text. Load it with `AutoModelForSequenceClassification.from_pretrained(name, "
                "num_labels=1)`."
            )
        if tokenizer.pad_token_id is None:
            raise ValueError(
                "The reward model's tokenizer has no padding token, but texts are scored in batches. "
                "Set `tokenizer.pad_token`."
            )
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.__name__ = getattr(model.config, "_name_or_path", "").split("/")[-1] or type(model).__name__

    @classmethod
    def from_pretrained(cls, name: str, batch_size: int = 16, **model_kwargs) -> Self:
        """Loads model and tokenizer by name or from a folder."""
        model = AutoModelForSequenceClassification.from_pretrained(name, **model_kwargs)
        return cls(model, AutoTokenizer.from_pretrained(name), batch_size)

    @torch.no_grad()
    def __call__(self, prompts: Sequence, completions: Sequence, **_) -> Float[Tensor, " batch"]:
        """
        Args:
            prompts (`list` of `str` or of message lists): One per completion.
            completions (`list` of `str` or of message lists): What to score.

        Returns:
            `torch.Tensor` of shape `(batch,)`, float32, on the CPU.
        """
        texts = [self._text(prompt, completion) for prompt, completion in zip(prompts, completions, strict=True)]
        rewards = []
        for start in range(0, len(texts), self.batch_size):
            inputs = self.tokenizer(
                texts[start : start + self.batch_size],
                padding=True,
                padding_side="right",
                return_tensors="pt",
                add_special_tokens=False,
                return_token_type_ids=False,
            ).to(self.model.device)
            rewards.append(self.model(**inputs).logits[:, 0].float().cpu())
        return torch.cat(rewards)

    def _text(self, prompt, completion) -> str:
        if isinstance(prompt, str):
            return prompt + completion
        if isinstance(completion, str):
            completion = [{"role": "assistant", "content": completion}]
        return self.tokenizer.apply_chat_template(list(prompt) + list(completion), tokenize=False)

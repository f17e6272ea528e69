"""Training-free rewards of finished texts."""

from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

from hf_reward_ext.base.lm.forward import run_forward
from hf_reward_ext.base.scoring.scorer import Scorer, completion_scorer
from hf_reward_ext.confidence.measures import Measure
from hf_reward_ext.confidence.names import require_measure


class LogitsRewardModel(nn.Module):
    """
    Reward model of a training-free measure and its policy, for anything that takes a scorer of text.

    One forward reads prompt and completion. For the tokens of a `generate` call the rewards equal those of
    [`LogitsReward`].

    Args:
        policy (`PreTrainedModel` or `PeftModel`): Model whose probabilities are used.
        measure ([`Measure`] or `str`, *optional*, defaults to `"confidence"`): The reward, or its name.

    Raises:
        TypeError, ValueError: As for [`LogitsReward`].

    Example:
    ```python
    >>> evaluate_best_of_n(LogitsRewardModel(policy, "self_certainty"), rows, tokenizer=tokenizer)
    ```
    """

    def __init__(self, policy, measure: Measure | str = "confidence"):
        super().__init__()
        self.measure = require_measure(measure)
        self.policy = policy

    @property
    def config(self) -> Any:
        """The policy's."""
        return self.policy.config

    @property
    def device(self) -> torch.device:
        """The policy's."""
        return self.policy.device

    def scorer(self, tokenizer: Any = None, batch_size: int = 16) -> Scorer:
        """
        Return the scorer of completions, for [`as_scorer`].

        Raises:
            TypeError: Without the policy's tokenizer.
        """
        scorer = completion_scorer(self, tokenizer, batch_size, self.policy)
        scorer.__name__ = self.measure.__name__
        return scorer

    @torch.no_grad()
    def forward(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Int[Tensor, "batch seq"],
        completion_mask: Bool[Tensor, "batch seq"],
    ) -> SequenceClassifierOutput:
        """
        Score completions.

        Args:
            input_ids, attention_mask (`torch.Tensor` of shape `(batch, seq)`): Prompts and completions.
            completion_mask (`torch.Tensor` of shape `(batch, seq)`): `True` on completion tokens.

        Returns:
            `SequenceClassifierOutput` with `logits` of shape `(batch, 1)`: the rewards.

        Raises:
            ValueError: If the first token of a row belongs to the completion, since it has no prediction.
        """
        if completion_mask[:, 0].any():
            raise ValueError(
                "A completion must follow a prompt of at least one token, got a row without. Leave the row out."
            )
        logits = run_forward(self.policy, input_ids, attention_mask).logits
        dtype = torch.promote_types(logits.dtype, torch.float32)
        running = self.measure.start(logits.new_zeros(len(input_ids), dtype=dtype))
        for column in completion_mask.any(0).nonzero().flatten().tolist():
            log_probs = logits[:, column - 1].to(dtype).log_softmax(-1)
            running.update(self.measure.of_tokens(log_probs, input_ids[:, column]), completion_mask[:, column])
        return SequenceClassifierOutput(logits=running.value()[:, None])  # pyright: ignore[reportArgumentType]

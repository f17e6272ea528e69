"""Reward models that are told where the completion begins."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from hf_reward_ext.base.preference.pairs import tokenize_completion


class CompletionScorer:
    """
    Rewards by a model that is told where the completion begins: its forward takes `completion_mask`.

    Texts and messages are tokenised as in training, EOS included.

    Args:
        model (`PreTrainedModel`): [`GenARMRewardModel`], [`ELHSRForSequenceClassification`], a Reward
            Transformer as a classifier, or one alike.
        tokenizer: Its tokenizer.
        batch_size (`int`, *optional*, defaults to 16): Completions per forward.
    """

    def __init__(self, model, tokenizer, batch_size: int = 16):
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.__name__ = getattr(model.config, "_name_or_path", "").split("/")[-1] or type(model).__name__

    @torch.no_grad()
    def __call__(self, prompts: Sequence, completions: Sequence, **_) -> Float[Tensor, " batch"]:
        """Rewards of prompts and completions, text or messages; float32, on the CPU."""
        pairs = [
            tokenize_completion(prompt, completion, self.tokenizer)
            for prompt, completion in zip(prompts, completions, strict=True)
        ]
        rewards = [self._forward(pairs[at : at + self.batch_size]) for at in range(0, len(pairs), self.batch_size)]
        return torch.cat(rewards)

    def _forward(self, pairs: list[tuple[list[int], list[int]]]) -> Float[Tensor, " batch"]:
        width = max(len(prompt) + len(completion) for prompt, completion in pairs)
        input_ids = torch.zeros(len(pairs), width, dtype=torch.long)
        attention_mask = torch.zeros_like(input_ids)
        completion_mask = torch.zeros_like(input_ids, dtype=torch.bool)
        for row, (prompt, completion) in enumerate(pairs):
            end = len(prompt) + len(completion)
            input_ids[row, :end] = torch.tensor(prompt + completion)
            attention_mask[row, :end] = 1
            completion_mask[row, len(prompt) : end] = True
        inputs = dict(input_ids=input_ids, attention_mask=attention_mask, completion_mask=completion_mask)
        out = self.model(**{name: value.to(self.model.device) for name, value in inputs.items()})
        return out.logits[:, 0].float().cpu()

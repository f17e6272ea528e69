"""Scorer for reward models whose forward takes `completion_mask`."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from hf_reward_ext.base.preference.chat import common_prefix, encode_chat, render_chat
from hf_reward_ext.base.preference.pairs import tokenize_completion
from hf_reward_ext.base.preference.step_ends import find_step_ends
from hf_reward_ext.base.preference.validation import Messages
from hf_reward_ext.base.scoring.conversation import TextOrChat, join_turns, read_conversation, starts_answer
from hf_reward_ext.base.scoring.model_scorer import EncodedText, ModelScorer


class CompletionScorer(ModelScorer):
    """
    Scorer of a model whose forward takes `completion_mask`.

    Texts and messages are tokenized as in training: EOS ends the completion even if it was not generated, and an
    empty completion is EOS alone. A completion that continues the assistant's message of its prompt counts from there.

    Args:
        model (`PreTrainedModel`): [`GenARMRewardModel`], [`ELHSRForSequenceClassification`], or a similar model.
        tokenizer: Its tokenizer.
        batch_size (`int`, *optional*, defaults to 16): Completions per forward.
        reader (`nn.Module`, *optional*): Language model inside `model`.
    """

    def encode(self, prompt: TextOrChat, completion: TextOrChat) -> EncodedText:
        prompt, completion = read_conversation(prompt, completion)
        if isinstance(prompt, str):
            # Trainers reject completions of whitespace only, but a policy may generate one.
            answer = cast(str, completion) if completion.strip() else f"{completion}{self.tokenizer.eos_token}"  # pyright: ignore[reportAttributeAccessIssue]
            prompt_ids, completion_ids = tokenize_completion(prompt, answer, self.tokenizer)
            return EncodedText(prompt_ids + completion_ids, len(prompt_ids))
        chat = join_turns(prompt, cast(Messages, completion))
        if chat[-1]["role"] != "assistant":
            roles = [turn["role"] for turn in chat]
            raise ValueError(f"A completion must end with the assistant's message, got the roles {roles}.")
        ids, ((start, _),) = encode_chat(chat, self.tokenizer, "last")
        if starts_answer(prompt):
            begun = render_chat(prompt, self.tokenizer, continue_final_message=True)
            start = max(start, common_prefix(begun, ids))
        return EncodedText(ids, start)

    @property
    def reads_prefixes(self) -> bool:
        """`True` if the model has rewards of prefixes, which one forward reads."""
        return hasattr(self.model, "prefix_rewards")

    @torch.no_grad()
    def score_steps(
        self, prompts: Sequence, completions: Sequence, steps: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """
        Return the reward of each completion up to the end of each step, from one forward.

        A prefix has no EOS, unlike a text that is scored by itself.

        Args:
            prompts, completions (`list` of `str` or of messages): One prompt per completion.
            steps (`list` of `list[str]`): Steps of each completion.

        Raises:
            ValueError: If a text is empty or too long, or the tokenizer does not decode to the text of the steps.
        """
        texts = self._encode(prompts, completions)
        ends = [
            [text.start + end for end in find_step_ends(self.tokenizer, text.ids[text.start :], own)]
            for text, own in zip(texts, steps, strict=True)
        ]
        rewards: list[Tensor] = []
        for start in range(0, len(texts), self.batch_size):
            inputs = self._pad(texts[start : start + self.batch_size])
            rewards += self.prefix_rewards(*inputs).float().cpu()
        return [row[own].tolist() for row, own in zip(rewards, ends, strict=True)]

    def prefix_rewards(self, input_ids: Tensor, attention_mask: Tensor, completion_mask: Tensor) -> Tensor:
        """Return the reward of the completion up to each token, `(rows, seq)`."""
        return self.model.prefix_rewards(input_ids, attention_mask, completion_mask)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, completion_mask: Tensor) -> Tensor:
        out = self.model(input_ids=input_ids, attention_mask=attention_mask, completion_mask=completion_mask)
        return out.logits[:, 0]

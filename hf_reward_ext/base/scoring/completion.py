"""Reward models whose forward takes the place where the completion begins."""

from typing import Any

from torch import Tensor

from hf_reward_ext.base.preference.pairs import tokenize_completion
from hf_reward_ext.base.scoring.conversation import is_chat, join_turns, starts_answer
from hf_reward_ext.base.scoring.model_scorer import EncodedText, ModelScorer, Turns


class CompletionScorer(ModelScorer):
    """
    Rewards by a model whose forward takes `completion_mask`.

    Texts and messages are tokenized as in training: EOS ends the completion, whether it was written or not, and one of
    no tokens is EOS alone. A completion that continues the assistant's message of its prompt counts from there.

    Args:
        model (`PreTrainedModel`): [`GenARMRewardModel`], [`ELHSRForSequenceClassification`], or one alike.
        tokenizer: Its tokenizer.
        batch_size (`int`, *optional*, defaults to 16): Completions per forward.
        reader (`nn.Module`, *optional*): The language model inside.
    """

    def encode(self, prompt: str | Turns, completion: str | Turns) -> EncodedText:
        if is_chat(prompt, completion):
            self.check_template()
            turns = join_turns(prompt, completion)  # pyright: ignore[reportArgumentType]
            prompt_ids, completion_ids = tokenize_completion(turns[:-1], turns[-1:], self.tokenizer)
            start = len(prompt_ids)
            if starts_answer(prompt):
                start = max(start, _shared(_render_start(prompt, self.tokenizer), prompt_ids + completion_ids))
        else:
            prompt_ids, completion_ids = tokenize_completion(
                prompt, completion or self.tokenizer.eos_token, self.tokenizer
            )
            start = len(prompt_ids)
        ids = prompt_ids + completion_ids
        second_bos = _has_second_bos(ids, self.tokenizer)
        return EncodedText(ids[second_bos:], start - second_bos)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, completion_mask: Tensor) -> Tensor:
        out = self.model(input_ids=input_ids, attention_mask=attention_mask, completion_mask=completion_mask)
        return out.logits[:, 0]


def _has_second_bos(ids: list[int], tokenizer: Any) -> bool:
    """Whether the text brought the BOS that the tokenizer writes, as rendered and decoded prompts do."""
    bos = tokenizer.bos_token_id
    return bos is not None and ids[:2] == [bos, bos]


def _render_start(prompt: Any, tokenizer: Any) -> list[int]:
    """Ids of a chat up to where its last message, the beginning of an answer, stops."""
    rendered = tokenizer.apply_chat_template(
        list(prompt), tokenize=True, return_dict=True, continue_final_message=True, add_generation_prompt=False
    )
    return list(rendered["input_ids"])


def _shared(ids: list[int], other_ids: list[int]) -> int:
    pairs = zip(ids, other_ids, strict=False)
    return next((index for index, (one, other) in enumerate(pairs) if one != other), min(len(ids), len(other_ids)))

"""Completions of many prompts, and whether they are right."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from hf_reward_ext.base.prefill import SharedPrefill
from hf_reward_ext.base.token_rewards import completion_mask_from_ids


class Rollout(NamedTuple):
    """One sampled completion: its prompt, text and token ids (EOS included), and whether it is right."""

    prompt: str
    completion: str
    prompt_ids: list[int]
    completion_ids: list[int]
    correct: bool


@torch.no_grad()
def sample(
    policy,
    tokenizer,
    prompts: Sequence[str],
    is_correct: Callable[[str, str], bool],
    *,
    num_candidates: int = 1,
    temperature: float = 1.0,
    max_new_tokens: int = 32,
    prompts_per_batch: int = 64,
    show_progress: bool = True,
    meter=None,
) -> list[list[Rollout]]:
    """
    `num_candidates` rollouts per prompt; temperature 0 is greedy.

    Args:
        policy, tokenizer: Of the demo.
        prompts (`list[str]`): What to continue.
        is_correct (`callable`): `(prompt, completion) -> bool`.
        meter (`callable`, *optional*): `(sequences) -> None`, called after every batch, for rewards read while
            generating.

    Returns:
        One list of rollouts per prompt.
    """
    rollouts = []
    settings = dict(do_sample=temperature > 0, max_new_tokens=max_new_tokens)
    if temperature > 0:
        settings.update(temperature=temperature, top_k=0)
    for start in tqdm(range(0, len(prompts), prompts_per_batch), desc="sampling", disable=not show_progress):
        batch = list(prompts[start : start + prompts_per_batch])
        inputs = tokenizer(batch, return_tensors="pt", padding=True, return_token_type_ids=False)
        prefill = SharedPrefill(policy, inputs["input_ids"], inputs["attention_mask"])
        sequences = prefill.generate(num_candidates, **settings)
        if meter is not None:
            meter(sequences)
        rows = _rollouts(sequences, batch, inputs["input_ids"], tokenizer, is_correct, num_candidates)
        rollouts += [rows[index : index + num_candidates] for index in range(0, len(rows), num_candidates)]
    return rollouts


def _rollouts(sequences: Tensor, prompts, input_ids: Tensor, tokenizer, is_correct, num_candidates) -> list[Rollout]:
    completions = sequences[:, input_ids.shape[1] :]
    mask = completion_mask_from_ids(completions, [tokenizer.eos_token_id], tokenizer.pad_token_id)
    texts = tokenizer.batch_decode(completions, skip_special_tokens=True)
    rows = []
    for index, text in enumerate(texts):
        prompt = prompts[index // num_candidates]
        prompt_ids = input_ids[index // num_candidates]
        rows.append(
            Rollout(
                prompt,
                text,
                prompt_ids[prompt_ids != tokenizer.pad_token_id].tolist(),
                completions[index][mask[index]].tolist(),
                is_correct(prompt, text),
            )
        )
    return rows

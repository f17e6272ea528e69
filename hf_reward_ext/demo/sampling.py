"""Sampling of completions with their length, log-probability, reward and correctness."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from transformers.utils.logging import tqdm

from hf_reward_ext.base.lm.draws import Draws, candidate_generator, drawing
from hf_reward_ext.base.lm.prefill import SharedPrefill
from hf_reward_ext.base.lm.row_ends import watch_row_ends
from hf_reward_ext.base.training.token_rewards import gather_step_logps, masked_mean
from hf_reward_ext.elhsr import HiddenStateReward


class Rollouts(NamedTuple):
    """
    Sampled completions; arrays are `(prompts, candidates)`.

    Attributes:
        prompts (`list[str]`): Prompts.
        completions (`list[list[str]]`): Candidates of each prompt.
        rows (`list[dict]`): `{prompt_ids, completion_ids, label}` of every candidate, for a trainer.
        correct, num_tokens, mean_logps, rewards (`np.ndarray`): Values of each candidate; log-probabilities
            in nats, rewards NaN without a head.
    """

    prompts: list[str]
    completions: list[list[str]]
    rows: list[dict]
    correct: np.ndarray
    num_tokens: np.ndarray
    mean_logps: np.ndarray
    rewards: np.ndarray

    def to_dataset(self) -> Dataset:
        """Return the rows as a dataset."""
        return Dataset.from_list(self.rows)


@torch.no_grad()
def sample(
    policy,
    tokenizer,
    prompts: Sequence[str],
    task,
    *,
    num_candidates: int = 1,
    temperature: float = 1.0,
    head=None,
    seed: int | None = None,
    prompts_per_batch: int = 32,
    show_progress: bool = True,
    name: str = "sampling",
    **generate_kwargs,
) -> Rollouts:
    """
    Sample candidates of every prompt; temperature 0 is greedy.

    Args:
        policy, tokenizer: Of the demo.
        prompts (`list[str]`): Prompts to continue.
        task (module): Task, `arithmetic` or `walk`, with `is_correct` and `MAX_NEW_TOKENS`.
        num_candidates (`int`): Number of candidates per prompt.
        temperature (`float`): Sampling temperature.
        head ([`ELHSRModel`], *optional*): Head that scores the candidates during generation.
        seed (`int`, *optional*): Random seed of separate random numbers for each candidate, so that the same candidates
            are sampled with any head. Default: the random state of torch.
        name (`str`): Name of the progress bar.
        **generate_kwargs: Further arguments of `generate`.
    """
    settings: dict = dict(
        max_new_tokens=task.MAX_NEW_TOKENS,
        do_sample=temperature > 0,
        return_dict_in_generate=True,
        output_logits=True,
        **(dict(temperature=temperature, top_k=0) if temperature > 0 else {}),
        **generate_kwargs,
    )
    parts = []
    for start in tqdm(range(0, len(prompts), prompts_per_batch), desc=name, disable=not show_progress):
        batch = list(prompts[start : start + prompts_per_batch])
        inputs = tokenizer(batch, return_tensors="pt", padding=True, return_token_type_ids=False)
        meter = HiddenStateReward(policy, head) if head is not None else None
        draws = None if seed is None else draws_of(inputs, num_candidates, seed)
        watching, drawn = meter or nullcontext(), drawing(policy, draws) if draws else nullcontext()
        with watching, drawn, watch_row_ends(policy) as ends:
            out = SharedPrefill(policy, inputs["input_ids"], inputs["attention_mask"]).generate(
                num_candidates, **settings
            )
        rewards = meter.rewards.numpy() if meter is not None else np.full(len(out.sequences), np.nan)
        mask = ends.completion_mask(out.sequences, inputs["input_ids"].shape[1])
        parts.append(_gather(out, mask, batch, inputs, tokenizer, task, num_candidates, rewards))
    return Rollouts(
        prompts=[prompt for part in parts for prompt in part.prompts],
        completions=[texts for part in parts for texts in part.completions],
        rows=[row for part in parts for row in part.rows],
        **{
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("correct", "num_tokens", "mean_logps", "rewards")
        },
    )


def draws_of(inputs, num_candidates: int, seed: int) -> Draws:
    """Return the random numbers of the candidates of tokenized prompts."""
    prompts = [
        ids[keep.bool()].tolist() for ids, keep in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
    ]
    return Draws([candidate_generator(seed, prompt, number) for prompt in prompts for number in range(num_candidates)])


def _gather(out, mask: Tensor, prompts, inputs, tokenizer, task, num_candidates: int, rewards: np.ndarray) -> Rollouts:
    completions = out.sequences[:, inputs["input_ids"].shape[1] :]
    texts = tokenizer.batch_decode(completions, skip_special_tokens=True)
    shape = (len(prompts), num_candidates)
    correct = [task.is_correct(prompts[index // num_candidates], text) for index, text in enumerate(texts)]
    prompt_ids = [ids[keep.bool()].tolist() for ids, keep in zip(*inputs.values(), strict=True)]
    rows = [
        {"prompt_ids": prompt_ids[index // num_candidates], "completion_ids": ids[keep].tolist(), "label": float(right)}
        for index, (ids, keep, right) in enumerate(zip(completions, mask, correct, strict=True))
    ]
    return Rollouts(
        prompts=prompts,
        completions=[texts[index : index + num_candidates] for index in range(0, len(texts), num_candidates)],
        rows=rows,
        correct=np.array(correct).reshape(shape),
        num_tokens=mask.sum(-1).numpy().reshape(shape),
        mean_logps=masked_mean(gather_step_logps(out.logits, completions), mask).numpy().reshape(shape),
        rewards=rewards.reshape(shape),
    )

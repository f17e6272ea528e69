"""Candidates of every prompt, sampled batch by batch and kept on disk, so that an interrupted run resumes."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tqdm.auto import tqdm

from examples.tasks import constraints
from hf_reward_ext import HiddenStateReward
from hf_reward_ext.base.lm.prefill import SharedPrefill
from hf_reward_ext.base.saving.atomic import replace_text
from hf_reward_ext.confidence import LogitsReward

TEMPERATURE = 0.8
MEASURES = ("mean_log_probability", "confidence")


@dataclass(frozen=True)
class Candidate:
    """
    A sampled response.

    Args:
        text (`str`): Response.
        prompt_ids, completion_ids (`list[int]`): Token ids; the completion ends with EOS unless it was cut.
        is_right (`bool`): Whether it follows the constraints.
        rewards (`dict`): Rewards by name: the training-free measures, and with a head `"head"`.
        token_rewards (`list[float]`): Reward of the text up to each token, with a head.
    """

    text: str
    prompt_ids: list[int]
    completion_ids: list[int]
    is_right: bool
    rewards: dict[str, float]
    token_rewards: list[float]


def encode(tokenizer, problems: Sequence):
    """Return the chat prompts of problems of a task as tensors, padded on the left."""
    texts = [
        tokenizer.apply_chat_template(problem.messages, tokenize=False, add_generation_prompt=True)
        for problem in problems
    ]
    return tokenizer(texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)


def sample(
    policy,
    tokenizer,
    problems: Sequence,
    folder: Path,
    *,
    num_candidates: int,
    task=constraints,
    head=None,
    temperature: float = TEMPERATURE,
    prompts_per_batch: int = 8,
    seed: int = 0,
    name: str = "sampling",
) -> list[list[Candidate]]:
    """
    Sample candidates of every problem; batches that are on disk are not sampled again.

    Args:
        policy, tokenizer: Chat model, or a [`GuidedCausalLM`] without `head`.
        problems (`list`): Problems of the task.
        folder (`Path`): Folder of the batches.
        num_candidates (`int`): Number of candidates per problem.
        task (module): Module of `examples.tasks`, with `MAX_NEW_TOKENS` and `is_right`.
        head ([`ELHSRModel`], *optional*): Head that scores the candidates while they are written.
        temperature (`float`): Sampling temperature; 0 is greedy.
        prompts_per_batch (`int`): Number of problems per batch.
        seed (`int`): Random seed; each batch has its own.
        name (`str`): Name of the progress bar.
    """
    folder.mkdir(parents=True, exist_ok=True)
    groups: list[list[Candidate]] = []
    for start in tqdm(range(0, len(problems), prompts_per_batch), desc=name, unit="batch"):
        path = folder / f"{start:05}.json"
        batch = problems[start : start + prompts_per_batch]
        if not path.exists():
            torch.manual_seed(seed * 100_003 + start)
            drawn = _sample_batch(policy, tokenizer, batch, num_candidates, task, head, temperature)
            replace_text(path, json.dumps([[asdict(one) for one in group] for group in drawn]))
        groups += [[Candidate(**one) for one in group] for group in json.loads(path.read_text(encoding="utf-8"))]
    return groups


@torch.no_grad()
def _sample_batch(policy, tokenizer, problems, num_candidates, task, head, temperature) -> list[list[Candidate]]:
    inputs = encode(tokenizer, problems)
    readers = {measure: LogitsReward(policy, measure) for measure in MEASURES}
    meter = None if head is None else HiddenStateReward(policy, head)
    settings = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
    with ExitStack() as stack:
        for reader in (*readers.values(), *([] if meter is None else [meter])):
            stack.enter_context(reader)
        out = SharedPrefill(policy, inputs["input_ids"], inputs["attention_mask"]).generate(
            num_candidates, max_new_tokens=task.MAX_NEW_TOKENS, pad_token_id=tokenizer.pad_token_id, **settings
        )
    mask = readers[MEASURES[0]].completion_mask
    completions = out[:, inputs["input_ids"].shape[1] :]
    rewards = {measure: reader.rewards.tolist() for measure, reader in readers.items()}
    if meter is not None:
        rewards["head"] = meter.rewards.tolist()
    groups: list[list[Candidate]] = [[] for _ in problems]
    for row, (ids, kept) in enumerate(zip(completions, mask, strict=True)):
        index = row // num_candidates
        text = tokenizer.decode(ids[kept], skip_special_tokens=True).strip()
        groups[index].append(
            Candidate(
                text=text,
                prompt_ids=inputs["input_ids"][index][inputs["attention_mask"][index].bool()].tolist(),
                completion_ids=ids[kept].tolist(),
                is_right=task.is_right(problems[index], text),
                rewards={name: round(values[row], 6) for name, values in rewards.items()},
                token_rewards=[] if meter is None else [round(v, 4) for v in meter.prefix_rewards[row][kept].tolist()],
            )
        )
    return groups

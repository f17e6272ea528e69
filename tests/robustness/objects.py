"""What holds state while `generate` runs, as functions of a number: the same number gives the same result."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from tiny import tiny_causal_lm, tiny_tokenizer
from tiny_judges import pair_judge
from torch import nn
from transformers import pipeline

import hf_reward_ext  # noqa: F401  registers "reward-bon"
from hf_reward_ext import (
    ELHSRModel,
    GenARMLogitsProcessor,
    GuidedCausalLM,
    HiddenStateReward,
    RewardTransformer,
    SLALogitsProcessor,
)
from hf_reward_ext.fast_slow import FastSlowRewardModel

NUM_PROMPTS = 12
GREEDY = dict(max_new_tokens=3, do_sample=False)


@dataclass(frozen=True)
class Subject:
    """
    Calls of one kind.

    Args:
        call (`callable`): Of a number; returns what can be compared.
        models (`tuple`): Models on which something could be left.
        plain (`callable`): A call of the same policy without any of our objects.
    """

    call: Callable[[int], Any]
    models: tuple[nn.Module, ...]
    plain: Callable[[int], Any]


def small(seed: int = 0) -> Any:
    """A model of two layers: thousands of calls in minutes."""
    return tiny_causal_lm(seed=seed, num_hidden_layers=2)


def prompt_of(number: int) -> torch.Tensor:
    """One of a few prompts of different lengths."""
    generator = torch.Generator().manual_seed(number % NUM_PROMPTS)
    return torch.randint(3, 32, (1, 3 + number % 4), generator=generator)


def words_of(number: int, count: int = 3) -> str:
    """A text of a few words."""
    return " ".join(f"w{(5 * number + index) % 20}" for index in range(count + number % 2))


def _plain(policy: Any) -> Callable[[int], list]:
    return lambda number: policy.generate(prompt_of(number), **GREEDY).tolist()


def genarm(shared: bool) -> Subject:
    policy, guide = small(), small(seed=1)
    one = GenARMLogitsProcessor(guide, alpha=2.0)

    def call(number: int) -> list:
        processor = one if shared else GenARMLogitsProcessor(guide, alpha=2.0)
        return policy.generate(prompt_of(number), logits_processor=[processor], **GREEDY).tolist()

    return Subject(call, (policy, guide), _plain(policy))


def composite(shared: bool) -> Subject:
    policy, guide = small(), small(seed=1)
    one = GuidedCausalLM(policy, guide, 2.0)

    def call(number: int) -> list:
        model = one if shared else GuidedCausalLM(policy, guide, 2.0)
        return model.generate(prompt_of(number), **GREEDY).tolist()

    return Subject(call, (policy, guide, one), _plain(policy))


def meter(shared: bool) -> Subject:
    policy = small()
    head = ELHSRModel.from_policy(policy)
    nn.init.normal_(head.linear.weight, std=0.05, generator=torch.Generator().manual_seed(0))
    one = HiddenStateReward(policy, head)

    def call(number: int) -> tuple:
        with one if shared else HiddenStateReward(policy, head) as entered:
            sequences = policy.generate(prompt_of(number), **GREEDY)
        return sequences.tolist(), [round(value, 4) for value in entered.rewards.tolist()]

    return Subject(call, (policy, head), _plain(policy))


def search(shared: bool) -> Subject:
    policy = small()
    channel = RewardTransformer.from_base(policy, channel_size=8)
    settings = dict(width=2, step=2, depth=1)
    one = SLALogitsProcessor(channel, **settings)

    def call(number: int) -> list:
        processor = one if shared else SLALogitsProcessor(channel, **settings)
        return channel.generate(prompt_of(number), logits_processor=[processor], **GREEDY).tolist()

    return Subject(call, (policy, channel), _plain(policy))


def judge(shared: bool) -> Subject:
    policy = small()
    one = pair_judge(policy, max_new_tokens=3)

    def call(number: int) -> tuple:
        model: FastSlowRewardModel = one if shared else pair_judge(policy, max_new_tokens=3)
        mode = ("fast", "slow", "gated")[number % 3]
        [found] = model.judge(
            [words_of(number)], [words_of(number + 1)], [words_of(number + 2)], mode=mode, show_progress=False
        )
        return found.text, found.mode, found.num_tokens, round(found.probability, 4)

    return Subject(call, (policy, one), _plain(policy))


def best_of_n(shared: bool) -> Subject:
    policy, tokenizer = small(), tiny_tokenizer()
    head = ELHSRModel.from_policy(policy, tokenizer)
    nn.init.normal_(head.linear.weight, std=0.05, generator=torch.Generator().manual_seed(0))

    def build() -> Any:
        return pipeline(
            "reward-bon", model=policy, tokenizer=tokenizer, reward_model=head, num_candidates=2, max_new_tokens=3,
            top_k=1,
        )  # fmt: skip

    one = build()

    def call(number: int) -> list:
        records = (one if shared else build())(words_of(number), return_all=True)
        return [(record["generated_text"], record["num_tokens"], round(record["score"], 4)) for record in records]

    return Subject(call, (policy, head), _plain(policy))


SUBJECTS: dict[str, Callable[[bool], Subject]] = {
    "GenARM processor": genarm,
    "GuidedCausalLM": composite,
    "HiddenStateReward": meter,
    "SLA processor": search,
    "judge": judge,
    "pipeline": best_of_n,
}


@contextmanager
def failing(model: nn.Module, error: type[BaseException], at: int) -> Iterator[None]:
    """A forward of the model raises an error: the first one is number 0."""
    count = iter(range(1000))

    def fail(*_: Any) -> None:
        if next(count) == at:
            raise error("on purpose")

    handle = model.register_forward_pre_hook(fail)
    try:
        yield
    finally:
        handle.remove()

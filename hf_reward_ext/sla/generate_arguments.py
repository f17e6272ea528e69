"""Arguments of `generate` as the look-ahead search takes them."""

from collections.abc import Sequence

from torch import Tensor
from transformers import LogitsProcessorList

from hf_reward_ext.sla.search import SearchSettings

PerPrompt = int | Sequence[int]


def without_sampling(logits_processor: LogitsProcessorList, generation_config) -> LogitsProcessorList:
    """
    Return the processors without those of sampling: temperature, top-k, top-p and others.

    The search compares probabilities of the policy; many checkpoints set `do_sample` with sampling settings that
    would change them. All of these processors are called `...LogitsWarper` in transformers.
    """
    if not generation_config.do_sample:
        return logits_processor
    return LogitsProcessorList(one for one in logits_processor if not type(one).__name__.endswith("LogitsWarper"))


def settings_per_prompt(
    prompts: int, width: PerPrompt, step: PerPrompt, depth: PerPrompt, token_budget: PerPrompt | None = None, **options
) -> list[SearchSettings]:
    """Return search settings per prompt: numbers apply to all prompts, lists to one prompt each."""
    columns = [
        _per_prompt(name, value, prompts)
        for name, value in (("width", width), ("step", step), ("depth", depth), ("token_budget", token_budget))
    ]
    return [
        SearchSettings(width=own[0], step=own[1], depth=own[2], token_budget=own[3], **options)
        for own in zip(*columns, strict=True)
    ]


def _per_prompt(name: str, value, prompts: int) -> list:
    if isinstance(value, Tensor):
        value = value.tolist()
    if value is None or not isinstance(value, Sequence):
        return [value] * prompts
    if not value or prompts % len(value):
        raise ValueError(
            f"`{name}` has {len(value)} numbers, but there are {prompts} prompts. Pass one number, or one per prompt."
        )
    return [one for one in value for _ in range(prompts // len(value))]

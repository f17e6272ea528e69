"""What decoding loops for `custom_generate` have in common: the calls that they reject, and their output."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers.generation import GenerateDecoderOnlyOutput, GenerationConfig
from transformers.generation.configuration_utils import GenerationMode

from hf_reward_ext.base.lm.forward import CACHE_NAMES, cache_field
from hf_reward_ext.base.lm.generate_hook import GenerateCall
from hf_reward_ext.base.lm.tokens import pad_token_id

_NOT_RETURNED = ("output_scores", "output_logits", "output_attentions", "output_hidden_states")


def check_loop_call(call: GenerateCall, loop: str, not_passed: Mapping[str, str], remedy: str = "Leave it out") -> None:
    """
    Reject arguments that `generate` does not pass to a loop, or that the loop does not return.

    Args:
        call ([`GenerateCall`]): Call of `generate`.
        loop (`str`): Name of the loop, for messages.
        not_passed (`dict[str, str]`): Rejected arguments, each with what to do, in addition to streamers and caches.
        remedy (`str`, *optional*): What to do without scores.

    Raises:
        ValueError: For such an argument, a call without cache, and a static cache.
    """
    given = {"streamer": "Leave it out", **not_passed}
    given |= dict.fromkeys(CACHE_NAMES, "Leave it out: every call reads its prompts")
    for name, action in given.items():
        if call.arguments.get(name) is not None:
            raise ValueError(f"`{name}=` must not be given with {loop}, got one. {action}.")
    if call.arguments.get("use_cache") is False:  # of the call; a checkpoint's value is ignored
        raise ValueError(f"`use_cache` must not be False with {loop}, which reads with caches. Leave it out.")
    if call.config.cache_implementation not in (None, "dynamic"):
        raise ValueError(
            f"`cache_implementation` must be None or 'dynamic' with {loop}, got {call.config.cache_implementation!r}: "
            "rejected drafts are removed from the cache. Leave it out."
        )
    asked = [name for name in _NOT_RETURNED if getattr(call.config, name)]
    if asked:
        names = ", ".join(f"`{name}`" for name in asked)
        raise ValueError(f"{names} must be False with {loop}, which returns tokens. {remedy}.")


def check_plain_decoding(config: GenerationConfig, loop: str) -> None:
    """
    Reject beams and other settings of `generate` than those of sampling and greedy decoding.

    Args:
        config (`GenerationConfig`): Settings of the call.
        loop (`str`): Name of the loop, for messages.

    Raises:
        ValueError: For such a setting.
    """
    mode = config.get_generation_mode()
    if mode not in (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE):
        raise ValueError(
            f"`generate` must sample or decode greedily with {loop}, got settings of {mode.value.replace('_', ' ')}. "
            "Leave them out."
        )


def loop_output(
    rows: Sequence[Tensor], config: GenerationConfig, kind: type[GenerateDecoderOnlyOutput], **counts: int
) -> Any:
    """
    Return the padded rows, or with `return_dict_in_generate` an output with counts.

    Args:
        rows (`list[torch.Tensor]`): Prompt and answer of each row.
        config (`GenerationConfig`): Settings of the call.
        kind (`type`): Class of the output.
        **counts (`int`): More fields of the output.
    """
    sequences = pad_sequence(list(rows), batch_first=True, padding_value=pad_token_id(config) or 0)
    if not config.return_dict_in_generate:
        return sequences
    return kind(sequences=sequences, **counts, **cache_field(kind, None))  # pyright: ignore[reportArgumentType, reportCallIssue]

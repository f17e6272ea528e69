"""Look-ahead search as a decoding loop of `generate`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import LogitsProcessorList, StoppingCriteriaList
from transformers.generation import GenerateDecoderOnlyOutput

from hf_reward_ext.base.lm.forward import CACHE_NAMES, cache_field, take_cache
from hf_reward_ext.base.lm.generate_hook import GenerateCall, checks_generate_call, install_generate_hook
from hf_reward_ext.base.lm.tokens import pad_token_id
from hf_reward_ext.sla.branching import Branching
from hf_reward_ext.sla.generate_arguments import PerPrompt, settings_per_prompt, without_sampling
from hf_reward_ext.sla.step_reward import resolve_reward
from hf_reward_ext.sla.streaming import ChunkSender
from hf_reward_ext.sla.tree_decoding import TreeDecoder


@dataclass
class SLAOutput(GenerateDecoderOnlyOutput):
    """
    Output of [`sla_generate`].

    Args:
        sequences (`torch.Tensor` of shape `(batch, seq)`): Prompts and answers.
        rewards (`torch.Tensor` of shape `(batch,)`): Mean token reward of each answer at the last decision.
        trees (`list[dict]`): Search tree of each prompt with `return_tree=True`: nested
            `{tokens, score, is_finished, is_confirmed, children}`.
        num_forwards, num_row_tokens, max_rows (`int`): Number of forwards, number of rows summed over the forwards
            after the prefill, and maximum number of rows in a forward.
    """

    rewards: Tensor | None = None
    trees: list[dict] | None = None
    num_forwards: int | None = None
    num_row_tokens: int | None = None
    max_rows: int | None = None


def _check_call(call: GenerateCall) -> None:
    for name, remedy in (("streamer", "Pass it as `on_chunk=`."), ("assistant_model", "Leave it out.")):
        if call.arguments.get(name) is not None:
            raise ValueError(
                f"`{name}=` must not be given with `custom_generate=sla_generate`: `generate` does not pass it on. "
                f"{remedy}"
            )
    if call.arguments.get("use_cache") is False:  # of the call; a checkpoint's value is ignored
        raise ValueError("`use_cache` must not be False for a search, which keeps its leaves in a cache. Leave it out.")


@checks_generate_call(_check_call)
def sla_generate(
    model,
    input_ids: Int[Tensor, "batch seq"],
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config,
    width: PerPrompt = 2,
    step: PerPrompt = 10,
    depth: PerPrompt = 2,
    reward=None,
    on_chunk: Callable | None = None,
    return_tree: bool = False,
    aggregate: str = "max",
    score_prompt: bool = True,
    stop_when_finished_leads: bool = False,
    token_budget: PerPrompt | None = None,
    branch_temperature: float | None = None,
    branch_entropy: float | None = None,
    **model_kwargs,
):
    r"""
    Run streaming look-ahead search, as `generate(custom_generate=sla_generate)`.

    $$ \hat c = \arg\max_{c} \max_{l \in \text{leaves}(c)} \frac{1}{m_l} \sum_{t \le m_l} r_t $$

    The search of [SLA](https://huggingface.co/papers/2503.00029): every `step` tokens each leaf forks into its `width`
    most probable tokens, and a chunk is confirmed once its descendants are `depth` chunks deeper. One forward per token
    reads all `width ** (depth + 1)` leaves of all prompts. Each prompt ends separately; `max_new_tokens`, `max_time`,
    `eos_token_id` and every stopping criterion end single leaves, and logits processors act on all of them. Stop
    strings need a ready `StopStringCriteria` in `stopping_criteria`. Rows are added and removed
    during the search, which processors with a state per row must support.

    The search is deterministic: `do_sample` has no effect, and with it temperature, top-k, top-p and the other settings
    of sampling. Options after `return_tree` are not in the paper.

    Args:
        width, step, depth (`int` or one per prompt, default to 2, 10, 2): The paper's $n$, $k$, $d$.
        reward (*optional*): Source of the token rewards, see [`resolve_reward`]. Default: the channel of the model.
        on_chunk (`callable` or streamer, *optional*): Receiver of each confirmed chunk, a [`ConfirmedChunk`] of token
            ids. A `TextStreamer` or `TextIteratorStreamer` works too, for one prompt.
        return_tree (`bool`, defaults to `False`): Whether to return the search trees, in an [`SLAOutput`].
        aggregate (`str`, defaults to `"max"`): Aggregation of the scores of a candidate's leaves, `"max"` or `"mean"`.
        score_prompt (`bool`, defaults to `True`): Whether to count the reward at the last prompt token, as the authors'
            code does.
        stop_when_finished_leads (`bool`, defaults to `False`): Whether to end when a finished sequence has the
            best score.
        token_budget (`int` or one per prompt, *optional*): Maximum number of leaf tokens to read, after which the
            best leaf is the answer.
        branch_temperature (`float`, *optional*): Temperature at which branch tokens are drawn without
            replacement. Default: the most probable tokens are used.
        branch_entropy (`float`, *optional*): Minimum entropy of the next token, in nats, for a leaf to fork.

    Returns:
        `torch.Tensor` of shape `(batch, seq)`, or [`SLAOutput`] with `return_tree` or `return_dict_in_generate`.

    Raises:
        ValueError: For beams, static and paged caches, `streamer=`, `inputs_embeds`, a reward of another base.

    Example:
    ```python
    >>> rt.generate(**inputs, custom_generate=sla_generate, width=2, step=10, depth=2, max_new_tokens=100)
    ```
    """
    install_generate_hook()
    _check_generation(model, input_ids, generation_config, model_kwargs)
    causal_lm, step_reward = resolve_reward(model, reward)
    options: dict[str, Any] = dict(
        aggregate=aggregate, score_prompt=score_prompt, stop_when_finished_leads=stop_when_finished_leads
    )  # fmt: skip
    decoder = TreeDecoder(
        causal_lm,
        step_reward,
        settings_per_prompt(len(input_ids), width, step, depth, token_budget, **options),
        input_ids,
        model_kwargs.get("attention_mask"),
        position_ids=model_kwargs.get("position_ids"),
        cache=take_cache(model_kwargs),
        logits_processor=without_sampling(logits_processor, generation_config),
        stopping_criteria=stopping_criteria,
        branching=Branching(branch_temperature, branch_entropy),
        keep_trees=return_tree,
    )
    with ChunkSender(on_chunk, input_ids) as sender:
        while not decoder.is_finished:
            decoder.advance()
            sender.send(decoder.searches)
    answers = [sum(search.confirmed, []) for search in decoder.searches]
    sequences = _append(input_ids, answers, generation_config)
    if not return_tree and not generation_config.return_dict_in_generate:
        return sequences
    return SLAOutput(
        sequences=sequences,  # pyright: ignore[reportArgumentType]
        rewards=torch.tensor([search.score for search in decoder.searches]),
        trees=[search.tree() for search in decoder.searches] if return_tree else None,
        num_forwards=decoder.num_forwards,
        num_row_tokens=decoder.num_row_tokens,
        max_rows=decoder.max_rows,
        **cache_field(SLAOutput, None),  # pyright: ignore[reportArgumentType]
    )


def _append(input_ids: Tensor, answers: list[list[int]], generation_config) -> Int[Tensor, "batch seq"]:
    pad = pad_token_id(generation_config) or 0
    longest = max(map(len, answers))
    rows = [tokens + [pad] * (longest - len(tokens)) for tokens in answers]
    return torch.cat([input_ids, torch.tensor(rows, dtype=input_ids.dtype, device=input_ids.device)], dim=-1)


_KNOWN = {"attention_mask", "position_ids", "use_cache", "logits_to_keep", "token_type_ids", *CACHE_NAMES}


def _check_generation(model, input_ids: Tensor, generation_config, model_kwargs: dict) -> None:
    if generation_config.num_beams > 1:
        raise ValueError(
            f"`num_beams` must be 1 for a search, got {generation_config.num_beams}. Leave it out, "
            "and set `width` and `depth`."
        )
    if getattr(model.config, "is_encoder_decoder", False):
        raise ValueError(
            f"`{type(model).__name__}` is an encoder-decoder, but the search reads prompt and answer as one text. Use "
            "a decoder-only model."
        )
    if model_kwargs.get("inputs_embeds") is not None or input_ids.shape[1] == 0:
        raise ValueError("`inputs_embeds` must be None for a search, which reads token ids. Pass `input_ids` instead.")
    unknown = sorted(name for name, value in model_kwargs.items() if name not in _KNOWN and value is not None)
    if unknown:
        raise ValueError(
            f"`generate` was called with {', '.join(f'`{name}`' for name in unknown)}, but the search would not know "
            "how to fork them with the rows. Leave them out."
        )

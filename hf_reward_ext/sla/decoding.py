"""The two ways to search with `generate`: a decoding loop, and a logits processor."""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LogitsProcessorList, StoppingCriteriaList
from transformers.generation import EosTokenCriteria, GenerateDecoderOnlyOutput
from transformers.generation.configuration_utils import GenerationMode

from hf_reward_ext.base.lm.forward import CACHE_NAMES, cache_field, take_cache
from hf_reward_ext.base.lm.generate_hook import (
    GenerateCall,
    WatchesGenerate,
    checks_generate_call,
    install_generate_hook,
)
from hf_reward_ext.base.lm.per_thread import PerThread
from hf_reward_ext.base.lm.tokens import pad_token_id
from hf_reward_ext.sla.branching import Branching
from hf_reward_ext.sla.search import SearchSettings
from hf_reward_ext.sla.step_reward import resolve_reward
from hf_reward_ext.sla.streaming import ChunkSender
from hf_reward_ext.sla.tree_decoding import TreeDecoder

PerPrompt = int | Sequence[int]


@dataclass
class SLAOutput(GenerateDecoderOnlyOutput):
    """
    Args:
        sequences (`torch.Tensor` of shape `(batch, seq)`): Prompts and answers.
        rewards (`torch.Tensor` of shape `(batch,)`): Mean token reward of each answer when it was chosen.
        trees (`list[dict]`): With `return_tree=True`, per prompt nested `{tokens, score, is_finished, is_confirmed,
            children}`.
        num_forwards, num_row_tokens, max_rows (`int`): Forwards in all, rows summed over the forwards after the
            prompt's, and the most rows of one forward.
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
    if call.arguments.get("use_cache") is False:  # that of a checkpoint is no request: the search has its own cache
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
    Streaming look-ahead search, as `generate(custom_generate=sla_generate)`.

    $$ \hat c = \arg\max_{c} \max_{l \in \text{leaves}(c)} \frac{1}{m_l} \sum_{t \le m_l} r_t $$

    The search of [SLA](https://huggingface.co/papers/2503.00029): every `step` tokens each leaf forks into its `width`
    most probable tokens, and a chunk is confirmed once its descendants are `depth` chunks deeper. One forward per token
    reads all `width ** (depth + 1)` leaves of all prompts. Prompts end on their own; `max_new_tokens`, `max_time`,
    `eos_token_id` and every stopping criterion end single leaves, and logits processors act on all of them. Stop
    strings need a ready `StopStringCriteria` in `stopping_criteria`. A processor that keeps a state per row sees rows
    come and go.

    The search is deterministic: `do_sample` has no effect, and with it temperature, top-k, top-p and the other settings
    of sampling. Every option after `return_tree` goes beyond the paper.

    Args:
        width, step, depth (`int` or one per prompt, default to 2, 10, 2): The paper's $n$, $k$, $d$.
        reward (*optional*): What gives the token rewards; see [`resolve_reward`]. Default: the model's own channel.
        on_chunk (`callable` or streamer, *optional*): Gets each confirmed chunk, a [`ConfirmedChunk`] of token ids. A
            `TextStreamer` or `TextIteratorStreamer` works too (one prompt, as always with these).
        return_tree (`bool`, defaults to `False`): Return the search trees; the output is then an [`SLAOutput`].
        aggregate (`str`, defaults to `"max"`): Value of a candidate from its leaves, `"max"` or `"mean"`.
        score_prompt (`bool`, defaults to `True`): Count the reward at the last prompt token, as the authors' code does.
        stop_when_finished_leads (`bool`, defaults to `False`): End where a finished sequence has the best score.
        token_budget (`int` or one per prompt, *optional*): Leaf-tokens to read at most; the best leaf is the answer.
        branch_temperature (`float`, *optional*): Draw branch tokens without replacement instead of the most probable.
        branch_entropy (`float`, *optional*): Nats; a leaf that is surer of its next token does not fork.

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


@dataclass
class _Search:
    """The search of one thread's call: prompts, and how much of the answers was forced."""

    decoder: TreeDecoder | None = None
    prompts: Tensor | None = None
    num_written: int = 0


class SLALogitsProcessor(WatchesGenerate):
    r"""
    Streaming look-ahead search as a logits processor: plain `generate` writes the tokens of [`sla_generate`].

    It searches on a cache of its own and forces the confirmed tokens one by one, so `generate` and its streamers work
    as usual, at the price of one more forward per token than [`sla_generate`]. Inside `generate` it gets the mask, the
    stopping criteria and the other processors of the call; in a loop of your own, leading `pad_token_id`s count as
    padding and nothing but EOS ends a leaf. One object serves any number of calls, also from several threads.

    The first processor that is made wraps `generate`, which passes none of these to processors; see
    [`~base.lm.generate_hook.remove_generate_hook`].

    Args:
        model ([`RewardTransformer`] or `PreTrainedModel`): The policy; without a channel it needs `reward`.
        width, step, depth (`int` or one per prompt, default to 2, 10, 2): The paper's $n$, $k$, $d$.
        reward, aggregate, score_prompt, stop_when_finished_leads, branch_temperature, branch_entropy (*optional*): As
            for [`sla_generate`].

    Raises:
        ValueError: For beams, assisted decoding, paged caches, or a reward of another base.

    Example:
    ```python
    >>> rt.generate(**inputs, logits_processor=[SLALogitsProcessor(rt, width=2, step=10, depth=2)])
    ```
    """

    supports_continuous_batching = False

    def __init__(
        self,
        model,
        width: PerPrompt = 2,
        step: PerPrompt = 10,
        depth: PerPrompt = 2,
        *,
        reward=None,
        aggregate: str = "max",
        score_prompt: bool = True,
        stop_when_finished_leads: bool = False,
        branch_temperature: float | None = None,
        branch_entropy: float | None = None,
    ):
        self.causal_lm, self.reward = resolve_reward(model, reward)
        self._shape = (width, step, depth)
        self._options: dict[str, Any] = dict(
            aggregate=aggregate, score_prompt=score_prompt, stop_when_finished_leads=stop_when_finished_leads
        )  # fmt: skip
        self._branching = Branching(branch_temperature, branch_entropy)
        self._searches = PerThread(_Search)
        super().__init__()

    @contextmanager
    def around(self, call: GenerateCall) -> Iterator[dict[str, Any]]:
        """Runs the call as sampling inside a `custom_generate` function, which gets mask, processors and criteria."""
        if call.arguments.get("custom_generate") is not None:
            raise ValueError(
                "`custom_generate=` must not be given with a `SLALogitsProcessor`, which decides every token. Leave "
                "one of them out."
            )
        mode = call.config.get_generation_mode(call.arguments.get("assistant_model"))
        if mode not in (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE):
            raise ValueError(
                f"`generate` must not run {mode.value.replace('_', ' ')} with a `SLALogitsProcessor`, which decides "
                "every token. Leave `num_beams`, `assistant_model` and the settings of drafts out."
            )
        sample = functools.partial(
            _search_then_sample,
            processor=self,
            streamer=call.arguments.get("streamer"),
            synced_gpus=bool(call.arguments.get("synced_gpus")),
        )
        yield {**call.arguments, "custom_generate": sample}

    def begin(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Int[Tensor, "batch seq"] | None = None,
        logits_processor: LogitsProcessorList | None = None,
        stopping_criteria: StoppingCriteriaList | None = None,
    ) -> None:
        """Starts the search of new prompts; inside `generate` it is called by itself."""
        search = self._searches.value
        search.prompts, search.num_written = input_ids, 0
        search.decoder = TreeDecoder(
            self.causal_lm,
            self.reward,
            settings_per_prompt(len(input_ids), *self._shape, **self._options),  # pyright: ignore[reportArgumentType]
            input_ids,
            attention_mask,
            logits_processor=logits_processor,
            stopping_criteria=stopping_criteria,
            branching=self._branching,
        )

    def end(self) -> None:
        """Frees the search and its cache; inside `generate` it is called by itself."""
        self._searches.clear()

    @torch.no_grad()
    def __call__(
        self, input_ids: Int[Tensor, "rows seq"], scores: Float[Tensor, "rows vocab"]
    ) -> Float[Tensor, "rows vocab"]:
        search = self._searches.value
        if not _continues(search, input_ids):
            self.begin(input_ids, *self._context(input_ids))
        answers = _answers(search)
        search.num_written += 1
        forced = torch.full_like(scores, -torch.inf)
        for row, tokens in enumerate(answers):
            if len(tokens) < search.num_written:
                forced[row] = scores[row]  # the row has ended, and `generate` pads it
            else:
                forced[row, tokens[search.num_written - 1]] = 0
        return forced

    def _context(self, input_ids: Tensor) -> tuple[Tensor | None, None, StoppingCriteriaList]:
        """Mask and criteria in a loop that passes none."""
        config = self.causal_lm.generation_config
        mask = None
        if config.pad_token_id is not None:
            mask = (input_ids != config.pad_token_id).long().cummax(-1).values
            mask[:, -1] = 1
        criteria = StoppingCriteriaList()
        if config.eos_token_id is not None:
            criteria.append(EosTokenCriteria(config.eos_token_id))
        return mask, None, criteria


def _answers(search: _Search) -> list[list[int]]:
    """Confirmed tokens of every prompt, at least one more than were written so far."""
    decoder = search.decoder
    while True:
        answers = [sum(one.confirmed, []) for one in decoder.searches]
        pairs = zip(decoder.searches, answers, strict=True)
        if all(one.is_finished or len(tokens) > search.num_written for one, tokens in pairs):
            return answers
        decoder.advance()


def _continues(search: _Search, input_ids: Tensor) -> bool:
    """Whether these are the prompts with what was forced so far."""
    if search.decoder is None or search.prompts is None:
        return False
    length = search.prompts.shape[1]
    if len(input_ids) != len(search.prompts) or input_ids.shape[1] != length + search.num_written:
        return False
    if not torch.equal(input_ids[:, :length], search.prompts):
        return False
    written = input_ids[:, length:].tolist()
    answers = [sum(one.confirmed, [])[: search.num_written] for one in search.decoder.searches]
    return all(row[: len(tokens)] == tokens for row, tokens in zip(written, answers, strict=True))


def _search_then_sample(
    model,
    input_ids: Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config,
    *,
    processor: SLALogitsProcessor,
    streamer,
    synced_gpus: bool,
    **model_kwargs,
):
    """`custom_generate` function of a processor's call: starts the search, then samples as `generate` would."""
    others = LogitsProcessorList(one for one in logits_processor if not isinstance(one, SLALogitsProcessor))
    others = without_sampling(others, generation_config)
    processor.begin(input_ids, model_kwargs.get("attention_mask"), others, stopping_criteria)
    try:
        return model._sample(
            input_ids,
            logits_processor,
            stopping_criteria,
            generation_config,
            synced_gpus=synced_gpus,
            streamer=streamer,
            **model_kwargs,
        )
    finally:
        processor.end()


def without_sampling(logits_processor: LogitsProcessorList, generation_config) -> LogitsProcessorList:
    """
    Processors without those that `generate` adds for sampling: temperature, top-k, top-p and the like.

    The search compares probabilities of the policy; today's checkpoints set `do_sample` with sampling settings that
    would change them. All of these processors are called `...LogitsWarper` in transformers.
    """
    if not generation_config.do_sample:
        return logits_processor
    return LogitsProcessorList(one for one in logits_processor if not type(one).__name__.endswith("LogitsWarper"))


def settings_per_prompt(
    prompts: int, width: PerPrompt, step: PerPrompt, depth: PerPrompt, token_budget: PerPrompt | None = None, **options
) -> list[SearchSettings]:
    """Numbers hold for all prompts; lists give one each, also where `num_return_sequences` repeats the prompts."""
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


def _append(input_ids: Tensor, answers: list[list[int]], generation_config) -> Int[Tensor, "batch seq"]:
    pad = pad_token_id(generation_config) or 0
    longest = max(map(len, answers))
    rows = [tokens + [pad] * (longest - len(tokens)) for tokens in answers]
    return torch.cat([input_ids, torch.tensor(rows, dtype=input_ids.dtype, device=input_ids.device)], dim=-1)


_KNOWN = {"attention_mask", "position_ids", "use_cache", "logits_to_keep", "token_type_ids", *CACHE_NAMES}


def _check_generation(model, input_ids: Tensor, generation_config, model_kwargs: dict) -> None:
    if generation_config.num_beams > 1:
        raise ValueError(
            f"`num_beams={generation_config.num_beams}` was given, but the search keeps its own leaves. Leave it out, "
            "and set `width` and `depth`."
        )
    if getattr(model.config, "is_encoder_decoder", False):
        raise ValueError(
            f"`{type(model).__name__}` is an encoder-decoder, but the search reads prompt and answer as one text. Use "
            "a decoder-only model."
        )
    if model_kwargs.get("inputs_embeds") is not None or input_ids.shape[1] == 0:
        raise ValueError(
            "`inputs_embeds` was given, but the search reads token ids. Pass `input_ids` instead of `inputs_embeds`."
        )
    unknown = sorted(name for name, value in model_kwargs.items() if name not in _KNOWN and value is not None)
    if unknown:
        raise ValueError(
            f"`generate` was called with {', '.join(f'`{name}`' for name in unknown)}, but the search would not know "
            "how to fork them with the rows. Leave them out."
        )

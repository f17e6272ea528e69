"""Look-ahead search with `generate`: as a decoding loop, and as a logits processor."""

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


@dataclass
class _Search:
    """Search of one thread's call, with the prompts and the number of forced tokens."""

    decoder: TreeDecoder | None = None
    prompts: Tensor | None = None
    num_written: int = 0


class SLALogitsProcessor(WatchesGenerate):
    r"""
    Logits processor that makes plain `generate` produce the tokens of [`sla_generate`].

    It searches with its own cache and forces the confirmed tokens one by one, so `generate` and its streamers work as
    usual, with one more forward per token than [`sla_generate`]. Inside `generate` it receives the mask, the stopping
    criteria and the other processors of the call. In a custom loop, leading `pad_token_id`s count as padding and only
    EOS ends a leaf. An object can be used for any number of calls, also from several threads.

    Constructing the first processor wraps `generate`, which does not pass these to processors; see
    [`~base.lm.generate_hook.remove_generate_hook`].

    Args:
        model ([`RewardTransformer`] or `PreTrainedModel`): Policy; `reward` is required if it has no
            channel.
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
        """Run the call as sampling in a `custom_generate` function, which receives mask, processors and criteria."""
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
        """Start the search of new prompts; called automatically inside `generate`."""
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
        """Free the search and its cache; called automatically inside `generate`."""
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
        """Return mask and criteria for a loop that passes none."""
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
    """Return the confirmed tokens of every prompt, at least one more than were forced so far."""
    decoder = search.decoder
    while True:
        answers = [sum(one.confirmed, []) for one in decoder.searches]
        pairs = zip(decoder.searches, answers, strict=True)
        if all(one.is_finished or len(tokens) > search.num_written for one, tokens in pairs):
            return answers
        decoder.advance()


def _continues(search: _Search, input_ids: Tensor) -> bool:
    """Return whether the ids are the prompts with the tokens forced so far."""
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
    """Start the search, then sample as `generate` does; the `custom_generate` function of a processor's call."""
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

"""Look-ahead search as a logits processor."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LogitsProcessorList, StoppingCriteriaList
from transformers.generation import EosTokenCriteria
from transformers.generation.configuration_utils import GenerationMode

from hf_reward_ext.base.lm.generate_hook import GenerateCall, WatchesGenerate
from hf_reward_ext.base.lm.per_thread import PerThread
from hf_reward_ext.sla.branching import Branching
from hf_reward_ext.sla.generate_arguments import PerPrompt, settings_per_prompt, without_sampling
from hf_reward_ext.sla.step_reward import resolve_reward
from hf_reward_ext.sla.tree_decoding import TreeDecoder


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

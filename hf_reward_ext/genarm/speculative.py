"""Speculative decoding of a guided model for any number of prompts, as a decoding loop of `generate`."""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import LogitsProcessorList, PreTrainedModel, StoppingCriteriaList
from transformers.generation import GenerateDecoderOnlyOutput

from hf_reward_ext.base.lm.cache import can_select_rows, new_cache
from hf_reward_ext.base.lm.decoding_loop import check_loop_call, check_plain_decoding, loop_output
from hf_reward_ext.base.lm.forward import positions_of, take_cache
from hf_reward_ext.base.lm.generate_hook import GenerateCall, checks_generate_call
from hf_reward_ext.base.options import check_count
from hf_reward_ext.genarm.causal_lms import check_causal_lm
from hf_reward_ext.genarm.draft_decoder import DraftDecoder
from hf_reward_ext.genarm.guided import GuidedCausalLM
from hf_reward_ext.genarm.processed_policy import ProcessedPolicy, split_processors
from hf_reward_ext.genarm.row_rules import RowRules


@dataclass
class SpeculativeOutput(GenerateDecoderOnlyOutput):
    """
    Output of [`speculative_generate`] with `return_dict_in_generate=True`.

    Args:
        sequences (`torch.Tensor` of shape `(rows, seq)`): Prompts and answers.
        num_rounds, num_drafted, num_accepted (`int`): Number of forwards of the guided model, of draft tokens, and of
            draft tokens that were accepted, over all rows.
    """

    num_rounds: int | None = None
    num_drafted: int | None = None
    num_accepted: int | None = None


_LOOP = "`custom_generate=speculative_generate`"
_NOT_PASSED = {
    "assistant_model": "Pass it as `drafter=`",
    "assistant_tokenizer": "Leave it out: a drafter has the tokens of the policy",
}


def _check_call(call: GenerateCall) -> None:
    check_loop_call(call, _LOOP, _NOT_PASSED, "Use `trace_guidance` on its output")


@checks_generate_call(_check_call)
def speculative_generate(
    model: PreTrainedModel,
    input_ids: Int[Tensor, "rows seq"],
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config,
    drafter=None,
    num_draft_tokens: int = 5,
    **model_kwargs,
):
    r"""
    Run speculative decoding of a guided policy, as `generate(custom_generate=speculative_generate)`.

    $$ P(\text{keep } y) = \min\left(1, \frac{\pi(y)}{q(y)}\right) $$

    [Speculative sampling](https://huggingface.co/papers/2211.17192) with the guided distribution $\pi$ as target: a
    guide drafts $q$, and one forward of policy and guides reads the drafts of all rows. Rows keep different numbers of
    drafts, so any number of prompts of any lengths can be decoded together, with `num_return_sequences` too. Greedy
    decoding gives the tokens of the guided model without drafts, and sampling its distribution. Logits processors and
    stopping criteria are called with one row at a time, processors at every draft; temperature, top-k and top-p also
    act on the drafter. Stop strings need a ready `StopStringCriteria` in `stopping_criteria`.

    The model is a [`GuidedCausalLM`], or a policy with a [`GenARMLogitsProcessor`] in `logits_processor`: policy and
    its guides then read all drafts in one forward each, and processors before it act on the policy's scores.

    Args:
        drafter (`PreTrainedModel` or `PeftModel`, *optional*): Causal LM with the policy's tokenizer. Default: the
            first guide.
        num_draft_tokens (`int`, defaults to 5): Maximum number of draft tokens per row and forward of the policy.

    Returns:
        `torch.Tensor` of shape `(rows, seq)`, or [`SpeculativeOutput`] with `return_dict_in_generate`.

    Raises:
        TypeError: If the model is not a [`GuidedCausalLM`] and has no [`GenARMLogitsProcessor`], or the drafter is not
            a causal LM.
        ValueError: For beams, static caches, `streamer=`, `assistant_model=`, processors with a state for each row, a
            drafter whose cache cannot be cropped, no drafter where the guides are adapters, and options of the
            processor under which guides and policy read different texts (a prompt of the guides, conditioned guides).

    Example:
    ```python
    >>> guided.generate(**inputs, custom_generate=speculative_generate, num_draft_tokens=4, max_new_tokens=100)
    >>> policy.generate(**inputs, logits_processor=[processor], custom_generate=speculative_generate)
    ```
    """
    target, before, after = _target(model, logits_processor)
    check_count("num_draft_tokens", num_draft_tokens)
    drafter = _drafter(target, drafter)
    check_plain_decoding(generation_config, _LOOP)
    take_cache(model_kwargs)  # that of `generate` is empty, and its sliding windows cannot be cropped
    mask, positions = _mask_and_positions(input_ids, model_kwargs)
    decoder = DraftDecoder(
        target,
        drafter,
        num_draft_tokens,
        input_ids,
        mask,
        positions,
        RowRules(after, stopping_criteria, len(input_ids)),
        do_sample=bool(generation_config.do_sample),
        max_length=generation_config.max_length,
        rules_before=RowRules(before, StoppingCriteriaList(), len(input_ids)),
    )
    while not decoder.is_finished:
        decoder.advance()
    return loop_output(
        decoder.texts,
        generation_config,
        SpeculativeOutput,
        num_rounds=decoder.num_rounds,
        num_drafted=decoder.num_drafted,
        num_accepted=decoder.num_accepted,
    )


def _target(
    model: PreTrainedModel, processors: LogitsProcessorList
) -> tuple[GuidedCausalLM | ProcessedPolicy, LogitsProcessorList, LogitsProcessorList]:
    """Return policy and guides, and the processors of the policy's and of the guided scores."""
    if isinstance(model, GuidedCausalLM):
        return model, LogitsProcessorList(), processors
    before, guided, after = split_processors(processors)
    if not guided:
        raise TypeError(
            "`speculative_generate` must run a `GuidedCausalLM`, or a policy with a `GenARMLogitsProcessor` in "
            f"`logits_processor`, got a `{type(model).__name__}` without one. Combine policy and guides first: "
            "`GuidedCausalLM(policy, guide)`."
        )
    if len(guided) > 1:
        raise ValueError(
            f"`logits_processor` must have one `GenARMLogitsProcessor`, got {len(guided)}. Pass all guides to one."
        )
    return ProcessedPolicy(model, guided[0]), before, after


def _drafter(model: GuidedCausalLM | ProcessedPolicy, drafter):
    if drafter is None and not model.reader.guides:
        raise ValueError(
            "`drafter` must be given where the guides are adapters, which are as slow as the policy, got None. Pass a "
            "small causal LM with the policy's tokenizer."
        )
    drafter = model.reader.guides[0] if drafter is None else drafter
    check_causal_lm(drafter, "A drafter")
    if not can_select_rows(new_cache(drafter)):
        raise ValueError(
            f"A drafter must have attention layers only, so that rejected tokens can be removed from its cache, got a "
            f"`{type(drafter).__name__}`. Pass another one as `drafter=`."
        )
    return drafter


_KNOWN = {"attention_mask", "position_ids", "use_cache", "logits_to_keep"}


def _mask_and_positions(input_ids: Tensor, model_kwargs: dict) -> tuple[Tensor, Tensor]:
    """Return mask and positions of the prompts, after rejecting other inputs of the forward."""
    unknown = sorted(name for name, value in model_kwargs.items() if name not in _KNOWN and value is not None)
    if unknown:
        raise ValueError(
            f"`generate` must get inputs that policy, guides and drafter read alike, got "
            f"{', '.join(f'`{name}`' for name in unknown)}. Leave them out."
        )
    if input_ids.shape[1] == 0:
        raise ValueError("`input_ids` must have at least one token, got none. Begin the prompt with the BOS token.")
    mask = model_kwargs.get("attention_mask")
    mask = torch.ones_like(input_ids) if mask is None else mask.to(input_ids)
    positions = model_kwargs.get("position_ids")  # not of every policy
    return mask, positions_of(mask) if positions is None else positions.expand_as(input_ids)

"""One `generate` call cut into stages, between which rows leave the batch."""

import copy
from typing import Any

from jaxtyping import Int
from torch import Tensor
from transformers import Cache, GenerationConfig, LogitsProcessorList

from hf_reward_ext.base.lm.forward import CACHE_NAMES, generate_cache_name, unwrap_peft
from hf_reward_ext.base.lm.generate_hook import WatchesGenerate, effective_generation_config
from hf_reward_ext.base.lm.keywords import check_generate_keywords
from hf_reward_ext.base.lm.tokens import pad_token_id

# Settings that a stage would apply to itself, and the values with which they do nothing.
_WHOLE_CALL: dict[str, tuple] = {
    "num_beams": (None, 1),
    "num_return_sequences": (None, 1),
    "guidance_scale": (None, 1),
    "begin_suppress_tokens": (None,),
    "forced_bos_token_id": (None,),
    "forced_eos_token_id": (None,),
    "exponential_decay_length_penalty": (None,),
    "encoder_repetition_penalty": (None, 1),
    "encoder_no_repeat_ngram_size": (None, 0),
    "max_time": (None,),
    "token_healing": (None, False),
    "prompt_lookup_num_tokens": (None,),
    "assistant_early_exit": (None,),
    "return_dict_in_generate": (None, False),
    "cache_implementation": (None, "dynamic"),
}
_WHOLE_CALL_ARGUMENTS = ("streamer", "assistant_model", "custom_generate", "inputs", "inputs_embeds", *CACHE_NAMES)


class Stages:
    """
    Settings of a `generate` call, applied stage by stage as if it were one call.

    Args:
        policy (`PreTrainedModel` or `PeftModel`): The model that generates.
        arguments (`dict`): Arguments of `generate` but the prompts, by name.
        prompt_length (`int`): Number of columns of the prompts.

    Attributes:
        max_new_tokens (`int`): Longest completion.
        pad_token_id (`int`): Fills ended rows.

    Raises:
        ValueError: If a setting concerns the call as a whole.
    """

    def __init__(self, policy, arguments: dict[str, Any], prompt_length: int):
        model = unwrap_peft(policy)
        check_generate_keywords(model, arguments)
        self._policy = policy
        self._config = effective_generation_config(model, arguments)
        self._others = {
            name: value
            for name, value in arguments.items()
            if name not in vars(GenerationConfig()) and name not in ("generation_config", "use_cache")
        }
        _check(self._config, arguments)
        pad = pad_token_id(self._config)
        self.pad_token_id = 0 if pad is None else pad
        self.max_new_tokens = _max_new_tokens(model, arguments, self._config, prompt_length)

    def generate(
        self,
        input_ids: Int[Tensor, "rows seq"],
        attention_mask: Int[Tensor, "rows seq"],
        cache: Cache,
        written: int,
        until: int,
    ) -> Int[Tensor, "rows more"]:
        """
        Continues rows to a length.

        Args:
            input_ids, attention_mask (`torch.Tensor` of shape `(rows, seq)`): Prompts and what was written so far.
            cache (`Cache`): All of it but the last token.
            written, until (`int`): Completion tokens so far and afterwards.
        """
        config = copy.deepcopy(self._config)
        more = until - written
        config.max_length, config.max_new_tokens = None, more
        if config.min_new_tokens is not None:
            config.min_length, config.min_new_tokens = None, min(max(0, config.min_new_tokens - written), more)
        elif config.min_length is not None:
            config.min_length = min(config.min_length, input_ids.shape[1] + more)
        config.use_cache = True  # a checkpoint that was saved during a training with checkpointing has False
        return self._policy.generate(
            input_ids=input_ids,
            attention_mask=attention_mask,
            generation_config=config,
            **{generate_cache_name(): cache},
            **self._others,
        )


def _check(config: GenerationConfig, arguments: dict[str, Any]) -> None:
    settings = [name for name, without in _WHOLE_CALL.items() if getattr(config, name, None) not in without]
    given = [name for name in _WHOLE_CALL_ARGUMENTS if arguments.get(name) is not None]
    processors = arguments.get("logits_processor") or LogitsProcessorList()
    given += [type(one).__name__ for one in processors if isinstance(one, WatchesGenerate)]
    if settings or given:
        names = ", ".join(f"`{name}`" for name in settings + given)
        raise ValueError(
            f"Pruned candidates must be written by plain sampling, got {names}: they are written in stages, each of "
            "which would apply it anew. Leave it out, or leave `prune` out."
        )
    if config.use_cache is False and arguments.get("use_cache") is False:
        raise ValueError("`use_cache` must not be False with `prune`: dropped rows leave the cache. Leave it out.")


def _max_new_tokens(model, arguments: dict[str, Any], config: GenerationConfig, prompt_length: int) -> int:
    if config.max_new_tokens is not None:
        length = config.max_new_tokens
    else:
        given = arguments.get("generation_config")
        own = [arguments.get("max_length"), getattr(given, "max_length", None), model.generation_config.max_length]
        # The default of `generate` is a number of new tokens; a length that somebody set includes the prompt.
        is_default = all(value is None for value in own)
        length = config.max_length - (0 if is_default else prompt_length)
    if length < 1:
        raise ValueError(
            f"`max_length` must be above the {prompt_length} tokens of the prompts, got {config.max_length}. Pass "
            "`max_new_tokens`."
        )
    return length

"""Start of the completion in texts like those of a training set, stored in the config of a reward model."""

import logging
from collections.abc import Sequence

from hf_reward_ext.base.preference.chat import special_ids
from hf_reward_ext.base.preference.masks import common_ending, find_completion_start

logger = logging.getLogger(__name__)


def set_completion_start(config, prompts: Sequence[Sequence[int]], processing_class) -> None:
    """
    Set `completion_start_ids` and `completion_starts_after` of a config that does not have them yet.

    Args:
        config (`PreTrainedConfig`): Configuration of a reward model that scores joined texts.
        prompts (`list[list[int]]`): Prompts of the training data.
        processing_class (`PreTrainedTokenizerBase`): The tokenizer.
    """
    if config.completion_start_ids is not None:
        return
    ids, occurrence = find_completion_start(prompts, special_ids(processing_class))
    ending = common_ending(prompts)
    if ids is None:
        found = f"{processing_class.decode(ending)!r}, which they also hold elsewhere" if ending else "different tokens"
        logger.warning(
            "The prompts end with %s, so a text that is scored without `completion_mask` counts as a whole, prompt "
            "included. Use chats, end prompts with a marker, or set `completion_start_ids` of the config.",
            found,
        )
    elif occurrence == "last" and special_ids(processing_class).isdisjoint(ids):
        logger.warning(
            "The prompts end with %r, which they also hold elsewhere: of a text that is scored without "
            "`completion_mask` only what follows the last of them counts. End prompts with a marker that no completion "
            "holds.",
            processing_class.decode(ids),
        )
    config.completion_start_ids, config.completion_starts_after = ids, occurrence

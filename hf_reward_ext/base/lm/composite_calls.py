"""Checks of `generate` calls on a model that is composed of other models."""

from typing import NoReturn

from hf_reward_ext.base.lm.generate_hook import GenerateCall


def refuse_continuous_batching(model) -> NoReturn:
    """
    Reject continuous batching, which calls a forward with other keywords.

    Args:
        model (`PreTrainedModel`): Composite model.

    Raises:
        ValueError: Always.
    """
    raise ValueError(
        f"`generate_batch` needs a paged cache, but the models of `{type(model).__name__}` have none. Call `generate` "
        "instead."
    )


def check_composite_call(call: GenerateCall) -> None:
    """
    Reject settings of `generate` that only a single model can follow.

    Args:
        call ([`GenerateCall`]): Call of `generate` on the composite.

    Raises:
        ValueError: For a paged cache, which calls a forward with other keywords, and for an early exit.
    """
    name = type(call.model).__name__
    if call.config.cache_implementation == "paged":
        raise ValueError(
            f"`cache_implementation` must not be 'paged' with `{name}`: its models have no paged cache. Leave "
            "`cache_implementation` out."
        )
    if call.config.assistant_early_exit is not None:
        raise ValueError(
            f"`assistant_early_exit` must not be given with `{name}`: its models would have to stop at one layer "
            "together. Pass `assistant_model` instead."
        )

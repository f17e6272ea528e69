"""Best of N with candidates of another engine than `generate`, for `bon`."""

from typing import Any

from hf_reward_ext.best_of_n import EngineBestOfN
from hf_reward_ext.cli.models import (
    base_model_name,
    load_causal_lm,
    load_function,
    load_scorer,
    load_tokenizer,
    loading_settings,
    on_device,
)
from hf_reward_ext.cli.options import is_function, is_training_free, is_url
from hf_reward_ext.engines import ContinuousBatchingGenerator, Generator, ServerGenerator
from hf_reward_ext.rewards import StepReward


def load_engine(options: Any) -> EngineBestOfN:
    """
    Load rewards and engine of `bon`.

    Args:
        options ([`BonOptions`]): Options with another engine than `transformers`.
    """
    reward, second = (
        load_scorer(name, f"--{option}", options, options.batch_size) if name and not is_training_free(name) else name
        for option, name in (
            ("reward_model", options.reward_model),
            ("second_reward_model", options.second_reward_model),
        )
    )
    if not is_training_free(options.reward_model):
        reward = of_steps(reward, options)
    return EngineBestOfN(_generator(options), reward, second_reward_model=second)


def of_steps(reward: Any, options: Any) -> Any:
    """Return the reward of the steps of a candidate with `--step_marks`, else the reward itself."""
    if not options.step_marks:
        return reward
    aggregation = options.step_aggregation or "min"
    probabilities = options.step_probabilities
    return StepReward(reward, options.step_marks, aggregation=aggregation, probabilities=probabilities)


def _generator(options: Any) -> Generator:
    if is_function(options.engine):
        generator = load_function(options.engine, "--engine", ())()
        if not isinstance(generator, Generator):
            raise TypeError(
                f"`--engine` must be a function that returns a generator, got {options.engine!r}, which returns a "
                f"`{type(generator).__name__}`. See `hf_reward_ext.engines.Generator`."
            )
        return generator
    if is_url(options.engine):
        given = {"concurrency": options.concurrency, "timeout": options.request_timeout}
        return ServerGenerator(
            options.engine,
            options.served_model,
            **{name: value for name, value in given.items() if value is not None},
        )
    name = options.model or base_model_name(options.reward_model)
    tokenizer = load_tokenizer(name, revision=options.revision, trust_remote_code=options.trust_remote_code)
    policy = on_device(load_causal_lm(name, revision=options.revision, **loading_settings(options)), options)
    needs_log_probabilities = options.reward_model == "mean_log_probability"
    return ContinuousBatchingGenerator(policy, tokenizer, log_probabilities=needs_log_probabilities)

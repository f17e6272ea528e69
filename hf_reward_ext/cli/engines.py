"""Best of N with candidates of another engine than `generate`, for `bon`."""

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hf_reward_ext.best_of_n import EngineBestOfN
from hf_reward_ext.cli.functions import load_function
from hf_reward_ext.cli.models import (
    adapter_base,
    base_model_name,
    is_head,
    load_causal_lm,
    load_scorer,
    load_tokenizer,
    loading_settings,
    on_device,
    set_template_variables,
)
from hf_reward_ext.cli.options import is_function, is_training_free, is_url
from hf_reward_ext.cli.processes import count_processes
from hf_reward_ext.confidence import GroupConfidence
from hf_reward_ext.demo.policy import NAME as DEMO_POLICY
from hf_reward_ext.elhsr import ELHSRModel
from hf_reward_ext.engines import (
    ContinuousBatchingGenerator,
    Generator,
    ServerGenerator,
    VllmGenerator,
    VllmStateGenerator,
    vllm_state_arguments,
)
from hf_reward_ext.engines.vllm import import_vllm
from hf_reward_ext.rewards import StepReward


def load_engine(options: Any) -> EngineBestOfN:
    """
    Load rewards and engine of `bon`.

    Args:
        options ([`BonOptions`]): Options with another engine than `transformers`.
    """
    if options.engine == "vllm":
        import_vllm()  # an error before any model is loaded
    second = _load_reward("second_reward_model", options)
    if options.engine == "vllm" and is_head(options.reward_model) and not options.step_marks:
        head: Any = ELHSRModel.from_pretrained(options.reward_model)
        if head.config.features == "hidden_states":
            return EngineBestOfN(_vllm_generator(options, head), head, second_reward_model=second)
    reward = _load_reward("reward_model", options)
    if options.confidence_window:
        reward = GroupConfidence(window=options.confidence_window)
    if not is_training_free(options.reward_model):
        reward = of_steps(reward, options)
    return EngineBestOfN(_generator(options), reward, second_reward_model=second)


def _load_reward(option: str, options: Any) -> Any:
    name = getattr(options, option)
    if not name or is_training_free(name):
        return name
    return load_scorer(name, f"--{option}", options, options.batch_size)


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
    if options.engine == "vllm":
        return _vllm_generator(options, None)
    name = options.model or base_model_name(options.reward_model)
    tokenizer = load_tokenizer(name, revision=options.revision, trust_remote_code=options.trust_remote_code)
    set_template_variables(tokenizer, options.template_variables())
    policy = on_device(load_causal_lm(name, revision=options.revision, **loading_settings(options)), options)
    return ContinuousBatchingGenerator(policy, tokenizer, log_probabilities=_needs_log_probabilities(options))


def _vllm_generator(options: Any, head: ELHSRModel | None) -> VllmGenerator:
    """Return vLLM in this process, which gives the hidden states of a head."""
    name = options.model or base_model_name(options.reward_model)
    if count_processes() > 1:
        raise ValueError(
            f"`--engine vllm` must run in one process, got {count_processes()}. Start one, and distribute the model by "
            "`--vllm_arguments '{\"tensor_parallel_size\": 2}'`."
        )
    if name == DEMO_POLICY or adapter_base(name, options.revision) is not None:
        raise ValueError(
            f"`--model` must be a folder or name of a whole model for vLLM, got {name!r}. Merge an adapter with "
            "`hf_reward_ext.merge_adapters`, or use `--engine transformers`."
        )
    arguments = options.read_vllm_arguments()
    if head is not None:
        arguments = _with_states(arguments, head)
    llm = import_vllm().LLM(
        model=name,
        revision=options.revision,
        tokenizer_revision=options.revision,
        dtype=options.dtype,
        trust_remote_code=options.trust_remote_code,
        **arguments,
    )
    if head is not None:
        return VllmStateGenerator(llm)
    if options.reward_model == "confidence":
        return VllmGenerator(llm, log_probabilities=True, top_log_probabilities=20)
    return VllmGenerator(llm, log_probabilities=_needs_log_probabilities(options))


def _with_states(arguments: dict[str, Any], head: ELHSRModel) -> dict[str, Any]:
    folder = tempfile.mkdtemp(prefix="hf_reward_ext-states-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    added = vllm_state_arguments(head.config.layers, folder)
    for name in sorted(added.keys() & arguments.keys()):
        raise ValueError(
            f"`--vllm_arguments` must not contain {name!r} with an ELHSR head, whose hidden states need it. Leave it "
            "out."
        )
    return arguments | added


def _needs_log_probabilities(options: Any) -> bool:
    return options.reward_model == "mean_log_probability"

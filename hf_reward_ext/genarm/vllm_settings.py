"""Guides of a `vllm.LLM` or `vllm serve`: the arguments that load them in its worker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from hf_reward_ext.base.options import check_choice, check_number
from hf_reward_ext.genarm.conditioned_folder import is_conditioned_folder

PROCESSOR = "hf_reward_ext.genarm.vllm_processor:GenARMVllmProcessor"
ALPHA = "genarm_alpha"
_SECTION = "genarm"
_DTYPES = ("auto", "float32", "bfloat16", "float16")


def vllm_arguments(
    guides: str | Sequence[str],
    alpha: float | Sequence[float] = 1.0,
    *,
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
) -> dict[str, Any]:
    r"""
    Return the arguments with which a `vllm.LLM` is guided as by [`GenARMLogitsProcessor`].

    $$ \log\pi(y_t) = \log\pi_{base}(y_t) + \sum_k \alpha_k \log\pi_k(y_t) - \log Z_t $$

    The decoding rule of [GenARM](https://huggingface.co/papers/2410.08193). The guides run in the worker of vLLM, with
    caches of their own. Temperature, top-p and top-k apply to the guided distribution; penalties, which vLLM applies
    after its logits processors, to the guided log-probabilities. One request can have its own weights:
    `SamplingParams(extra_args={"genarm_alpha": 0.5})`; rows of weight 0 are not guided and cost nothing.

    Args:
        guides (`str` or a list of K): Folders or names of causal LMs, or of LoRA adapters, with the policy's tokenizer.
        alpha (`float` or K floats, *optional*, defaults to 1.0): Weights.
        dtype (`str`, *optional*, defaults to `"auto"`): Type of the guides' weights; `"auto"`: as saved.

    Returns:
        `dict`: `logits_processors` and `additional_config`, for `vllm.LLM(model, **arguments)`.

    Raises:
        TypeError: If a guide is not a name.
        ValueError: If a weight is not a finite number, or a guide is a conditioned one.

    Example:
    ```python
    >>> llm = vllm.LLM("Qwen/Qwen3-4B", **vllm_arguments("path/to/guide", alpha=1.0))
    ```
    """
    names: list[Any] = list(guides) if isinstance(guides, list | tuple) else [guides]
    settings = GuideSettings(names, _weights(alpha, len(names), "alpha"), dtype)
    return {"logits_processors": [PROCESSOR], "additional_config": {_SECTION: vars(settings)}}


@dataclass(frozen=True)
class GuideSettings:
    """
    Guides, their weights and type, as they are written to the configuration of vLLM.

    Args:
        guides (`list[str]`): Folders or names.
        alpha (`list[float]`): Weights.
        dtype (`str`): Type of the weights.
    """

    guides: list[str]
    alpha: list[float]
    dtype: str

    def __post_init__(self):
        check_choice("dtype", self.dtype, _DTYPES)
        if not self.guides:
            raise ValueError("`guides` must be at least one folder or name, got none. Use vLLM without guides instead.")
        for name in self.guides:
            if not isinstance(name, str):
                raise TypeError(
                    "`guides` must be folders or names, which the worker of vLLM loads, got a "
                    f"`{type(name).__name__}`. Save the guide, and pass the folder."
                )
            if is_conditioned_folder(name):
                raise ValueError(
                    f"`guides` must be plain guides, got the conditioned guide {name!r}. Fold weights into it with "
                    "`fold_weights(load_conditioned_guide(...), weights)`, save the result, and pass its folder."
                )

    @classmethod
    def of(cls, additional_config: Any) -> Self:
        """
        Return the settings in the configuration of vLLM.

        Raises:
            ValueError: If it has none.
        """
        found = additional_config.get(_SECTION) if isinstance(additional_config, Mapping) else None
        if found is None:
            raise ValueError(
                f"`additional_config` must have {_SECTION!r} for `{PROCESSOR}`, got {additional_config!r}. Create the "
                "engine with all of `vllm_arguments(...)`."
            )
        return cls(**found)

    def alpha_of(self, extra_args: Mapping[str, Any] | None) -> list[float]:
        """Return the weights of one request: its own, or those of the engine."""
        given = (extra_args or {}).get(ALPHA)
        return self.alpha if given is None else _weights(given, len(self.guides), ALPHA)


def check_request(extra_args: Mapping[str, Any] | None) -> None:
    """Raise an error for weights of a request that are not finite numbers; their count is checked by the worker."""
    given = (extra_args or {}).get(ALPHA)
    if given is not None:
        _weights(given, len(given) if isinstance(given, Sequence) else 1, ALPHA)


def _weights(alpha: Any, count: int, name: str) -> list[float]:
    if not isinstance(alpha, int | float | Sequence) or isinstance(alpha, bool | str):
        raise TypeError(f"`{name}` must be a number or a list of them, got a `{type(alpha).__name__}`. Pass numbers.")
    given = list(alpha) if isinstance(alpha, Sequence) else [alpha] * count
    if len(given) != count:
        raise ValueError(f"`{name}` must be one number for each of {count} guides, got {len(given)}. Pass that many.")
    for one in given:
        check_number(name, one)
    return [float(one) for one in given]

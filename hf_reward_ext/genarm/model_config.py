"""Configuration of GenARM reward models."""

import copy
from typing import Any, Literal

from transformers import AutoConfig

from hf_reward_ext.base.saving.config import RewardModelConfig


class GenARMRewardModelConfig(RewardModelConfig):
    """
    Configuration of [`GenARMRewardModel`].

    Args:
        causal_lm (`dict` or `PreTrainedConfig`, *optional*): Configuration of the autoregressive reward model. Its
            `quantization_config` becomes that of the whole model.
        beta (`float`, *optional*, defaults to 1.0): Scale of the rewards.
        length_normalization (`bool`, *optional*, defaults to `False`): Whether to use the mean instead of the sum over
            tokens.
        completion_start_ids (`list[int]`, *optional*): Ids that end every prompt (such as a chat's assistant
            header). The completion of a text without a mask begins after them.
        completion_starts_after (`str`, *optional*, defaults to `"last"`): Occurrence of `completion_start_ids` that
            ends the prompt, `"first"` or `"last"`.

    Example:
    ```python
    >>> GenARMRewardModelConfig(causal_lm=model.config).beta
    1.0
    ```
    """

    model_type = "genarm"

    def __init__(
        self,
        causal_lm: Any = None,
        beta: float = 1.0,
        length_normalization: bool = False,
        completion_start_ids: list[int] | None = None,
        completion_starts_after: Literal["first", "last"] = "last",
        **kwargs,
    ):
        if isinstance(causal_lm, dict):
            causal_lm = AutoConfig.for_model(**causal_lm)
        if getattr(causal_lm, "quantization_config", None) is not None:
            # `from_pretrained` quantizes by the outer configuration; without it integer weights would be noise.
            causal_lm = copy.deepcopy(causal_lm)
            kwargs.setdefault("quantization_config", causal_lm.quantization_config)
            del causal_lm.quantization_config
        self.causal_lm = causal_lm
        self.beta = beta
        self.length_normalization = length_normalization
        self.completion_start_ids = completion_start_ids
        self.completion_starts_after = completion_starts_after
        kwargs.setdefault("problem_type", "regression")  # keeps text-classification from applying a sigmoid
        kwargs["num_labels"] = 1
        super().__init__(**kwargs)

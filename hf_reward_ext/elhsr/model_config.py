"""Configuration of an ELHSR reward head."""

from typing import Literal

from hf_reward_ext.base.lm.layers import ascending_layers
from hf_reward_ext.base.options import check_count
from hf_reward_ext.base.saving.config import RewardModelConfig


class ELHSRModelConfig(RewardModelConfig):
    r"""
    Configuration of [`ELHSRModel`], saved as its `config.json`.

    Args:
        hidden_size (`int`): Width of the policy's hidden states.
        num_layers (`int`): Number of the policy's decoder layers $L$. Its `hidden_states` have $L+1$ entries: 0 is the
            embedding, $L$ the state after the final norm.
        layers (`list[int]`, *optional*): Entries that the head reads, negative numbers counted from the end, stored in
            ascending order. Default: all $L+1$, as in the paper.
        gate (`bool`, *optional*, defaults to `True`): Whether to weight tokens by a learned gate instead of a plain
            mean.
        attention (`bool`, *optional*, defaults to `False`): Whether weights are a softmax over the tokens instead of
            gates between 0 and 1.
        mlp_size (`int`, *optional*): Width of a hidden layer between features and outputs. Default: none, a linear
            head.
        features (`str`, *optional*, defaults to `"hidden_states"`): Features, `"hidden_states"` or `"logits"`. The
            logits are those for the next token at the position of $y_t$ (for policies without hidden states).
        vocab_size (`int`, *optional*): Number of logits; required by `features="logits"` without `top_logprobs`.
        top_logprobs (`int`, *optional*): Number of largest log-probabilities to read, in descending order, instead of
            all logits, with `features="logits"`.
        standardize (`bool`, *optional*, defaults to `False`): Whether the head stores mean and scale of its features
            and standardizes them. [`ELHSRModel.fold_standardization`] converts such a head to a plain one.
        calibration (`list[float]`, *optional*): Slope and intercept of the logistic map from reward to the
            probability of a correct completion, fitted on held-out data.
        completion_start_ids (`list[int]`, *optional*): Ids that end every prompt (such as a chat's assistant
            header). The completion of a text without a mask begins after them.
        completion_starts_after (`str`, *optional*, defaults to `"last"`): Occurrence of `completion_start_ids` that
            ends the prompt, `"first"` or `"last"`.
        base_model_name_or_path, base_model_revision, template_hash, adapter (`str`, *optional*): Policy that the
            head was trained on, checked by [`ELHSRModel.check_policy`].

    Raises:
        ValueError: If a layer is outside $[-(L+1), L]$ or repeated, the number of features is not specified, or
            options exclude each other.

    Example:
    ```python
    >>> ELHSRModelConfig(hidden_size=16, num_layers=3, layers=[-1, 0]).layers
    [0, 3]
    ```
    """

    model_type = "elhsr"

    def __init__(
        self,
        hidden_size: int = 1,
        num_layers: int = 1,
        layers: list[int] | None = None,
        gate: bool = True,
        attention: bool = False,
        mlp_size: int | None = None,
        features: str = "hidden_states",
        vocab_size: int | None = None,
        top_logprobs: int | None = None,
        standardize: bool = False,
        calibration: list[float] | None = None,
        completion_start_ids: list[int] | None = None,
        completion_starts_after: Literal["first", "last"] = "last",
        base_model_name_or_path: str | None = None,
        base_model_revision: str | None = None,
        template_hash: str | None = None,
        adapter: str | None = None,
        **kwargs,
    ):
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.layers = ascending_layers(layers, num_layers, "policy")
        self.gate = gate
        self.attention = attention
        self.mlp_size = mlp_size
        self.features = features
        self.vocab_size = vocab_size
        self.top_logprobs = top_logprobs
        self.standardize = standardize
        self.calibration = calibration
        self.completion_start_ids = completion_start_ids
        self.completion_starts_after = completion_starts_after
        self.base_model_name_or_path = base_model_name_or_path
        self.base_model_revision = base_model_revision
        self.template_hash = template_hash
        self.adapter = adapter
        if features not in ("hidden_states", "logits"):
            raise ValueError(f"`features` must be 'hidden_states' or 'logits', got {features!r}. Choose one of them.")
        if attention and not gate:
            raise ValueError("`gate` must be True with `attention`, whose weights it computes, got False. Change one.")
        if mlp_size is not None:
            check_count("mlp_size", mlp_size)
        if features == "logits" and not (vocab_size or top_logprobs):
            raise ValueError(
                "`vocab_size` or `top_logprobs` must be given with `features='logits'`, got neither. Pass "
                "`vocab_size=policy.config.vocab_size`, or `top_logprobs`."
            )
        kwargs.setdefault("problem_type", "regression")  # keeps text-classification from applying a sigmoid
        kwargs.setdefault("pad_token_id", None)
        kwargs["num_labels"] = 1
        super().__init__(**kwargs)

    @property
    def num_features(self) -> int:
        """Length of the feature vector of one token."""
        if self.features == "logits":
            return int(self.top_logprobs or self.vocab_size or 0)
        return len(self.layers) * self.hidden_size

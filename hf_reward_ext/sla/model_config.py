"""Configuration of a saved reward channel."""

from pathlib import PurePosixPath, PureWindowsPath
from typing import Literal

from hf_reward_ext.base.lm.layers import ascending_layers
from hf_reward_ext.base.saving.config import RewardModelConfig


class RewardTransformerConfig(RewardModelConfig):
    r"""
    Configuration of a [`RewardChannel`], saved as its `config.json`.

    Args:
        hidden_size (`int`): Width of the base's hidden states, $d$.
        num_layers (`int`): Number of the base's decoder layers $L$. Its `hidden_states` have $L+1$ entries: 0 is the
            embedding, $L$ the state after the final norm.
        channel_size (`int`, defaults to 256): Width of the channel, $h$.
        layers (`list[int]`, *optional*): Hidden states that the channel reads, negative numbers counted from the end,
            stored in ascending order. The head also reads the last one. Default: all $L+1$, as in the paper. `[-1]` is
            a head on the final state alone.
        head_size (`int`, *optional*): Width of a hidden layer in the head. Default: none, a linear head.
        hidden_act (`str`, defaults to `"silu"`), rms_norm_eps (`float`), initializer_range (`float`):
            Activation, epsilon and initialization of the channel.
        completion_start_ids (`list[int]`, *optional*): Ids that end every prompt (such as a chat's assistant
            header). The completion of a text without a mask begins after them.
        completion_starts_after (`str`, *optional*, defaults to `"last"`): Occurrence of `completion_start_ids` that
            ends the prompt, `"first"` or `"last"`.
        policy_folder (`str`, *optional*): Subfolder with the policy that was trained with the channel, as whole weights
            or as an adapter.
        base_model_name_or_path, base_model_revision, template_hash, adapter (`str`, *optional*): Base that the
            channel was trained on, checked when they are combined.

    Raises:
        ValueError: If a layer is outside $[-(L+1), L]$ or repeated, `channel_size` is not positive, or
            `policy_folder` is outside the folder of the channel.

    Example:
    ```python
    >>> RewardTransformerConfig(hidden_size=16, num_layers=3).layers
    [0, 1, 2, 3]
    ```
    """

    model_type = "sla_reward_transformer"

    def __init__(
        self,
        hidden_size: int = 1,
        num_layers: int = 1,
        channel_size: int = 256,
        layers: list[int] | None = None,
        head_size: int | None = None,
        hidden_act: str = "silu",
        rms_norm_eps: float = 1e-6,
        initializer_range: float = 0.02,
        completion_start_ids: list[int] | None = None,
        completion_starts_after: Literal["first", "last"] = "last",
        policy_folder: str | None = None,
        base_model_name_or_path: str | None = None,
        base_model_revision: str | None = None,
        template_hash: str | None = None,
        adapter: str | None = None,
        **kwargs,
    ):
        if channel_size < 1:
            raise ValueError(f"`channel_size` must be at least 1, got {channel_size}. Pass for example 256.")
        if policy_folder is not None and not _is_inside(policy_folder):
            raise ValueError(
                f"`policy_folder` must be a folder inside that of the channel, got {policy_folder!r}. Saving writes "
                "there; do not use this checkpoint if it is not yours."
            )
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.channel_size = channel_size
        self.layers = ascending_layers(layers, num_layers, "base")
        self.head_size = head_size
        self.hidden_act = hidden_act
        self.rms_norm_eps = rms_norm_eps
        self.initializer_range = initializer_range
        self.completion_start_ids = completion_start_ids
        self.completion_starts_after = completion_starts_after
        self.policy_folder = policy_folder
        self.base_model_name_or_path = base_model_name_or_path
        self.base_model_revision = base_model_revision
        self.template_hash = template_hash
        self.adapter = adapter
        kwargs.setdefault("problem_type", "regression")  # keeps text-classification from applying a sigmoid
        kwargs.setdefault("pad_token_id", None)
        kwargs["num_labels"] = 1
        super().__init__(**kwargs)


def _is_inside(folder: str) -> bool:
    """Return whether a path from a config is inside the folder it is joined to, on every operating system."""
    paths = (PurePosixPath(folder), PureWindowsPath(folder))
    return bool(folder.strip()) and not any(path.anchor or ".." in path.parts or not path.parts for path in paths)

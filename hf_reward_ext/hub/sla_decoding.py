"""SLA's look-ahead search in a repository of the Hub."""

import copy
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, StoppingCriteriaList, StopStringCriteria

from hf_reward_ext.base.saving.card import CARD, CardText, hub_name, write_model_card
from hf_reward_ext.base.saving.upload import push_model
from hf_reward_ext.hub.arguments import check_repository, split_arguments
from hf_reward_ext.hub.folder import write_custom_generate
from hf_reward_ext.sla import RewardChannel, RewardTransformer, sla_generate
from hf_reward_ext.sla.model_card import PAPER

_CHANNEL = "reward_channel"
_WHAT = "SLA decoding: streaming look-ahead search with the token rewards of a channel next to the policy."
_SNIPPET = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

policy = AutoModelForCausalLM.from_pretrained({policy!r})
tokenizer = AutoTokenizer.from_pretrained({policy!r})
inputs = tokenizer("Once upon a time", return_tensors="pt")
# Runs custom_generate/generate.py of the repository, and needs `pip install hf_reward_ext`.
out = policy.generate(**inputs, custom_generate={path_or_repo!r}, trust_remote_code=True, max_new_tokens=32)
print(tokenizer.decode(out[0]))"""


class SLACustomGenerate:
    """
    Folder of a reward channel for `model.generate(custom_generate=folder, trust_remote_code=True)`.

    A call of `generate` can change the search (`width=3`) and pass the arguments of [`sla_generate`]. A streamer
    receives the confirmed chunks, and `stop_strings` can be used with `tokenizer=`.

    Args:
        reward_transformer ([`RewardTransformer`]): Model whose channel is saved in the folder.
        width, step, depth (`int`, default to 2, 10, 2): The paper's $n$, $k$, $d$.

    Raises:
        ValueError: If the channel's base has no name, or was trained with the channel.

    Example:
    ```python
    >>> SLACustomGenerate(rt, width=2, step=10, depth=2).push_to_hub("me/look-ahead")
    >>> policy.generate(**inputs, custom_generate="me/look-ahead", trust_remote_code=True, depth=3)
    ```
    """

    def __init__(self, reward_transformer: RewardTransformer, width: int = 2, step: int = 10, depth: int = 2):
        config = reward_transformer.reward_channel.config
        if config.base_model_name_or_path is None or config.policy_folder is not None:
            which = "was trained with it" if config.policy_folder is not None else "has no name"
            raise ValueError(
                f"The channel's base {which}, but whoever decodes with the repository brings the base. Upload the base "
                "on its own, load it by its name and join it with the channel."
            )
        self.channel = reward_transformer.reward_channel
        self.search = {"width": width, "step": step, "depth": depth}

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Save the channel, `custom_generate/` and a card unless there is one; other files are kept."""
        folder = Path(save_directory).resolve()
        PreTrainedModel.save_pretrained(self.channel, folder / _CHANNEL)  # without the card of the channel
        path_or_repo, policy = str(folder), self.channel.config.base_model_name_or_path
        write_custom_generate(folder, path_or_repo, _WHAT, "generate_look_ahead", self.search)
        if not (folder / CARD).exists():
            snippet = _SNIPPET.format(policy=policy, path_or_repo=path_or_repo)
            tags = ["custom_generate", "hf-reward-ext", "sla"]
            write_model_card(folder, CardText(_WHAT, snippet, PAPER, tags, hub_name(policy)))

    def push_to_hub(self, repo_id: str, **kwargs):
        """Upload the files of [`save_pretrained`] with the arguments of [`push_folder`]."""
        return push_model(self, repo_id, **kwargs)


def generate_look_ahead(
    model,
    width: int,
    step: int,
    depth: int,
    *,
    path_or_repo: str,
    streamer=None,
    tokenizer=None,
    assistant_model=None,
    synced_gpus: bool | None = None,
    **generate_arguments,
):
    """
    Run the model's `generate` with [`sla_generate`]; called by a repository's code.

    Args:
        model: What `generate` was called on.
        width, step, depth: Settings of the search.
        path_or_repo (`str`): Name or folder of the repository.
        streamer (*optional*): Receiver of the confirmed chunks, like `on_chunk`.
        tokenizer (*optional*): Tokenizer for `stop_strings`.
        assistant_model, synced_gpus: Not supported by the search; an error is raised if they are given.
        **generate_arguments: Other arguments; `revision`, `token` and `cache_dir` are used to load the channel.

    Returns:
        The output of `generate`.

    Raises:
        ValueError: For arguments that would be lost, or a policy other than the channel's base.
    """
    _refuse_lost(assistant_model, synced_gpus, streamer, generate_arguments.get("on_chunk"))
    loading, arguments = split_arguments(generate_arguments)
    if streamer is not None:
        arguments["on_chunk"] = streamer
    if tokenizer is not None:
        _stop_at_strings(model, arguments, tokenizer)
    if "reward" not in arguments and not isinstance(model, RewardTransformer):
        check_repository(path_or_repo, _CHANNEL)
        dtype = model.dtype if model.dtype.is_floating_point else torch.float32
        arguments["reward"] = _load(path_or_repo, tuple(loading.items())).to(model.device, dtype)
    # Not `model.generate`, which is this code in a model that was loaded from this repository.
    kind: Any = type(model)
    return kind.generate(model, **arguments, custom_generate=sla_generate, width=width, step=step, depth=depth)


@lru_cache(maxsize=8)
def _load(path_or_repo: str, loading: tuple) -> RewardChannel:
    return RewardChannel.from_pretrained(path_or_repo, subfolder=_CHANNEL, **dict(loading)).eval()  # pyright: ignore[reportAttributeAccessIssue]


def _refuse_lost(assistant_model, synced_gpus, streamer, on_chunk) -> None:
    if assistant_model is not None:
        raise ValueError(
            f"`assistant_model` must be None for a search, which would ignore it, got a "
            f"`{type(assistant_model).__name__}`. Leave it out."
        )
    if synced_gpus:
        raise ValueError(
            "`synced_gpus` must be False for a search, whose number of steps differs between processes, got True. "
            "Gather the weights on every device."
        )
    if streamer is not None and on_chunk is not None:
        raise ValueError("`streamer` and `on_chunk` must not be given together, got both. Leave one out.")


def _stop_at_strings(model, arguments: dict[str, Any], tokenizer) -> None:
    """Replace `stop_strings` by criteria, because `generate` does not pass the tokenizer."""
    config = arguments.get("generation_config") or model.generation_config
    strings = arguments.pop("stop_strings", config.stop_strings)
    if strings is None:
        return
    arguments["generation_config"] = copy.deepcopy(config)
    arguments["generation_config"].stop_strings = None
    criteria = arguments.get("stopping_criteria", [])
    arguments["stopping_criteria"] = StoppingCriteriaList([*criteria, StopStringCriteria(tokenizer, strings)])

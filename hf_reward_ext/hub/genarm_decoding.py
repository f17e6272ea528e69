"""GenARM decoding in a repository of the Hub."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from transformers import AutoModelForCausalLM, LogitsProcessorList

from hf_reward_ext.base.saving.card import CARD, CardText, hub_name, write_model_card
from hf_reward_ext.base.saving.upload import push_model
from hf_reward_ext.genarm import GenARMLogitsProcessor
from hf_reward_ext.genarm.model_card import PAPER
from hf_reward_ext.genarm.weights import GuideWeights
from hf_reward_ext.hub.arguments import check_repository, split_arguments
from hf_reward_ext.hub.folder import write_custom_generate

# Folders in the repository.
_GUIDE, _ADAPTER = "guide_", "adapter_"
_WHAT = "GenARM decoding: autoregressive reward models guide any causal LM with their tokenizer, token by token."
_SNIPPET = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

policy = AutoModelForCausalLM.from_pretrained({policy!r})
tokenizer = AutoTokenizer.from_pretrained({policy!r})
inputs = tokenizer("Once upon a time", return_tensors="pt")
# Runs custom_generate/generate.py of the repository, and needs `pip install hf_reward_ext`.
out = policy.generate(**inputs, custom_generate={path_or_repo!r}, trust_remote_code=True, max_new_tokens=32)
print(tokenizer.decode(out[0]))"""


class GenARMCustomGenerate:
    """
    Folder of guides and weights for `model.generate(custom_generate=folder, trust_remote_code=True)`.

    A call of `generate` can change the weights (`alpha=0.5`) and use every decoding mode, including streamers and
    assistants. The guides are loaded at the first call and cached.

    Args:
        guides (`PreTrainedModel`, `PeftModel`, `str`, or a list of K): Guides; models are saved in the folder, names
            are stored.
        alpha (`float` or K floats, defaults to 1.0): Weights.
        policy (`str`): Name of a policy, for the example in the card.

    Raises:
        TypeError: If the weights are no numbers.
        ValueError: If the base of an adapter has no name.

    Example:
    ```python
    >>> GenARMCustomGenerate(guide, alpha=1.0, policy="me/policy").push_to_hub("me/guided")
    >>> policy.generate(**inputs, custom_generate="me/guided", trust_remote_code=True, alpha=0.5)
    ```
    """

    def __init__(self, guides, alpha: float | Sequence[float] = 1.0, *, policy: str):
        self.guides = list(guides) if isinstance(guides, (list, tuple)) else [guides]
        is_number = isinstance(alpha, (int, float))
        if not is_number and not isinstance(alpha, (list, tuple)):
            raise TypeError(
                f"`alpha` must be a float or a list of floats to be saved, got a `{type(alpha).__name__}`. Pass other "
                "weights to `generate`."
            )
        GuideWeights(alpha, len(self.guides))  # checks the weights
        self.alpha = float(alpha) if is_number else [float(weight) for weight in alpha]
        self.policy = policy
        for guide in self.guides:
            _check_guide(guide)

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Save guides, `custom_generate/` and a card unless there is one; other files are kept."""
        folder = Path(save_directory).resolve()
        saved = [_save_guide(guide, folder, number) for number, guide in enumerate(self.guides)]
        path_or_repo = str(folder)
        write_custom_generate(folder, path_or_repo, _WHAT, "generate_guided", {"guides": saved, "alpha": self.alpha})
        if not (folder / CARD).exists():
            snippet = _SNIPPET.format(policy=self.policy, path_or_repo=path_or_repo)
            tags = ["custom_generate", "hf-reward-ext", "genarm"]
            write_model_card(folder, CardText(_WHAT, snippet, PAPER, tags, hub_name(self.policy)))

    def push_to_hub(self, repo_id: str, **kwargs):
        """Upload the files of [`save_pretrained`] with the arguments of [`push_folder`]."""
        return push_model(self, repo_id, **kwargs)


def generate_guided(model, guides, alpha, *, path_or_repo: str, **generate_arguments):
    """
    Run the model's `generate` with a [`GenARMLogitsProcessor`] as last processor; called by a repository's code.

    Args:
        model: Model whose `generate` was called.
        guides (`list`): Models, names, or folders in the repository (beginning with `./`).
        alpha: Weights, as for [`GenARMLogitsProcessor`].
        path_or_repo (`str`): Name or folder of the repository.
        **generate_arguments: Arguments of `generate`; `revision`, `token` and `cache_dir` are used to load the guides.

    Returns:
        The output of `generate`.
    """
    loading, arguments = split_arguments(generate_arguments)
    guides = guides if isinstance(guides, (list, tuple)) else [guides]
    loaded = [_load_guide(guide, path_or_repo, loading).to(model.device) for guide in guides]
    processors = [*arguments.pop("logits_processor", []), GenARMLogitsProcessor(loaded, alpha)]
    # Not `model.generate`, which is this code in a model that was loaded from this repository.
    return type(model).generate(model, **arguments, logits_processor=LogitsProcessorList(processors))


def _load_guide(guide, path_or_repo: str, loading: dict):
    if not isinstance(guide, str):
        return guide
    if not guide.startswith("./"):
        return _load(guide, "", ())
    check_repository(path_or_repo, guide)
    return _load(path_or_repo, guide.removeprefix("./"), tuple(loading.items()))


@lru_cache(maxsize=8)
def _load(name: str, subfolder: str, loading: tuple):
    if not subfolder.startswith(_ADAPTER):
        return AutoModelForCausalLM.from_pretrained(name, subfolder=subfolder, **dict(loading)).eval()
    from peft import PeftConfig, PeftModel

    config = PeftConfig.from_pretrained(name, subfolder=subfolder, **dict(loading))
    base = AutoModelForCausalLM.from_pretrained(str(config.base_model_name_or_path), revision=config.revision or "main")
    return PeftModel.from_pretrained(base, name, subfolder=subfolder, **dict(loading)).eval()


def _check_guide(guide) -> None:
    if hasattr(guide, "peft_config") and not guide.get_base_model().config.name_or_path:
        raise ValueError(
            f"The adapter {guide.active_adapter!r} must have a base with a name to be loaded again, got none. Pass "
            "`guide.merge_and_unload()`."
        )


def _save_guide(guide, folder: Path, number: int) -> str:
    if isinstance(guide, str):
        return guide
    if not hasattr(guide, "peft_config"):
        guide.save_pretrained(folder / f"{_GUIDE}{number}")
        return f"./{_GUIDE}{number}"
    subfolder = f"{_ADAPTER}{number}"
    guide.save_pretrained(folder / subfolder, selected_adapters=[guide.active_adapter])
    # PEFT saves adapters other than the default one in subfolders.
    return f"./{subfolder}" if guide.active_adapter == "default" else f"./{subfolder}/{guide.active_adapter}"

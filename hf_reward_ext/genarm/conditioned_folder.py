"""Folder of a conditioned guide: a LoRA adapter whose file has the cores too, and the names of the objectives."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from peft import PeftModel
from safetensors import safe_open

from hf_reward_ext.base.saving.atomic import replace_text
from hf_reward_ext.base.saving.base_model import load_adapter
from hf_reward_ext.genarm.conditioning import ConditionedDown, condition_adapter

_CONFIG = "conditioned_guide.json"
_ADAPTER = "adapter_model.safetensors"


def is_conditioned_folder(folder: str | Path) -> bool:
    """Return whether a folder has a conditioned guide."""
    return (Path(folder) / _CONFIG).is_file()


def write_objectives(folder: str | Path, objectives: Sequence[str | int]) -> None:
    """Write the names of the objectives, in the order of their weights, beside the saved adapter."""
    replace_text(Path(folder) / _CONFIG, json.dumps({"objectives": list(objectives)}, indent=2) + "\n")


def load_conditioned_guide(folder: str | Path, base=None, **kwargs) -> PeftModel:
    """
    Load a guide that was trained with `GenARMConfig(preference_conditioned=True)`.

    Its `objectives` are the names of the objectives, in the order of the weights. Loaded by PEFT alone, it is the plain
    adapter of equal weights.

    Args:
        folder (`str` or `Path`): Folder that [`GenARMTrainer`] has saved.
        base (`PreTrainedModel`, *optional*): Model that the adapter was trained on. Default: loaded by the name in the
            adapter's configuration.
        **kwargs: Arguments of `from_pretrained` of the base (`dtype`, `device_map`, ...); only without `base`.

    Returns:
        `PeftModel` in eval mode, for [`GenARMLogitsProcessor`].

    Raises:
        ValueError: If the folder has no conditioned guide, or lacks weights of it.

    Example:
    ```python
    >>> guide = load_conditioned_guide("outputs/guide")
    >>> processor = GenARMLogitsProcessor(guide, weights=[0.3, 0.7])
    ```
    """
    if base is not None and kwargs:
        raise ValueError(f"{sorted(kwargs)} must not be given with `base`, which is loaded already. Leave them out.")
    folder = Path(folder)
    if not is_conditioned_folder(folder):
        raise ValueError(
            f"`folder` must have a conditioned guide, got {str(folder)!r} without `{_CONFIG}`. Save one with "
            "`GenARMTrainer`, or load a plain guide with `AutoModelForCausalLM` or `AutoPeftModelForCausalLM`."
        )
    objectives = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))["objectives"]
    if base is None:
        model = load_adapter(folder, **kwargs)
    else:
        model = PeftModel.from_pretrained(base, folder)
    condition_adapter(model, len(objectives))
    _load_cores(model, folder / _ADAPTER)
    model.objectives = objectives
    return model.eval()


@torch.no_grad()
def _load_cores(model: PeftModel, path: Path) -> None:
    with safe_open(path, "pt") as file:
        saved = set(file.keys())
        for name, layer in model.named_modules():
            if isinstance(layer, ConditionedDown):
                key = f"{name.rpartition('.')[0]}.core"  # without the name of the adapter
                if key not in saved or tuple(file.get_slice(key).get_shape()) != tuple(layer.core.shape):
                    raise ValueError(
                        f"{str(path)!r} must have the core {key!r} of shape {tuple(layer.core.shape)}, got another or "
                        "none. Save the guide again with `GenARMTrainer`."
                    )
                layer.core.copy_(file.get_tensor(key))
                layer.core.requires_grad_(False)

"""The norm after the last layer of a causal LM, without the rest of the model."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

# Names of the norm after the last layer in the decoders of transformers.
_NAMES = ("norm", "final_layernorm", "final_layer_norm", "final_norm", "norm_f", "ln_f")


def load_final_norm(name: str, revision: str | None = None, *, dtype: torch.dtype = torch.float32) -> nn.Module:
    """
    Load the norm that a causal LM applies after its last layer.

    Engines give the states of the last layer before it; `hidden_states[-1]` of transformers is after it.

    Args:
        name (`str`): Name or folder of the model.
        revision (`str`, *optional*): Branch, tag or commit.
        dtype (`torch.dtype`, *optional*, defaults to `torch.float32`): Type of the weights.

    Raises:
        ValueError: If the model does not have exactly one such norm, or its weights are not in the safetensors files.

    Example:
    ```python
    >>> norm = load_final_norm("HuggingFaceTB/SmolLM2-135M-Instruct")
    >>> norm(states_of_the_last_layer)
    ```
    """
    config = AutoConfig.from_pretrained(name, revision=revision)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype)
    child, norm = _final_norm(model, name)
    path = next(place for place, module in model.named_modules() if module is norm)
    folder = name if Path(name).is_dir() else snapshot_download(name, revision=revision, allow_patterns="*.safetensors")
    needed = norm.state_dict()
    found: dict[str, Tensor] = {}
    for weight in needed:
        tensors = list(_find(Path(folder), f"{path}.{weight}", f"{child}.{weight}"))
        if len(tensors) != 1:
            raise ValueError(
                f"{name!r} must have one weight {path}.{weight} in safetensors files, got {len(tensors)}. Save the "
                "model with `save_pretrained`, or make the head without its last layer."
            )
        found[weight] = tensors[0].to(dtype)
    norm.load_state_dict(found, assign=True)
    return norm.eval().requires_grad_(False)


def _final_norm(model: Any, name: str) -> tuple[str, nn.Module]:
    decoder = model.get_decoder()
    norms = [(child, module) for child, module in decoder.named_children() if child in _NAMES]
    if len(norms) != 1:
        raise ValueError(
            f"{name!r} must have one norm after its last layer, got {[child for child, _ in norms]} in "
            f"`{type(decoder).__name__}`. Make the head without the last layer, `layers=[...]`."
        )
    return norms[0]


def _find(folder: Path, path: str, ending: str) -> Iterator[Tensor]:
    """Yield the tensor of that path, or those whose path ends with it outside the layers."""
    exact, others = [], []
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            for key in opened.keys():
                if key == path:
                    exact.append(opened.get_tensor(key))
                elif f".{key}".endswith(f".{ending}") and not any(part.isdigit() for part in key.split(".")):
                    others.append(opened.get_tensor(key))
    yield from exact or others

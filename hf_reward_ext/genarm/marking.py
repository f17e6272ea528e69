"""Marking of saved guides, so that they cannot be loaded as reward models with a random head."""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from hf_reward_ext.base.saving.atomic import replace_file, replace_text

_CONFIG = "config.json"
_ADAPTER = "adapter_model.safetensors"
_HEAD = "base_model.model.score.weight"


def mark_guide(folder: str | Path) -> None:
    """
    Make `AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)` raise for a saved guide.

    `GRPOTrainer(reward_funcs="folder")` loads a reward model in this way, and would add a head with random weights to a
    causal LM or an adapter. Loading as a causal LM is not affected.

    Args:
        folder (`str` or `Path`): Saved causal LM or adapter.
    """
    folder = Path(folder)
    if (folder / _CONFIG).is_file():
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        # transformers rejects this type for a single label, and uses it in classification heads only.
        config["problem_type"] = "single_label_classification"
        replace_text(folder / _CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")
    if (folder / _ADAPTER).is_file():
        with safe_open(folder / _ADAPTER, "pt") as file:
            metadata = file.metadata()
            weights = {name: file.get_tensor(name) for name in file.keys()}
        # An empty weight has the wrong shape for any head, and is ignored without a head.
        weights[_HEAD] = torch.empty(0)
        replace_file(folder / _ADAPTER, lambda draft: save_file(weights, draft, metadata))

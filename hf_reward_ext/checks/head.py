"""Checks that the reward head is trained and saved."""

import re

from peft import get_peft_model_state_dict

from hf_reward_ext.checks.checkpoint import SavedTensors
from hf_reward_ext.checks.finding import Finding
from hf_reward_ext.checks.probe import Probe, largest_difference

_WRAPPERS = re.compile(r"\.(original_module|base_layer)(?=\.)")
_ADAPTERS = re.compile(r"\.modules_to_save\.|\.(lora|vera|ia3|oft|boft|hada|lokr)_")


def unwrap_adapters(model):
    """Return the model without its adapters."""
    return model.get_base_model() if hasattr(model, "peft_config") else model


def head_parameters(model) -> dict:
    """Return the parameters outside of the module with the embedding, by their names without adapters."""
    base = unwrap_adapters(model)
    embedding, module, prefix = base.get_input_embeddings(), base, ""
    while True:
        inner = [one for one in module.named_children() if any(part is embedding for part in one[1].modules())]
        if len(inner) != 1 or inner[0][1] is embedding:
            return {}  # tied to the embedding, or another structure
        prefix, module = f"{prefix}{inner[0][0]}.", inner[0][1]
        beside = {
            _WRAPPERS.sub("", name): parameter
            for name, parameter in base.named_parameters()
            if not name.startswith(prefix) and not _ADAPTERS.search(name)
        }
        if beside:
            return beside


def check_fresh_head(probe: Probe) -> Finding | None:
    """Check for a head with random weights from loading that was not trained since."""
    base, missing, saved = _missing(probe)
    if not missing or _was_saved_as_classifier(saved) or _unsaved_by_adapter(probe, missing):
        return None
    is_partly_there = len(missing) < len(head_parameters(probe.model))
    if not is_partly_there and _is_trained(probe, base, saved):
        return None
    return Finding(
        "fresh_head",
        f"{_named(missing)} is not in the checkpoint {saved.path_or_repo!r} ({saved.architecture}), so it got random "
        "weights, and nothing was trained since: the rewards are noise.",
        "Load the checkpoint of the reward model, or train this one before it scores.",
    )


def check_unsaved_head(probe: Probe) -> Finding | None:
    """Check for a head that is missing in the saved model or adapter."""
    _, missing, saved = _missing(probe)
    if missing and hasattr(probe.model, "peft_config"):
        if not _unsaved_by_adapter(probe, missing):
            return None
        adapter = probe.model.active_adapter
        return Finding(
            "unsaved_head",
            f"{_named(missing)} is neither in the base checkpoint nor in what the adapter {adapter!r} saves "
            f"(modules_to_save={probe.model.peft_config[adapter].modules_to_save}): whoever loads it gets another, "
            "random head.",
            f"Train with `LoraConfig(..., task_type='SEQ_CLS', modules_to_save={_modules(missing)})`.",
        )
    if missing and _was_saved_as_classifier(saved):
        return Finding(
            "unsaved_head",
            f"{_named(missing)} is not in the checkpoint {saved.path_or_repo!r}, though it was saved as a "
            f"`{saved.architecture}`: it got random weights on loading.",
            "Save the trained model once more with `model.save_pretrained(folder)`, head and all. If the trained head "
            "is gone, train it again.",
        )
    return None


def has_known_head(probe: Probe) -> str | None:
    """Return why the head cannot be looked up, or `None`."""
    if not head_parameters(probe.model):
        return "no weights of a head"
    if not hasattr(probe.model, "peft_config") and not SavedTensors(_place(probe)).names:
        return "no local safetensors checkpoint to compare with"
    return None


def _place(probe: Probe) -> str:
    return unwrap_adapters(probe.model).config.name_or_path or ""


def _missing(probe: Probe) -> tuple:
    saved = SavedTensors(_place(probe))
    missing = [name for name in head_parameters(probe.model) if saved.name_of(name) is None]
    return unwrap_adapters(probe.model), missing, saved


def _was_saved_as_classifier(saved: SavedTensors) -> bool:
    return "ForSequenceClassification" in (saved.architecture or "")


def _unsaved_by_adapter(probe: Probe, missing: list[str]) -> bool:
    """Return whether there is an adapter that does not save the head that its base lacks."""
    if not hasattr(probe.model, "peft_config"):
        return False
    kept = {name.removeprefix("base_model.model.") for name in get_peft_model_state_dict(probe.model)}
    return not set(missing) <= kept


def _is_trained(probe: Probe, base, saved: SavedTensors) -> bool:
    if hasattr(probe.model, "peft_config"):
        with probe.model.disable_adapter():
            without = probe.rewards(probe.rows, batch_size=1)
        return largest_difference(without, probe.alone) > 0
    head = head_parameters(base)
    body = {name: parameter for name, parameter in base.named_parameters() if name not in head}
    if any(one.requires_grad for one in head.values()) and not any(one.requires_grad for one in body.values()):
        return True  # a frozen body with a trained head shows no trace of the training
    pairs = [(name, parameter) for own, parameter in body.items() if (name := saved.name_of(own)) is not None]
    return not all(saved.begins_as(name, parameter) for name, parameter in pairs)


def _named(missing: list[str]) -> str:
    return f"The head (`{'`, `'.join(missing)}`)"


def _modules(missing: list[str]) -> list[str]:
    return sorted({name.split(".")[0] for name in missing})

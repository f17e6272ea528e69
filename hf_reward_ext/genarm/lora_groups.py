"""LoRA adapters of one model, each for its own group of a batch's rows; private names of PEFT are touched here only."""

# Names that the stubs of PEFT do not know.
# pyright: reportAttributeAccessIssue=false

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftType
from peft.tuners.lora import LoraLayer

from hf_reward_ext.base.lm.lora_options import changes_beyond_products

# What an adapter does to the weights that all rows share, whether it is asked for or not.
_CHANGES_THE_BASE = {
    "bias", "modules_to_save", "trainable_token_indices", "init_lora_weights", "kasa_config", "layer_replication",
}  # fmt: skip


def check_mixed_adapters(peft_model, adapters: list[str]) -> None:
    """
    Refuses adapters that cannot share a batch with the bare model, before any forward does.

    Raises:
        TypeError: If the model carries no LoRA.
        ValueError: If an adapter is not loaded, is merged, or changes more than products of its LoRA matrices.
    """
    layers = lora_layers(peft_model) if hasattr(peft_model, "get_base_model") else []
    if not layers or any(config.peft_type != PeftType.LORA for config in peft_model.peft_config.values()):
        raise TypeError(
            f"`peft_model` must be a `PeftModel` with LoRA, got a `{type(peft_model).__name__}`"
            f"{_types_of(peft_model)}. Guides on one copy of the weights are LoRA adapters: load one, or use "
            "`GenARMLogitsProcessor` with a copy of the model."
        )
    if not adapters:
        raise ValueError(f"`adapters` must name at least one of {sorted(peft_model.peft_config)}, got none. Name one.")
    missing = [adapter for adapter in adapters if adapter not in peft_model.peft_config]
    if missing:
        raise ValueError(
            f"`adapters` must be loaded, got {missing} for a model that has {sorted(peft_model.peft_config)}. Load "
            "them with `load_adapter` first."
        )
    merged = sorted({adapter for layer in layers for adapter in layer.merged_adapters})
    if merged:
        raise ValueError(
            f"The policy must be the model without adapters, but {merged} are merged into its weights. Call "
            "`unmerge_adapter` first."
        )
    for adapter, config in peft_model.peft_config.items():
        changes = changes_beyond_products(config)
        changes.pop("ensure_weight_tying", None)  # the layers share their matrices, and that is all
        if adapter not in adapters:
            changes = {name: value for name, value in changes.items() if name in _CHANGES_THE_BASE}
        if changes:
            raise ValueError(
                f"The adapter {adapter!r} must change weights by LoRA products only, got "
                f"{', '.join(f'{name}={value!r}' for name, value in changes.items())}: policy and guides share one "
                "batch and all other weights. Use `GenARMLogitsProcessor` with a copy of the model."
            )


def _types_of(model) -> str:
    configs = getattr(model, "peft_config", None)
    return f" with {sorted({config.peft_type.value for config in configs.values()})}" if configs else ""


class GroupedAdapters:
    """
    LoRA adapters of a model, each for its own group of a batch's rows; the first group is the bare model's.

    Groups hold in the thread that asked for them: other threads may run the model at the same time, with other groups
    or without any.

    PEFT's own way to a mixed batch leaves its hooks when a forward raises, so that later forwards are silently wrong,
    and takes six small operations per adapter and layer where two do.
    """

    def __init__(self, model, adapters: list[str]):
        self.model, self.adapters = model, adapters
        self._known: list[tuple[str, int]] = []
        self._layers: list[_GroupedLayer] = []

    @contextmanager
    def groups_of(self, rows: int) -> Iterator[None]:
        """Within it a forward's rows come in groups of `rows`. Nothing remains after it."""
        with _changing_forwards:
            layers = self._current_layers()
            replaced = []
            try:
                for layer in layers:
                    layer.replace_forward(rows)
                    replaced.append(layer)
            except BaseException:
                _restore(replaced)
                raise
        try:
            yield
        finally:
            with _changing_forwards:
                _restore(layers)

    def __getstate__(self) -> dict[str, Any]:
        # Layers are looked up again: thread-local state can be neither copied nor saved.
        return {**vars(self), "_known": [], "_layers": []}

    def _current_layers(self) -> "list[_GroupedLayer]":
        configs = [(name, id(config)) for name, config in self.model.peft_config.items()]
        if configs != self._known:
            self._known = configs
            self._layers = [_GroupedLayer(layer, self.adapters) for layer in lora_layers(self.model)]
        return self._layers


def _restore(layers: "list[_GroupedLayer]") -> None:
    for layer in layers:
        layer.by_thread.leave()


_changing_forwards = threading.Lock()


class _Asked(threading.local):
    """What this thread asked a layer for; compiled forwards can read thread-local values, but no thread's number."""

    grouped: "_GroupedLayer | None" = None
    rows = 0


class _ForwardByThread:
    """The forward of a LoRA layer while some thread has groups; a thread without groups gets the layer's own."""

    def __init__(self, layer):
        self._layer = weakref.ref(layer)
        self._own, self._num_threads = None, 0
        self.asked = _Asked()

    def enter(self, grouped: "_GroupedLayer", rows: int) -> None:
        if self._num_threads == 0:
            self._own = vars(grouped.layer).get("forward")
            vars(grouped.layer)["forward"] = self
        self._num_threads += 1
        self.asked.grouped, self.asked.rows = grouped, rows

    def leave(self) -> None:
        layer, self.asked.grouped = self.asked.grouped.layer, None
        self._num_threads -= 1
        if self._num_threads == 0 and vars(layer).get("forward") is self:
            del vars(layer)["forward"]
            if self._own is not None:
                vars(layer)["forward"] = self._own
            self._own = None  # it may hold the layer

    def __call__(self, x, *args, **kwargs):
        grouped = self.asked.grouped
        return self.own(x, *args, **kwargs) if grouped is None else grouped.forward(x, *args, **kwargs)

    def own(self, x, *args, **kwargs):
        """Run the layer's forward as it is without groups."""
        layer: Any = self._layer()
        own = self._own or vars(layer).get("forward")  # the latter if the last thread has just left
        if own is None or own is self:
            return type(layer).forward(layer, x, *args, **kwargs)
        return own(x, *args, **kwargs)


# One for each layer, whatever objects group its rows; it lasts, so that compiled forwards stay valid.
_by_thread: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


class _GroupedLayer:
    """One LoRA layer's forward for groups of rows."""

    def __init__(self, layer, adapters: list[str]):
        self.layer, self.adapters = layer, adapters
        self.by_thread: _ForwardByThread = _by_thread.setdefault(layer, _ForwardByThread(layer))
        # Looked up once: 168 layers each pay for it in every token.
        self._used = [
            (number, name, vars(layer.lora_A[name])["_parameters"], vars(layer.lora_B[name])["_parameters"])
            for number, name in enumerate(adapters, start=1)
            if name in layer.lora_A
        ]
        linear = all(down["weight"].dim() == 2 for _, _, down, _ in self._used)
        other = any(name in layer.lora_variant or name in layer.lora_embedding_A for name in adapters)
        biased = any(up.get("bias") is not None for _, _, _, up in self._used)
        self._is_plain = linear and not other and not biased
        self.forward = self._by_slice if self._is_plain else self._by_name
        self._state, self._stacks = None, []

    def replace_forward(self, rows: int) -> None:
        """Replace the forward for this thread, until `by_thread.leave()`."""
        if self.layer.merged:
            raise ValueError(
                f"The adapters {list(self.layer.merged_adapters)} were merged into the weights, but these are the "
                "policy's. Call `unmerge_adapter` first."
            )
        if self._is_plain:
            self._stack()
        elif self.layer.disable_adapters:
            raise ValueError(
                f"The adapters {self.adapters} must be switched on, but they are disabled in a layer of type "
                f"`{type(self.layer).__name__}`. Generate outside of `disable_adapter()`."
            )
        self.by_thread.enter(self, rows)

    def _by_name(self, x, *args, **kwargs):
        """PEFT's own way, for layers that are not plain linear ones."""
        names = [name for name in ("__base__", *self.adapters) for _ in range(self.by_thread.asked.rows)]
        return self.by_thread.own(x, *args, adapter_names=names, **kwargs)

    def _by_slice(self, x, *args, **kwargs):
        rows = self.by_thread.asked.rows
        if len(x) != rows * (1 + len(self.adapters)):
            raise ValueError(
                f"A LoRA layer got {len(x)} rows where the batch has {rows * (1 + len(self.adapters))}: this model "
                "mixes rows (a mixture of experts, say). Use `GenARMLogitsProcessor` with a copy of the model."
            )
        result = self.layer.base_layer(x, *args, **kwargs)
        for first, down, up in self._stacks:
            part = slice(first * rows, (first + len(down)) * rows)
            change = torch.bmm(x[part].reshape(len(down), -1, x.shape[-1]).to(down.dtype), down)
            result[part].view(len(down), -1, result.shape[-1]).add_(torch.bmm(change, up))
        return result

    def _stack(self) -> None:
        """First group, down (adapters, in, rank), scaled up (adapters, rank, out): one entry if all ranks agree."""
        used = [
            (number, down["weight"], up["weight"], self.layer.scaling[name]) for number, name, down, up in self._used
        ]
        state = [(down.data_ptr(), down._version, up.data_ptr(), up._version, scale) for _, down, up, scale in used]
        if state != self._state:
            alike = len(used) == len(self.adapters) and len({(down.shape, down.dtype) for _, down, _, _ in used}) == 1
            self._stacks = [_stacked(part) for part in ([used] if alike else [[one] for one in used])]
            self._state = state


@torch.no_grad()
def _stacked(used: list[tuple]) -> tuple[int, torch.Tensor, torch.Tensor]:
    down = torch.stack([weight for _, weight, _, _ in used]).transpose(1, 2)
    up = torch.stack([weight.T * scale for _, _, weight, scale in used])
    if down.device.type == "cpu" and down.dtype in (torch.bfloat16, torch.float16):
        # A product of a few rows: float32 is five times faster than to start oneDNN.
        down, up = down.float(), up.float()
    return used[0][0], down, up


def lora_layers(model) -> list:
    """Return the LoRA layers of a model."""
    return [module for module in model.modules() if isinstance(module, LoraLayer)]

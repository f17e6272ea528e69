"""Guide with a static cache, for compiled forwards."""

import functools

import torch
from packaging.version import Version
from torch import Tensor
from transformers import CompileConfig, StaticCache
from transformers.cache_utils import DummyLayer, StaticLayer, StaticSlidingWindowLayer
from transformers.masking_utils import create_masks_for_generate

from hf_reward_ext.base.lm.cache import can_select_rows, new_cache
from hf_reward_ext.base.lm.forward import generate_cache_name, positions_of, run_forward, unwrap_peft
from hf_reward_ext.base.lm.guide import CachedGuide, Reading, common_prefix

# The compiler of torch 2.6 fails in the forward of transformers 5.23 (`NameError` in its `output_capturing`).
_OLDEST_COMPILER = "2.8"


class StaticGuide(CachedGuide):
    """
    A [`CachedGuide`] with a cache of constant shape, so that a compiled forward is not recompiled at every step.

    Appended tokens are read, and rows that beams permuted are selected. Anything else is read from the start. The
    memory of the cache is kept between calls, as in `generate`.

    Args:
        model, pad_token_id: As for [`CachedGuide`].
        length (`int`): Maximum number of tokens of prompt and continuation.
        compile_config (`CompileConfig`, *optional*): Compilation of the forward of single tokens; prompts are always
            read without compilation. The default configuration captures CUDA graphs, which were not yet run on a GPU;
            see `tests/gpu`. Default: no compilation.

    Raises:
        ValueError: If the length is not a positive number, the model has layers other than attention, or
            `compile_config` is given with a torch older than 2.8.
        TypeError: If `compile_config` is not a `CompileConfig`.

    Example:
    ```python
    >>> guide = StaticGuide(model, length=64, compile_config=CompileConfig())
    >>> guide.next_token_logits(torch.tensor([[5, 6]])).shape
    torch.Size([1, 32])
    ```
    """

    def __init__(
        self, model, pad_token_id: int | None = None, *, length: int, compile_config: CompileConfig | None = None
    ):
        if isinstance(length, bool) or not isinstance(length, int) or length < 1:
            raise ValueError(f"The length of a static cache must be a positive `int`, got {length!r}. Pass one.")
        if compile_config is not None and not isinstance(compile_config, CompileConfig):
            raise TypeError(
                f"`compile_config` must be a `CompileConfig`, got `{type(compile_config).__name__}`. Make one with "
                "`transformers.CompileConfig(...)`."
            )
        if compile_config is not None and Version(torch.__version__) < Version(_OLDEST_COMPILER):
            raise ValueError(
                f"`compile_config` must be None with torch {torch.__version__}, whose compiler cannot trace models of "
                f"transformers. Leave it out, or install torch {_OLDEST_COMPILER} or newer."
            )
        if not can_select_rows(new_cache(model)) or not all(map(_is_attention, _static_cache(model, length).layers)):
            raise ValueError(
                f"A guide with a static cache must have attention layers only, got `{type(model).__name__}` with "
                "others. Leave out the length of the static cache."
            )
        super().__init__(model, pad_token_id)
        self.length = length
        self._step = _call if compile_config is None else torch.compile(_call, **compile_config.to_dict())

    def check_length(self, length: int) -> None:
        """
        Reject texts that are too long for the cache.

        Raises:
            ValueError: If `length` exceeds the length of the cache.
        """
        if length > self.length:
            raise ValueError(
                f"The static cache of a guide must hold prompt and continuation, up to {length} tokens, got a length "
                f"of {self.length}. Raise it to {length}."
            )

    def forget(self) -> None:
        """Make the next call of this thread read the prefix from the start; the memory is kept for it."""
        self._readings.value.ids = None

    def _line_up(self, reading: Reading, ids: Tensor, mask: Tensor) -> int:
        self.check_length(ids.shape[1])
        known = self._reuse(reading, ids, mask) if reading.ids is not None else 0
        if known == 0:
            self._empty(reading, len(ids))
        return known

    def _reuse(self, reading: Reading, ids: Tensor, mask: Tensor) -> int:
        read, read_mask = reading.ids, reading.mask
        known = read.shape[1]  # pyright: ignore[reportOptionalMemberAccess]
        if ids.shape[1] <= known or len(ids) != len(read):  # pyright: ignore[reportArgumentType]
            return 0
        rows, common = common_prefix(ids[:, :known], mask[:, :known], read, read_mask)  # pyright: ignore[reportArgumentType]
        if common < known:
            return 0
        if not torch.equal(rows, torch.arange(len(rows), device=rows.device)):
            for layer in reading.cache.layers:
                if isinstance(layer, StaticLayer):  # in place, because compiled forwards use its address
                    layer.keys.copy_(layer.keys.index_select(0, rows))
                    layer.values.copy_(layer.values.index_select(0, rows))
        return known

    def _empty(self, reading: Reading, rows: int) -> None:
        if reading.cache is not None and _can_reset(reading.cache, rows):
            reading.cache.reset()
        else:
            reading.cache = _static_cache(self.model, self.length)

    def _read_distinct(self, reading: Reading, ids: Tensor, mask: Tensor) -> Tensor:
        return self._run(reading, ids, mask, 0)  # a cache with fewer rows would have another shape

    def _run(self, reading: Reading, ids: Tensor, mask: Tensor, known: int) -> Tensor:
        return super()._run(reading, ids, mask, known).clone()  # a CUDA graph overwrites them in the next step

    def _forward(self, reading: Reading, ids: Tensor, mask: Tensor, known: int):
        positions = positions_of(mask)[:, known:]
        is_step = known > 0 and ids.shape[1] - known == 1
        return run_forward(
            self.model,
            ids[:, known:].contiguous(),
            self._masks(mask, positions, reading.cache),  # pyright: ignore[reportArgumentType]
            cache=reading.cache,
            position_ids=positions.contiguous(),
            logits_to_keep=1,
            call=functools.partial(self._step if is_step else _call, self.model),
        )

    def _masks(self, mask: Tensor, positions: Tensor, cache) -> Tensor | dict | None:
        """Return masks of one shape for all steps, as `generate` does for static caches."""
        inner = unwrap_peft(self.model)
        create = getattr(inner, "create_masks_for_generate", create_masks_for_generate)
        masks = create(
            config=inner.config,
            inputs_embeds=torch.empty((*positions.shape, 0), dtype=inner.dtype, device=mask.device),
            attention_mask=mask,
            position_ids=positions,
            is_first_iteration=cache.get_seq_length() == 0,
            **{generate_cache_name(): cache},
        )
        return (
            {name: _contiguous(part) for name, part in masks.items()} if isinstance(masks, dict) else _contiguous(masks)
        )


def _call(model, **inputs):
    """Call a model that is an argument, so that a copy of a guide compiles its own."""
    return model(**inputs)


def _static_cache(model, length: int) -> StaticCache:
    return StaticCache(config=unwrap_peft(model).config, max_cache_len=length)


def _contiguous(mask):
    return mask.contiguous() if isinstance(mask, Tensor) else mask


def _is_attention(layer) -> bool:
    return type(layer) in (StaticLayer, StaticSlidingWindowLayer, DummyLayer)


def _can_reset(cache: StaticCache, rows: int) -> bool:
    """Return whether the memory can be reused; inference tensors cannot be changed outside of inference mode."""
    keys = [layer.keys for layer in cache.layers if isinstance(layer, StaticLayer) and layer.keys is not None]
    return all(len(key) == rows and key.is_inference() == torch.is_inference_mode_enabled() for key in keys)

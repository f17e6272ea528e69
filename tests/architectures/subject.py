"""One architecture under test, and what transformers itself gets right of it."""

import functools
import math
from contextlib import contextmanager

import torch
from architectures.build import EOS, PAD, VOCAB, tiny_model
from architectures.reference import MODES, FreshReader, StatelessLM, generate

from hf_reward_ext.base.lm.forward import run_forward

LENGTHS = {"ragged": (5, 3, 7), "one length": (6, 6, 6)}
TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-3}


class Subject:
    """
    Two random models of one type, and how far transformers' own `generate` is right about them.

    `kind` is the more demanding batch, of the two in `LENGTHS`, on which plain `generate` gives every row the logits
    that it has alone and without a cache; `None` if there is none. `gaps` holds the largest difference seen in log-
    probabilities, or what was raised. `unsound` are the modes whose tokens are wrong in plain `generate` nevertheless.
    """

    def __init__(self, model_type: str):
        self.model_type = model_type
        for dtype in (torch.float64, torch.float32):
            self.dtype = dtype
            self.policy = self.build(seed=0)
            self.reader = FreshReader(self.policy)
            self.gaps = {name: self._gap(name) for name in LENGTHS}
            small = [name for name, gap in self.gaps.items() if isinstance(gap, float) and gap < TOLERANCE[dtype]]
            self.kind = small[0] if small else None
            if not any(isinstance(gap, str) or math.isnan(gap) for gap in self.gaps.values()):
                break  # no NaN and no error: softmax in float32 overflows under a mask in float64
        self.unsound = {} if self.kind is None else self._unsound_modes()

    def build(self, seed: int, dtype: torch.dtype | None = None):
        model = tiny_model(self.model_type, seed=seed, dtype=dtype or self.dtype)
        if self.dtype == torch.float64 and dtype is None and model._can_set_experts_implementation():
            model.set_experts_implementation("eager")  # the default one has no float64
        return model

    @property
    def modes(self) -> list[str]:
        return [mode for mode in MODES if self.kind is not None and mode not in self.unsound]

    @property
    def evidence(self) -> str:
        gaps = [f"{name}: {gap if isinstance(gap, str) else f'{gap:.0e} nats'}" for name, gap in self.gaps.items()]
        return "; ".join([*gaps, *(f"{mode}: {what}" for mode, what in self.unsound.items())])

    @functools.cached_property
    def guide(self):
        return self.build(seed=1)

    @functools.cached_property
    def guide_reader(self):
        return FreshReader(self.guide)

    @property
    def batch(self):
        return random_batch(LENGTHS[self.kind])

    def expected(self, mode: str, readers: list[FreshReader], powers: list[float]) -> torch.Tensor:
        return generate(StatelessLM(readers, powers), self.batch, mode)

    def _gap(self, kind: str, mode: str = "greedy") -> float | str:
        """Every forward of plain `generate`, and one padded reading at its end, against fresh readings."""
        ids, mask = random_batch(LENGTHS[kind])
        try:
            with watched(self.policy) as forwards:
                written = generate(self.policy, (ids, mask), mode)
            times = len(written) // len(ids)
            sequences = torch.cat([ids.repeat_interleave(times, 0), written], dim=-1)
            at_once = padded_reading(self.policy, sequences, mask.repeat_interleave(times, 0)).logits[:, -1]
        except Exception as error:  # what transformers raises is part of the answer
            return _first_line(error)
        gap = 0.0
        for read, logits in [*forwards, (sequences, at_once)]:
            for number, (row, given) in enumerate(zip(read.tolist(), logits, strict=True)):
                if EOS in row[ids.shape[1] :]:
                    continue
                start = int((mask[number * len(ids) // len(read)] == 0).sum())
                gap = larger_gap(gap, self.reader.last_logits(tuple(row[start:])), given)
        return gap

    def _unsound_modes(self) -> dict[str, str]:
        unsound = {}
        for mode in MODES:
            gap = self._gap(self.kind, mode)
            if isinstance(gap, str):
                unsound[mode] = gap
            elif not gap < TOLERANCE[self.dtype]:
                unsound[mode] = f"{gap:.0e} nats"
            elif not torch.equal(generate(self.policy, self.batch, mode), self.expected(mode, [self.reader], [1.0])):
                unsound[mode] = "wrong tokens"
        return unsound


@contextmanager
def watched(model):
    """List of what each forward of a `generate` has read, and the last logits that it gave."""
    plain, forwards, reading = model.prepare_inputs_for_generation, [], []

    @functools.wraps(plain)  # `generate` looks at the signature
    def prepare(input_ids, *args, **kwargs):
        reading.append(input_ids.clone())
        return plain(input_ids, *args, **kwargs)

    def after(module, args, output):
        if reading:
            forwards.append((reading.pop(), output.logits[:, -1]))

    model.prepare_inputs_for_generation = prepare
    handle = model.register_forward_hook(after)
    try:
        yield forwards
    finally:
        handle.remove()
        del model.prepare_inputs_for_generation


def random_batch(lengths, seed: int = 3):
    """`input_ids` and `attention_mask` of random prompts, padded on the left."""
    generator = torch.Generator().manual_seed(seed)
    width = max(lengths)
    ids = torch.full((len(lengths), width), PAD)
    for row, length in enumerate(lengths):
        ids[row, width - length :] = torch.randint(EOS + 1, VOCAB, (length,), generator=generator)
    return ids, (ids != PAD).long()


@torch.no_grad()
def padded_reading(model, sequences, prompt_mask):
    """One forward without a cache over prompts and what was written after them."""
    new = prompt_mask.new_ones(len(sequences), sequences.shape[1] - prompt_mask.shape[1])
    return run_forward(model, sequences, torch.cat([prompt_mask, new], dim=-1))


def larger_gap(gap: float, fresh: torch.Tensor, given: torch.Tensor) -> float:
    """The larger of a gap and the largest difference of two rows of log-probabilities; NaN if there is one."""
    difference = (fresh.double().log_softmax(-1) - given.double().log_softmax(-1)).abs().max().item()
    return difference if math.isnan(difference) else max(gap, difference)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"

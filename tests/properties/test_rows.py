"""What is recorded of rows while they are written, permuted, repeated and taken back."""

import math

import torch
from hypothesis import example, given
from hypothesis import strategies as st

from hf_reward_ext.base.lm.tokens import completion_mask_from_ids
from hf_reward_ext.best_of_n.pruning import Pruning
from hf_reward_ext.elhsr.token_trace import TokenTrace

TOKENS = st.integers(0, 5)


def value_of(prefix):
    """A number for each prefix, as a model's state depends on everything before it."""
    return float(hash(tuple(prefix)) % 1009)


@given(
    prompts=st.lists(st.lists(TOKENS, min_size=2, max_size=2), min_size=1, max_size=3),
    operations=st.lists(st.tuples(st.sampled_from(["read", "select", "take back"]), st.integers(0, 999)), max_size=10),
)
@example([[0, 0]], [("read", 0), ("select", 1), ("read", 0), ("take back", 0), ("read", 0)])
@example([[0, 0], [0, 0]], [("read", 0), ("select", 1), ("read", 0), ("take back", 0), ("read", 0)])
def test_a_trace_finds_the_values_of_every_row_that_was_read(prompts, operations):
    rows, trace, read = [list(prompt) for prompt in prompts], TokenTrace(2), 0
    for operation, number in operations:
        if operation == "read":
            new = 1 + number % 3
            rows = [[*row, *((number * 7 + index * 3 + step) % 5 for step in range(new))]
                    for index, row in enumerate(rows)]  # fmt: skip
            values = [[[value_of(row[: len(row) - new + step + 1])] for step in range(new)] for row in rows]
            trace.record(torch.tensor(rows), torch.tensor(values))
            read += new
        elif operation == "select":
            rows = [list(rows[(number + index * 5) % len(rows)]) for index in range(1 + number % 4)]
        elif read > 1:
            read -= 1
            rows = [row[:-1] for row in rows]
    values, found = trace.lookup(torch.tensor(rows))
    for row, ours, known in zip(rows, values, found, strict=True):
        for step in range(read):
            assert known[step] and ours[step].item() == value_of(row[: 2 + step + 1])


@given(
    rows=st.lists(st.lists(TOKENS, min_size=4, max_size=4), min_size=1, max_size=4),
    eos=st.lists(TOKENS, max_size=2, unique=True),
    pad=st.one_of(st.none(), TOKENS),
)
def test_a_completion_ends_with_its_first_eos_and_before_its_padding(rows, eos, pad):
    mask = completion_mask_from_ids(torch.tensor(rows), eos, pad)
    for row, ours in zip(rows, mask.tolist(), strict=True):
        ends = [index for index, token in enumerate(row) if token in eos]
        if ends:
            length = ends[0] + 1
        else:
            length = len(row)
            while pad is not None and length and row[length - 1] == pad:
                length -= 1
        assert ours == [index < length for index in range(len(row))]


@given(keep=st.floats(0.01, 1.0), num_candidates=st.integers(1, 200), rungs=st.integers(1, 6))
def test_pruning_never_drops_everything_and_never_brings_back(keep, num_candidates, rungs):
    pruning = Pruning(tuple(range(1, rungs + 1)), keep=keep, max_gap=1.0)
    counts = [num_candidates, *(pruning.survivors(rung, num_candidates) for rung in range(rungs))]
    assert all(1 <= after <= before for before, after in zip(counts, counts[1:], strict=False))
    assert counts[1] == max(1, math.ceil(num_candidates * keep))

"""Any rows, parts, kills and damage: a file is the same as without them, or its name is in the refusal."""

import json
import tempfile
from pathlib import Path

import pytest
from damaged_bytes import damage_bytes
from hypothesis import given
from hypothesis import strategies as st
from written_rows import Killed, count_operations, is_same, read_arrow

from hf_reward_ext.best_of_n import ResumableWriter

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
KEYS = TEXT.filter(lambda text: "\0" not in text)
LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    LEAVES | TEXT, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=4
)
ROWS = st.dictionaries(st.sampled_from(["a", "b", "ü c"]) | KEYS, VALUES, min_size=1, max_size=3)
PARTS = st.lists(st.lists(ROWS, max_size=2), min_size=1, max_size=3).filter(any)
SUFFIXES = st.sampled_from([".jsonl", ".arrow"])
DAMAGE = st.tuples(st.sampled_from(["truncate", "flip"]), st.integers(0, 10**6), st.integers(1, 255))


@pytest.fixture
def folder():
    """A new folder for each example, as `tmp_path` is that of all of them."""
    with tempfile.TemporaryDirectory() as root:
        yield lambda: Path(tempfile.mkdtemp(dir=root))


def write(path, parts, until=None, **kwargs):
    with ResumableWriter(path, {"seed": 0, "nämé": [None, 0.5]}, **kwargs) as writer:
        for number, rows in enumerate(parts[:until]):
            if not writer.has(number, [number]):
                writer.write(number, [number], rows)
        return writer.finish() if until is None else path


@given(parts=PARTS)
def test_both_formats_hold_the_rows_that_were_written(folder, parts):
    here, rows = folder(), [row for part in parts for row in part]
    lines = write(here / "rows.jsonl", parts).read_text(encoding="utf-8").split("\n")[:-1]
    assert [json.loads(line) for line in lines] == rows
    assert is_same(rows, read_arrow(write(here / "rows.arrow", parts)))


@given(parts=PARTS, suffix=SUFFIXES, kills=st.lists(st.integers(0, 40), min_size=1, max_size=3))
def test_a_run_that_was_killed_often_makes_the_same_bytes(folder, parts, suffix, kills):
    here = folder()
    whole = write(here / f"whole{suffix}", parts).read_bytes()
    path = here / f"rows{suffix}"
    for kill in kills:
        with pytest.MonkeyPatch.context() as patched:
            count_operations(patched, kill, Killed)
            try:
                write(path, parts)
            except Killed:
                pass
        assert not path.exists() or path.read_bytes() == whole
    assert write(path, parts).read_bytes() == whole
    assert not (here / f"{path.name}.parts").exists()


@given(parts=PARTS, suffix=SUFFIXES, damaged=st.integers(0, 9), how=DAMAGE, overwrite=st.booleans())
def test_a_damaged_part_is_refused_by_name_or_made_again(folder, parts, suffix, damaged, how, overwrite):
    here = folder()
    whole = write(here / f"whole{suffix}", parts).read_bytes()
    path = here / f"rows{suffix}"
    write(path, parts, until=len(parts))
    files = sorted((here / f"{path.name}.parts").iterdir())
    damage_bytes(files[damaged % len(files)], *how)
    try:
        assert write(path, parts, overwrite=overwrite).read_bytes() == whole
    except ValueError as error:
        assert not overwrite and f"{path.name}.parts" in str(error) and not path.exists()


@given(parts=PARTS, suffix=SUFFIXES, is_record=st.booleans(), how=DAMAGE)
def test_a_damaged_file_is_refused_by_name_or_made_again(folder, parts, suffix, is_record, how):
    path = folder() / f"rows{suffix}"
    whole = write(path, parts).read_bytes()
    damage_bytes(path.with_name(f"{path.name}.info.json") if is_record else path, *how)
    try:
        assert write(path, parts).read_bytes() == whole
    except ValueError as error:
        assert path.name in str(error)

"""The reading versions assert by themselves that they equal the library."""

import runpy
from pathlib import Path

import pytest

READING = Path(__file__).parents[2] / "examples" / "reading"


@pytest.mark.parametrize("script", sorted(READING.glob("*.py")), ids=lambda path: path.stem)
def test_a_reading_version_equals_the_library(script, capsys):
    runpy.run_path(str(script), run_name="__main__")
    assert "equal to the library" in capsys.readouterr().out
    top = script.read_text().split("def compare_with_the_library")[0]
    assert "hf_reward_ext." not in top and "import hf_reward_ext" not in top
    assert len(script.read_text().splitlines()) <= 150


def test_every_method_has_one():
    assert {path.stem for path in READING.glob("*.py")} == {"elhsr", "fast_slow", "genarm", "sla"}

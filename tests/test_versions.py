"""Ranges in pyproject.toml, tested versions in `.ci/` and the table in the docs agree."""

import pytest
from packaging.version import Version
from versions import ROOT, declared, exact

SETS = {"oldest": "oldest", "pinned": "constraints", "newest": "newest"}


@pytest.mark.parametrize("name", declared())
def test_the_oldest_tested_version_is_the_lower_bound(name):
    (floor,) = [one.version for one in declared()[name].specifier if one.operator == ">="]
    assert exact("oldest")[name] == Version(floor)


@pytest.mark.parametrize("file", SETS.values())
@pytest.mark.parametrize("name", declared())
def test_every_tested_version_is_in_the_range(name, file):
    assert exact(file)[name] in declared()[name].specifier


@pytest.mark.parametrize("name", ["transformers", "trl", "peft", "accelerate", "datasets", "huggingface-hub"])
def test_what_announces_removals_has_an_upper_bound(name):
    assert any(one.operator == "<" for one in declared()[name].specifier)


def test_the_table_in_the_docs_names_the_versions_that_were_run():
    lines = (ROOT / "docs" / "supported_versions.md").read_text().splitlines()
    table = {cells[1]: cells[2:5] for line in lines if len(cells := [cell.strip() for cell in line.split("|")]) > 5}
    for name in declared():
        assert table[name] == [str(exact(file)[name]) for file in SETS.values()], name

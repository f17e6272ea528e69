"""Notebooks: their cells run in order with the demo policy and with a chat model, and git has them without outputs."""

import json
import math
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "examples" / "notebooks").glob("*.ipynb"))
# As large as the plots need, and no larger.
SMALL = {
    "elhsr": dict(NUM_PROMPTS=24, NUM_TEST=4, NUM_CANDIDATES=4, EPOCHS=2),
    "fast_slow": dict(NUM_TRAIN=32, NUM_HELD_OUT=8, NUM_TEST=8),
    "genarm": dict(NUM_PROMPTS=24, STEPS=2, ALPHAS=(0.0, 1.0)),
    "sla": dict(NUM_PROMPTS=24, NUM_TEST=6, EPOCHS=2, DEPTHS=(1, 3)),
}
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def run(path: Path, **settings) -> dict:
    """Run the cells in one namespace, with other settings after the cell of settings."""
    names: dict = {}
    for cell in cells(path):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{path.name}:{cell['id']}", "exec"), names)
        if "parameters" in cell["metadata"].get("tags", ()):
            assert settings.keys() <= names.keys()
            names |= settings
    return names


def drawn(pyplot) -> list[float]:
    """Return all coordinates of lines and bars of the open figures."""
    axes = [one for number in pyplot.get_fignums() for one in pyplot.figure(number).axes]
    assert all(one.has_data() for one in axes)
    return [float(value) for one in axes for line in one.lines for value in line.get_ydata()]


@pytest.fixture
def pyplot(tmp_path, monkeypatch):
    import matplotlib

    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


@pytest.mark.filterwarnings("ignore:This judge may be unreliable")
@every_notebook
def test_notebooks_run_with_the_demo_policy(path, pyplot, capsys):
    run(path, **SMALL[path.stem])
    values = drawn(pyplot)
    assert len(values) > 10 and all(map(math.isfinite, values))
    assert capsys.readouterr().out


@pytest.mark.slow  # the demo policy goes through the same cells
@pytest.mark.filterwarnings("ignore:This judge may be unreliable")
@every_notebook
def test_notebooks_run_with_a_chat_model(path, pyplot, chat_model, capsys):
    names = run(path, MODEL=str(chat_model), **SMALL[path.stem])
    assert names["policy"].config.hidden_size == 16
    assert all(map(math.isfinite, drawn(pyplot)))


@every_notebook
def test_notebooks_begin_with_a_title_and_the_switch_for_a_model(path):
    first, _, settings = cells(path)[:3]
    assert first["source"][0].startswith("# ") and "$$" in "".join(first["source"])
    assert settings["source"][0].startswith("MODEL = None  # or any chat model of the Hub")


@every_notebook
def test_git_has_no_outputs(path):
    code = [cell for cell in cells(path) if cell["cell_type"] == "code"]
    assert [cell["id"] for cell in code if cell["outputs"] or cell["execution_count"] is not None] == []
    assert len({cell["id"] for cell in cells(path)}) == len(cells(path))


def test_pages_link_every_notebook():
    docs = Path(__file__).parents[2] / "docs"
    for path in NOTEBOOKS:
        link = f"examples/notebooks/{path.name}"
        assert link in (docs / "methods" / f"{path.stem}.md").read_text()
        assert link in (docs / "tutorials" / "index.md").read_text()

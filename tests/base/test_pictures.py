"""Style of the plots: intervals, equal series, limits of axes."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from hf_reward_ext.base.stats.intervals import Estimate
from hf_reward_ext.base.stats.pictures import draw_intervals, join_equal, range_around
from hf_reward_ext.evaluation import evaluate_preferences
from hf_reward_ext.evaluation.plots import plot_estimates
from hf_reward_ext.fast_slow.calibrate import report

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("horizontal", [True, False])
def test_an_interval_without_a_width_is_hollow_and_has_no_bar(horizontal):
    axes = Figure().subplots()
    draw_intervals(axes, [0, 1], [Estimate(0.5, 0.4, 0.6), Estimate(1.0, 1.0, 1.0)], "black", horizontal)
    filled, hollow = axes.containers
    assert (filled.has_xerr, filled.has_yerr) == (horizontal, not horizontal)
    assert not hollow.has_xerr and not hollow.has_yerr
    assert hollow.lines[0].get_markerfacecolor() == "white" != filled.lines[0].get_markerfacecolor()
    assert [tuple(line.get_xydata()[0]) for line in (filled.lines[0], hollow.lines[0])] == (
        [(0.5, 0), (1, 1)] if horizontal else [(0, 0.5), (1, 1)]
    )


def test_equal_series_are_one_with_all_names():
    assert join_equal({"a": [(1, 2)], "b": [(1, 2)], "c": [(3, 4)], "d": [(1, 2)]}) == {
        "a = b = d": [(1, 2)],
        "c": [(3, 4)],
    }
    assert join_equal({"a": [1], "b": [2]}) == {"a": [1], "b": [2]}


@pytest.mark.parametrize("values", [[0.25, 0.31], [0.5], [0.0, 0.01], [1.0], [0.0, 1.0], [0.97, 0.99]])
def test_an_axis_holds_all_values_and_is_not_zoomed_to_noise(values):
    low, high = range_around(values)
    assert low < min(values) and max(values) < high
    assert high - low >= 0.399 and low >= -0.02 and high <= 1.02


@pytest.fixture
def figures(monkeypatch):
    """Figures that were written."""
    written = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: written.append(figure))
    return written


def test_a_report_draws_the_ends_and_no_series_below_another(tmp_path, figures):
    points = [{"budget": 0.1 * n, "rate": 0.0, "tokens": 0.1, "accuracy": 0.6} for n in range(3)]
    curves = dict.fromkeys(("both", "intuition", "distribution", "random"), points)
    ends = {
        name: {"tokens": tokens, "accuracy": 0.6, "rate": 0.0, "interval": [0.5, 0.7]}
        for name, tokens in (("fast", 0.1), ("slow", 1.0), ("gate", 0.1))
    }
    report._draw_curves(tmp_path / "x.png", curves, ends)
    (axes,) = figures[0].axes
    labels = axes.get_legend_handles_labels()[1]
    assert labels.count("both = intuition = distribution") == 1 and len(labels) == 5
    assert {"always fast", "always slow", "gate in use", "random gate"} < set(labels)
    low, high = axes.get_ylim()
    assert high - low >= 0.39


def test_a_function_without_a_name_is_called_a_function(figures):
    rows = [{"prompt": "a", "chosen": "bb", "rejected": "b"}] * 3
    result = evaluate_preferences(lambda prompts, completions: [len(text) for text in completions], rows)
    assert result.scorer == "function"
    plot_estimates(result, "x.png", f"{result.scorer} on pairs")
    assert figures[0].axes[0].get_title(loc="left") == "function on pairs"


def test_all_plots_of_the_package_have_one_style():
    makers = [path for path in (ROOT / "hf_reward_ext").rglob("*.py") if "matplotlib" in path.read_text()]
    drawing = [path.name for path in makers if "import Figure" in path.read_text() or "pyplot" in path.read_text()]
    assert drawing == ["pictures.py"]
    examples = [path.name for path in (ROOT / "examples").glob("*.py") if "pyplot" in path.read_text()]
    assert examples == []

"""The demo run: stages that continue, oracles that hold, and the page."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from hf_reward_ext.demo import tour
from hf_reward_ext.demo.comparison import Comparison, Example, SampleText, beyond_oracle, make_way
from hf_reward_ext.demo.setup import Setup
from hf_reward_ext.demo.sla import best_of
from hf_reward_ext.demo.tour import SMALL, Stage, run_tour
from hf_reward_ext.evaluation import best_of_n_curve


def comparison(method: str, **values) -> Comparison:
    ways = [
        make_way("task", "chosen", "by reward", [1.0, 0.0], 32, candidates="pool", series="line", x=32.0),
        make_way("task", "any", "oracle", [1.0, 1.0], 32, candidates="pool", is_oracle=True),
    ]
    return Comparison(method, "What is better?", {"task": "tokens"}, ways, [])._replace(**values)


class Recorder:
    """Stages whose runs are counted, and may be interrupted."""

    def __init__(self, monkeypatch, interrupted: str = ""):
        self.ran, self.interrupted = [], interrupted
        monkeypatch.setattr(tour, "STAGES", [Stage(name, self.stage(name), (name,)) for name in "AB"])
        self.size = tour.TourSize(**SMALL.settings, seconds={"A": 1, "B": 2})

    def stage(self, name: str):
        def compare(setup: Setup) -> Comparison:
            if name == self.interrupted:
                raise KeyboardInterrupt
            self.ran.append(name)
            (setup.folder / name).mkdir(exist_ok=True)
            return comparison(name)

        return compare

    def run(self, folder, **settings):
        self.ran = []
        return run_tour(folder, self.size, **settings)


def test_an_interrupted_run_continues_and_ends_equal(tmp_path, monkeypatch, capsys):
    recorder = Recorder(monkeypatch, interrupted="B")
    with pytest.raises(KeyboardInterrupt):
        recorder.run(tmp_path)
    assert "About 3 s" in capsys.readouterr().out and not (tmp_path / "results.json").exists()
    recorder.interrupted = ""
    found = recorder.run(tmp_path)
    assert recorder.ran == ["B"] and [one.method for one in found] == ["A", "B"]
    assert "About 2 s" in capsys.readouterr().out
    again = recorder.run(tmp_path)
    assert recorder.ran == [] and again == found
    (tmp_path / "A").rmdir()  # a method without its models is not finished
    recorder.run(tmp_path)
    assert recorder.ran == ["A"]


def test_an_interrupted_overwriting_run_continues_too(tmp_path, monkeypatch):
    recorder = Recorder(monkeypatch)
    recorder.run(tmp_path)
    recorder.interrupted = "B"
    with pytest.raises(KeyboardInterrupt):
        recorder.run(tmp_path, seed=1, overwrite=True)
    recorder.interrupted = ""
    recorder.run(tmp_path, seed=1)
    assert recorder.ran == ["B"] and json.loads((tmp_path / "results.json").read_text())["seed"] == 1


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"settings": {}, "comparison": {"ways": [{}]}}'])
def test_a_damaged_file_is_named(tmp_path, monkeypatch, text):
    recorder = Recorder(monkeypatch)
    recorder.run(tmp_path)
    tour.stage_file(tmp_path, "B").write_text(text)
    with pytest.raises(ValueError, match=r"b\.json' must be a file of the demo.*--overwrite"):
        recorder.run(tmp_path)


def test_results_of_other_settings_stay_unless_overwritten(tmp_path, monkeypatch):
    recorder = Recorder(monkeypatch)
    recorder.run(tmp_path)
    with pytest.raises(ValueError, match=r"was made with seed 0 \(now 1\)\. Choose.*--overwrite"):
        recorder.run(tmp_path, seed=1)
    assert recorder.ran == [] and json.loads((tmp_path / "results.json").read_text())["seed"] == 0
    recorder.run(tmp_path, seed=1, overwrite=True)
    assert recorder.ran == ["A", "B"] and json.loads((tmp_path / "results.json").read_text())["seed"] == 1


def test_a_way_beyond_its_oracle_is_an_error(tmp_path, monkeypatch):
    one = comparison("A")
    assert beyond_oracle(one) == []
    ways = [one.ways[0], one.ways[1]._replace(right=[0.0, 1.0])]  # the same mean, other problems
    monkeypatch.setattr(tour, "STAGES", [Stage("A", lambda setup: one._replace(ways=ways), ())])
    with pytest.raises(RuntimeError, match=r"A: \['chosen'\] are right where the oracle"):
        run_tour(tmp_path, tour.TourSize(**SMALL.settings, seconds={"A": 1}))


class Tags(HTMLParser):
    """Tags and attributes of a page, and its text."""

    def __init__(self, page: str):
        super().__init__()
        self.tags, self.links, self.text = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.text += data


def test_the_page_needs_no_other_file_and_shows_text_as_text(tmp_path, monkeypatch):
    hostile = "<script>alert('&amp;')</script>\"><img src=x>"
    texts = [SampleText(hostile, hostile, True, hostile)]
    ways = [way._replace(name=hostile, what=hostile, task=hostile) for way in comparison("A").ways]
    one = comparison("A", question=hostile, axes={hostile: "x"}, ways=ways, examples=[Example(hostile, texts)])
    monkeypatch.setattr(tour, "STAGES", [Stage("A", lambda setup: one, ())])
    run_tour(tmp_path, tour.TourSize(**SMALL.settings, seconds={"A": 1}))
    page = Tags((tmp_path / "index.html").read_text())
    assert "script" not in page.tags and page.tags.count("img") == 1
    assert all(re.match(r"#|data:image/png;base64,", link) for link in page.links)
    assert page.text.count(hostile) >= 7


def test_best_of_n_is_the_curve_of_the_evaluation_and_linear_between():
    rng = np.random.default_rng(0)
    rewards, correct = rng.random((20, 6)), rng.random((20, 6)) < 0.4
    curve = best_of_n_curve(rewards, correct)
    means = [best_of(rewards, correct, number).mean() for number in (1, 2, 2.5, 3, 6, 9)]
    expected = [curve[1].value, curve[2].value, (curve[2].value + curve[3].value) / 2, curve[3].value]
    np.testing.assert_allclose(means, [*expected, curve[6].value, curve[6].value])

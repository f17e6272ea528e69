"""The tour on a chat model, with a tiny one of random weights."""

import json

import pytest

from examples.demo_llm import __main__ as demo_llm
from examples.demo_llm.pairs import preference_pairs
from examples.demo_llm.sampling import Candidate
from examples.tasks import constraints


@pytest.mark.filterwarnings("ignore:This judge may be unreliable:UserWarning")
def test_the_tour_trains_compares_writes_a_page_and_resumes(chat_model, tmp_path, monkeypatch, capsys):
    # Random text follows no constraint; half of it is right by this rule.
    monkeypatch.setattr(constraints, "is_right", lambda problem, text: bool(text) and ord(text[0]) % 2 == 0)
    arguments = ["--small", "--model", str(chat_model), "--output", str(tmp_path / "out"), "--dtype", "float32"]
    demo_llm.main(arguments)
    report = json.loads((tmp_path / "out/results.json").read_text())
    assert set(report["methods"]) == {"elhsr", "genarm", "sla", "fast_slow"}
    for method in report["methods"].values():
        for row in method["rows"]:
            assert row["accuracy"][0] == pytest.approx(sum(row["right"]) / len(row["right"]), abs=1e-3)
    rows = {row["method"]: row for row in report["methods"]["elhsr"]["rows"]}
    assert all(
        own <= best for row in rows.values() for own, best in zip(row["right"], rows["any of 4"]["right"], strict=True)
    )
    for model in ("elhsr", "genarm", "sla", "fast_slow"):
        assert "- hf-reward-ext" in (tmp_path / "out" / model / "README.md").read_text()
    page = (tmp_path / "out/index.html").read_text()
    assert "&#34;" in page and "<script" not in page and page.count("<table>") == 4

    for path in (tmp_path / "out").glob("*.json"):
        path.touch() if path.name == "settings.json" else path.unlink()
    monkeypatch.setattr(demo_llm.best_of_n, "ELHSRTrainer", None)  # trained models and samples are not made again
    monkeypatch.setattr(demo_llm.guidance, "GenARMTrainer", None)
    demo_llm.main(arguments)
    again = json.loads((tmp_path / "out/results.json").read_text())
    for name, method in report["methods"].items():
        assert again["methods"][name]["rows"] == method["rows"]
    with pytest.raises(ValueError, match="but seed of '.*out' is 0 and not 1"):
        demo_llm.main([*arguments, "--seed", "1"])
    assert "GenARM: guided sampling" in capsys.readouterr().out


def test_pairs_have_a_right_and_a_wrong_side():
    def candidate(text: str, is_right: bool) -> Candidate:
        return Candidate(text, [1], [2], is_right, {}, [])

    samples = [
        [candidate("a", True), candidate("b", False), candidate("c", False), candidate("d", True)],
        [candidate("e", True), candidate("f", True)],
        [candidate("g", True), candidate("", False)],
    ]
    pairs = preference_pairs(samples, 10, seed=0)
    assert [pair["index"] for pair in pairs] == [0, 0]
    assert {pair["chosen"].text for pair in pairs} == {"a", "d"}
    assert {pair["rejected"].text for pair in pairs} == {"b", "c"}
    assert len(preference_pairs(samples, 1, seed=0)) == 1

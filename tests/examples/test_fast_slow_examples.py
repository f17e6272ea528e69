"""The Fast-Slow examples run, at a small size."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from tiny import tiny_causal_lm
from tiny_judges import pair_judge

from hf_reward_ext.fast_slow import FastSlowRewardModel

EXAMPLES = Path(__file__).parents[2] / "examples"


def module(name: str):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.mark.filterwarnings("ignore:This judge may be unreliable")
def test_the_demo_judge_is_trained_and_used(tmp_path, capsys):
    folder = str(tmp_path / "judge")
    module("fast_slow_train").main(["--output", folder, "--num-pairs", "64"])
    use = module("fast_slow_judge").main
    use(["--judge", folder, "--num-pairs", "2"])
    use(["--judge", folder, "--prompt", "6 1 3 3=12|", "--responses", "6-1*3-3=12", "6+1*3-3=12"])
    shown = capsys.readouterr().out
    assert shown.count("intuition 0.") + shown.count("intuition 1.") == 2 and "best: '6" in shown


@pytest.mark.filterwarnings("ignore:This judge may be unreliable")
def test_any_model_is_trained_on_given_pairs(tmp_path, capsys):
    model, rows = tmp_path / "model", tmp_path / "rows.jsonl"
    judge = pair_judge(tiny_causal_lm())
    judge.causal_lm.save_pretrained(model)
    judge.tokenizer.save_pretrained(model)
    rows.write_text("".join(f'{{"prompt": "w{n} w5", "chosen": "w6", "rejected": "w8"}}\n' for n in range(3, 23)))
    folder = str(tmp_path / "out")
    settings = ["--verdicts", "w10", "w11", "--num-samples", "2", "--max-steps", "1", "--lora", "2"]
    module("fast_slow_train").main(["--model", str(model), "--data", str(rows), "--output", folder, *settings])
    assert f"Saved in {folder}" in capsys.readouterr().out
    assert FastSlowRewardModel.from_pretrained(folder).config.adapter


def test_recorded_verdicts_go_through_the_gate():
    llmbar = module("benchmarks/fast_slow_llmbar")
    record = lambda label, quick, slow: {  # noqa: E731
        "label": label,
        "judges": {
            "J/Vanilla": dict(zip(("winner", "winner_swapped"), quick, strict=True)),
            "J/CoT": dict(zip(("winner", "winner_swapped"), slow, strict=True)),
        },
    }
    records = [
        record(1, "11", "11"), record(1, "12", "11"), record(2, "21", "12"), record(2, "11", "22"),
        record(1, (None, "1"), "22"),
    ]  # fmt: skip
    data = llmbar.recorded_outcomes(records, "J/Vanilla", "J/CoT")
    assert data.fast_right.tolist() == [1, 0.5, 0.5, 0, 1]
    assert data.slow_right.tolist() == [1, 1, 0.5, 1, 0]
    chosen = llmbar.escalated(llmbar.Gate(0.5, 0.0), data)
    assert chosen.tolist() == [False, True, True, False, True]
    assert np.isclose(data.accuracy(chosen), (1 + 1 + 0.5 + 0 + 0) / 5)

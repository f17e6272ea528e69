"""A reward model by path in GRPO, and DPO with callbacks, at a small size."""

import importlib.util
import json
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def main_of(name: str):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_grpo_runs_on_a_reward_model_that_it_trains_or_is_given(tmp_path, capsys):
    small = ["--steps", "2", "--prompts-per-step", "1", "--num-test", "8", "--output", str(tmp_path)]
    main_of("grpo_reward")(["elhsr", "--num-problems", "60", *small])
    main_of("grpo_reward")([str(tmp_path / "elhsr" / "reward-model"), "--trainer", "rloo", *small])
    watched = ["--steps", "1", "--eval-steps", "1", "--prompts-per-step", "1", "--num-test", "4"]
    main_of("benchmarks/grpo_drift")([str(tmp_path / "elhsr" / "reward-model"), *watched, "--output", str(tmp_path)])
    shown = capsys.readouterr().out
    assert shown.count("step  reward  held-out") == 2 and (tmp_path / "sound.png").exists()
    assert "elhsr, grpo: mean reward of each step" in shown and "rloo: mean reward" in shown


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_dpo_keeps_the_best_checkpoint_and_resumes(tmp_path, capsys):
    small = ["--num-problems", "60", "--num-prompts", "2", "--output", str(tmp_path)]
    with pytest.raises(SystemExit):
        main_of("dpo_with_callbacks")(small)
    main_of("dpo_with_callbacks")([*small, "--prepare"])
    main_of("dpo_with_callbacks")([*small, "--max-steps", "10"])
    main_of("dpo_with_callbacks")([*small, "--max-steps", "20", "--resume"])
    shown = capsys.readouterr().out
    assert shown.count("'step': 10") == 2 and shown.count("'step': 20") == 1 and "checkpoint-" in shown


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_online_dpo_samples_before_each_epoch_and_resumes(tmp_path, capsys):
    small = ["--num-labels", "60", "--num-prompts", "6", "--num-test", "4", "--output", str(tmp_path)]
    with pytest.raises(SystemExit):
        main_of("online_dpo")(small)
    for more in (["--prepare"], [], ["--resume"]):
        main_of("online_dpo")([*small, *more])
    shown = capsys.readouterr().out
    assert shown.count("'step': 2}\naccuracy: ") == 2  # the last of two refreshes, at the end of the second epoch


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This judge may be unreliable")
def test_judges_are_compared_at_equal_tokens_and_resume(tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES / "benchmarks"))
    results = tmp_path / "results.json"
    small = ["--num-pairs", "64", "--num-dev", "20", "--num-test", "12", "--output", str(tmp_path)]
    for _ in range(2):
        main_of("benchmarks/groupwise")([*small, "--results", str(results)])
    first, second = (part.split("\n\n")[2].strip() for part in capsys.readouterr().out.split("### 12 groups")[1:])
    assert first == second and first.count("|\n") == 7
    rows = {row["way"]: row for row in json.loads(results.read_text())["rows"]}
    for row in (row for row in rows.values() if "against" in row):
        assert rows[row["against"]]["tokens"] <= max(row["tokens"], rows["pointwise, first token"]["tokens"])

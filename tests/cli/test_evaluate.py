import json
from pathlib import Path

import pytest
from cli_files import TEMPLATE, read_rows, write_rows
from peft import LoraConfig, get_peft_model
from tiny import tiny_tokenizer
from torch.nn.modules.module import register_module_forward_pre_hook
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
)

from hf_reward_ext import FastSlowRewardModel, JudgeTemplate
from hf_reward_ext.cli import evaluate
from hf_reward_ext.cli.main import main
from hf_reward_ext.sla import RewardTransformer

PAIRS = [{"prompt": f"w{n} w5", "chosen": " w6 w7" if n % 3 else " w6", "rejected": " w8 w9"} for n in range(6)]


@pytest.fixture(scope="module")
def scorers(folder, tmp_path_factory):
    """A folder of each kind of scorer."""
    place = tmp_path_factory.mktemp("scorers")
    policy = AutoModelForCausalLM.from_pretrained(folder / "policy")
    RewardTransformer.from_base(policy, channel_size=8).save_pretrained(place / "channel")
    tiny_tokenizer().save_pretrained(place / "channel")
    AutoModelForSequenceClassification.from_config(
        AutoConfig.from_pretrained(folder / "policy", num_labels=1)
    ).save_pretrained(place / "classifier")
    tiny_tokenizer().save_pretrained(place / "classifier")
    judge = FastSlowRewardModel(
        policy, tiny_tokenizer(), ("w20", "w21"), template=JudgeTemplate(**TEMPLATE), max_new_tokens=4
    )
    judge.save_pretrained(place / "judge")
    adapted = get_peft_model(policy, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=2))
    adapted.save_pretrained(place / "adapter")
    tiny_tokenizer().save_pretrained(place / "adapter")
    return {name: str(place / name) for name in ("channel", "classifier", "judge", "adapter")} | {
        "policy": str(folder / "policy")
    }


@pytest.mark.parametrize("kind", ["channel", "classifier", "judge", "adapter", "policy"])
def test_every_kind_of_scorer(kind, scorers, tmp_path, capsys):
    data = write_rows(tmp_path / "pairs.jsonl", PAIRS)
    assert main(["evaluate", "--scorer", scorers[kind], "--data", data, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["num_rows"] == 6
    assert 0 <= report["estimates"]["accuracy"]["value"] <= 1


def test_a_causal_lm_scores_by_its_log_probability(scorers, tmp_path, caplog):
    data = write_rows(tmp_path / "pairs.jsonl", PAIRS)
    rows = tmp_path / "rows.jsonl"
    assert main(["evaluate", "--scorer", scorers["policy"], "--data", data, "--rows", str(rows)]) == 0
    assert "is a causal LM: its reward is the sum of its log-probabilities" in caplog.text
    policy = AutoModelForCausalLM.from_pretrained(scorers["policy"])
    tokenizer = AutoTokenizer.from_pretrained(scorers["policy"])
    ids = tokenizer("w0 w5 w6", return_tensors="pt")["input_ids"]
    ids = ids.new_tensor([[*ids[0].tolist(), tokenizer.eos_token_id]])
    logps = policy(ids).logits.log_softmax(-1)[0, 1:-1].gather(-1, ids[0, 2:, None]).sum()
    assert read_rows(rows)[0]["chosen_scores"][0] == pytest.approx(logps.item(), abs=1e-4)


def test_a_function_and_all_that_can_be_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_scores.py").write_text(
        "def score(prompts, completions):\n    return [-len(c) for c in completions]\n"
    )
    data = write_rows(tmp_path / "pairs.jsonl", PAIRS)
    files = ["--output", "out/a.json", "--markdown", "out/a.md", "--plot", "out/a.png", "--rows", "out/rows.jsonl"]
    assert main(["evaluate", "--scorer", "my_scores:score", "--data", data, *files]) == 0
    report = json.loads((tmp_path / "out" / "a.json").read_text())
    assert report["estimates"]["accuracy"]["value"] == pytest.approx(2 / 6)  # equal lengths are wrong
    assert "| accuracy | 33.3 |" in (tmp_path / "out" / "a.md").read_text()
    assert "| accuracy | 33.3 |" in capsys.readouterr().out
    assert (tmp_path / "out" / "a.png").read_bytes().startswith(b"\x89PNG")
    assert [row["correct"] for row in read_rows(tmp_path / "out" / "rows.jsonl")] == [1, 0, 0, 1, 0, 0]
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_numbers_go_into_the_card(scorers, tmp_path, capsys):
    data = write_rows(tmp_path / "pairs.jsonl", PAIRS)
    arguments = ["evaluate", "--scorer", scorers["judge"], "--data", data, "--model_card", "--dataset_title", "words"]
    assert main(arguments) == 0
    card = Path(scorers["judge"], "README.md").read_text()
    assert "model-index" in card and "name: words" in card
    assert main(["evaluate", "--scorer", scorers["classifier"], "--data", data, "--model_card"]) == 1
    assert "`--model_card` must find a card, but there is no" in capsys.readouterr().err


def test_candidates(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_numbers.py").write_text(
        "def score(prompts, completions):\n    return [float(c) for c in completions]\n"
        "def answer(completion):\n    return completion\n"
    )
    rows = [{"prompt": "a", "completions": ["1", "2", "2"], "labels": [0, 1, 1]}]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    more = ["--format", "best-of-n", "--extract_answer", "my_numbers:answer", "--plot", "curves.png", "--json"]
    assert main(["evaluate", "--scorer", "my_numbers:score", "--data", data, *more]) == 0
    estimates = json.loads(capsys.readouterr().out)["estimates"]
    assert estimates["best-of-n@1"]["value"] == pytest.approx(2 / 3)
    assert estimates["best-of-n@2"]["value"] == estimates["majority@3"]["value"] == 1
    assert (tmp_path / "curves.png").exists()


def test_a_training_free_reward_of_candidates(folder, tmp_path, capsys):
    rows = [{"prompt": "w3 w5", "completions": [" w6", " w7 w8"], "labels": [0, 1]}]
    arguments = ["--scorer", "length", "--policy", f"{folder}/policy", "--format", "best-of-n", "--json"]
    assert main(["evaluate", *arguments, "--data", write_rows(tmp_path / "rows.jsonl", rows)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["scorer"] == "Length" and report["estimates"]["best-of-n@2"]["value"] == 1


def test_a_benchmark_with_columns_of_its_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_words.py").write_text("def score(prompts, texts):\n    return [t.count('w6') for t in texts]\n")
    rows = [{"input": "w3", "output_1": "w6", "output_2": "w7", "label": 1}]
    rows += [{"input": "w3", "output_1": "w6", "output_2": "w7", "label": 2}]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    arguments = ["evaluate", "--scorer", "my_words:score", "--data", data, "--json"]
    assert main([*arguments, "--format", "llmbar"]) == 0
    assert json.loads(capsys.readouterr().out)["estimates"]["accuracy"]["value"] == 0.5
    assert main(arguments) == 1
    assert "Row 0 has the columns ['input', 'label', 'output_1', 'output_2']" in capsys.readouterr().err


# Rows in the published schemas; a scorer rejects a step with an x.
PROCESS = [
    {"id": "gsm8k-0", "generator": "g", "problem": "p", "steps": ["a", "x"], "final_answer_correct": False, "label": 1},
    {"id": "gsm8k-1", "generator": "g", "problem": "p", "steps": ["a"], "final_answer_correct": False, "label": 0},
    {"id": "gsm8k-2", "generator": "g", "problem": "p", "steps": ["a", "b"], "final_answer_correct": True, "label": -1},
    {"id": "math-0", "generator": "g", "problem": "p", "steps": ["x", "b"], "final_answer_correct": False, "label": 0},
    {"id": "math-1", "generator": "g", "problem": "p", "steps": ["a", "b"], "final_answer_correct": True, "label": -1},
]
PRM = [
    {"idx": "circular_1", "modified_question": "q", "modified_process": ["a", "x", "x"], "error_steps": [2],
     "classification": "circular", "original_question": "q", "original_process": ["a"], "modified_steps": [2]},
    {"idx": "confidence_1", "modified_question": "q", "modified_process": ["a", "b"], "error_steps": [2],
     "classification": "confidence", "original_question": "q", "original_process": ["a"], "modified_steps": [2]},
]  # fmt: skip


@pytest.fixture
def has_no_x(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_steps.py").write_text(
        "def score(prompts, completions):\n    return [float('x' not in c.split('\\n\\n')[-1]) for c in completions]\n"
    )
    return ["evaluate", "--scorer", "my_steps:score", "--threshold", "0.5"]


@pytest.mark.parametrize(
    ("format", "rows", "values"),
    [
        # Errors found: 1 of 2 and 1 of 1; right solutions: 1 of 1 and 1 of 1.
        ("processbench", PROCESS, {
            "error_accuracy/gsm8k": 1 / 2, "correct_accuracy/gsm8k": 1, "f1/gsm8k": 2 * 0.5 / 1.5,
            "error_accuracy/math": 1, "correct_accuracy/math": 1, "f1/math": 1,
            "error_accuracy": 3 / 4, "correct_accuracy": 1, "f1": (2 / 3 + 1) / 2,
        }),
        # Right and accepted: a, a. Wrong and accepted: b. Wrong and rejected: x. Right and rejected: x.
        ("prmbench", PRM, {
            "f1": 4 / 6, "negative_f1": 2 / 4, "prm_score": (2 / 3 + 1 / 2) / 2,
            "f1/circular": 2 / 3, "negative_f1/circular": 2 / 3, "prm_score/circular": 2 / 3,
            "f1/confidence": 2 / 3, "negative_f1/confidence": 0, "prm_score/confidence": 1 / 3,
        }),
    ],
)  # fmt: skip
def test_steps(format, rows, values, has_no_x, tmp_path, capsys):
    data = write_rows(tmp_path / "rows.jsonl", rows)
    files = ["--output", "a.json", "--rows", "a.jsonl", "--markdown", "a.md", "--plot", "a.png"]
    arguments = [*has_no_x, "--data", data, "--format", format, "--batch_size", "2", *files]
    assert main(arguments) == 0
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["threshold"] == 0.5 and report["num_rows"] == len(rows)
    assert {name: one["value"] for name, one in report["estimates"].items()} == pytest.approx(values)
    steps = "steps" if format == "processbench" else "modified_process"
    written = read_rows(tmp_path / "a.jsonl")
    assert [row["rewards"] for row in written] == [[float(step != "x") for step in row[steps]] for row in rows]
    assert f"| f1 | {100 * values['f1']:.1f} |" in (tmp_path / "a.md").read_text() and (tmp_path / "a.png").exists()
    capsys.readouterr()
    assert main(arguments) == 0 and "from an earlier run" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["channel", "classifier", "policy"])
def test_steps_by_every_kind_of_scorer(kind, scorers, tmp_path, capsys):
    rows = [{"id": "s-0", "problem": "w3", "steps": ["w6", "w7"], "label": 1}]
    arguments = ["--scorer", scorers[kind], "--data", write_rows(tmp_path / "rows.jsonl", rows), "--threshold", "0"]
    assert main(["evaluate", *arguments, "--format", "processbench", "--separator", " ", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["estimates"]) >= {"f1", "f1/s"}


@pytest.mark.parametrize(
    ("format", "row", "message"),
    [
        ("processbench", {"label": 2}, "`label` must be the index of the first wrong of 2 steps or -1, got 2"),
        ("processbench", {"label": None}, "got None"),
        ("processbench", {"steps": []}, "`steps` must be a list of at least one step"),
        ("processbench", {"problem": ""}, "`problem` must be text"),
        ("processbench", {"id": None}, "`id` must be text, got None"),
        ("prmbench", {"error_steps": [3]}, "`error_steps` must be numbers of steps from 1 to 2, got [3]"),
        ("prmbench", {"error_steps": None}, "got None"),
        ("prmbench", {"classification": None}, "`classification` must be text"),
        ("prmbench", {"modified_process": None}, "`modified_process` must be a list"),
    ],
)  # fmt: skip
def test_a_malformed_row_of_steps_is_refused_before_a_scorer_is_loaded(format, row, message, tmp_path, capsys):
    rows = {"processbench": PROCESS[:1] + PROCESS[2:], "prmbench": PRM}[format]
    data = write_rows(tmp_path / "rows.jsonl", [rows[0], {**rows[1], **row}])
    arguments = ["--scorer", "no_such_module:score", "--data", data, "--format", format, "--threshold", "0"]
    assert main(["evaluate", *arguments]) == 1
    error = capsys.readouterr().err
    assert "Row 1 of the " in error and message in error


def test_a_column_of_steps_that_is_missing_is_named(tmp_path, capsys):
    data = write_rows(tmp_path / "rows.jsonl", PROCESS)
    arguments = ["--scorer", "no_such_module:score", "--data", data, "--format", "prmbench", "--threshold", "0"]
    assert main(["evaluate", *arguments]) == 1
    assert "PRMBench rows need ['classification', 'error_steps', " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--scorer is missing"),
        (["--scorer", "s", "--data", "d", "--format", "prmbench"], "--threshold is missing"),
        (["--scorer", "s", "--data", "d", "--threshold", "0"], "--threshold goes with --format processbench"),
        (["--scorer", "s", "--data", "d", "--separator", " "], "--separator goes with --format processbench"),
        (["--scorer", "s"], "--data is missing"),
        (["--scorer", "s", "--data", "d", "--format", "mine"], "--format must be one of preference, rewardbench"),
        (["--scorer", "confidence", "--data", "d"], "--policy goes with a training-free --scorer"),
        (["--scorer", "s", "--data", "d", "--policy", "p"], "--policy goes with a training-free --scorer"),
        (["--scorer", "s", "--data", "d", "--extract_answer", "m:f"], "goes with --format best-of-n"),
        (["--scorer", "s", "--data", "d", "--format", "best-of-n", "--rows", "r"], "--rows goes with pairs"),
    ],
)
def test_a_wrong_command_line_ends_with_two(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", *arguments])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["channel", "classifier", "judge", "policy"])
@pytest.mark.parametrize("format", ["preference", "best-of-n", "processbench"])
def test_a_text_that_is_too_long_is_refused_before_any_is_scored(kind, format, scorers, tmp_path, capsys):
    if kind == "judge" and format != "preference":
        pytest.skip("a judge of pairs has no rewards")
    long = " w6" * 300
    rows = [{**row, "chosen": long} if number == 4 else row for number, row in enumerate(PAIRS)]
    if format == "best-of-n":
        rows = [{"prompt": row["prompt"], "completions": [row["chosen"], " w8"], "labels": [1, 0]} for row in rows]
    if format == "processbench":
        rows = [{"id": "s-0", "problem": row["prompt"], "steps": ["w6", row["chosen"]], "label": 0} for row in rows]
    forwards = []
    handle = register_module_forward_pre_hook(
        lambda module, _: forwards.append(module) if isinstance(module, PreTrainedModel) else None
    )
    arguments = ["evaluate", "--scorer", scorers[kind], "--data", write_rows(tmp_path / "rows.jsonl", rows)]
    more = ["--format", format, *(["--threshold", "0"] if format == "processbench" else [])]
    try:
        assert main([*arguments, *more, "--batch_size", "1", "--output", str(tmp_path / "o.json")]) == 1
    finally:
        handle.remove()
    assert "Row 4 of the evaluated data: " in (error := capsys.readouterr().err) and "tokens" in error
    assert forwards == [] and sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl"]


def test_a_plot_without_matplotlib_is_an_invalid_command_line(monkeypatch, capsys):
    monkeypatch.setattr(evaluate, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", "--scorer", "m:f", "--data", "d", "--plot", "p.png"])
    assert "--plot needs matplotlib: pip install" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("format", "lower", "upper", "is_noted"),
    [
        ("preference", 0.4, 0.7, True),
        ("llmbar", 0.5, 0.9, True),
        ("preference", 0.51, 0.9, False),
        ("preference", 0.1, 0.4, False),
        ("rm-bench", 0.4, 0.7, False),
        ("best-of-n", 0.4, 0.7, False),
    ],
)
def test_an_accuracy_that_may_be_chance_is_noted(format, lower, upper, is_noted, caplog):
    evaluate._note_chance(format, {"accuracy": {"value": 0.6, "lower": lower, "upper": upper}})
    assert ("may be no better than chance" in caplog.text) == is_noted

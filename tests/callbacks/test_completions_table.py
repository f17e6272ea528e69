import sys
from types import ModuleType, SimpleNamespace

import pytest
from datasets import load_dataset
from transformers import PrinterCallback
from transformers.integrations import TensorBoardCallback

from hf_reward_ext.callbacks import BestOfNCallback, completions_table
from hf_reward_ext.callbacks.completions_table import CompletionsTable

ROW = {"prompt": "p", "completion": "c", "reward": 1.0, "alpha": 0.5}


@pytest.fixture
def trackers(monkeypatch):
    """Modules of trackers, and what they were given."""
    logged = {}

    def module(name):
        made = ModuleType(name)
        logged[name] = []
        made.log = logged[name].append
        made.Table = lambda dataframe: dataframe
        monkeypatch.setitem(sys.modules, name, made)
        return made

    module("trackio")
    module("wandb").run = object()
    monkeypatch.setattr(
        completions_table,
        "log_table_to_comet_experiment",
        lambda name, table: logged.setdefault("comet_ml", []).append({name: table}),
    )
    return logged


@pytest.mark.parametrize(
    ("name", "key"), [("wandb", "table"), ("trackio", "table"), ("comet_ml", "table.csv")], ids=lambda value: value
)
def test_trackers_get_the_whole_table(name, key, trackers):
    table = CompletionsTable("table")
    args = SimpleNamespace(report_to=[name, "codecarbon"])  # a tracker without tables is no error
    table.log([ROW], 2, args)
    table.log([ROW, ROW], 4, args)
    assert list(table.frame.columns) == ["step", "prompt", "completion", "reward", "alpha"]
    assert table.frame["step"].tolist() == ["2", "4", "4"]
    assert [len(one[key]) for one in trackers[name]] == [1, 3]


def test_rows_before_a_run_are_in_its_first_table(trackers):
    table, args = CompletionsTable("table"), SimpleNamespace(report_to=["wandb"])
    run, sys.modules["wandb"].run = sys.modules["wandb"].run, None
    table.log([ROW], 0, args)
    sys.modules["wandb"].run = run
    table.log([ROW], 1, args)
    assert [len(one["table"]) for one in trackers["wandb"]] == [2]


def test_tensorboard_gets_a_text():
    texts = []
    board = TensorBoardCallback.__new__(TensorBoardCallback)
    board.tb_writer = SimpleNamespace(add_text=lambda *text: texts.append(text))
    args = SimpleNamespace(report_to=["tensorboard"])
    CompletionsTable("table").log([{**ROW, "prompt": "a|b\nc"}], 3, args, [board, PrinterCallback()])
    shown = "| prompt | completion | reward | alpha |\n|---|---|---|---|\n| a\\|b c | c | 1 | 0.5 |"
    assert texts == [("table", shown, 3)]


def test_first_rows_are_printed_without_trackers(capsys):
    CompletionsTable("table", num_printed=1).log(
        [ROW, {**ROW, "completion": "unseen"}], 7, SimpleNamespace(report_to=[])
    )
    shown = capsys.readouterr().out
    assert "Step 7" in shown and "1.00" in shown and "unseen" not in shown


def test_a_file_for_each_step_has_the_rows_of_all_evaluation_sets(tmp_path):
    args = SimpleNamespace(report_to=[], output_dir=str(tmp_path))
    table = CompletionsTable("bon_completions", is_saved=True)
    for step, reward in ((10, 1.0), (10, None), (20, 2.0)):
        table.log([{**ROW, "reward": reward}], step, args)
    files = sorted((tmp_path / "completions").iterdir())
    assert [file.name for file in files] == ["bon_completions_00010.parquet", "bon_completions_00020.parquet"]
    rows = load_dataset("parquet", data_files=[str(file) for file in files], cache_dir=str(tmp_path))["train"]
    assert rows["step"] == [10, 10, 20] and rows["reward"] == [1.0, None, 2.0]
    assert rows.column_names == ["step", "prompt", "completion", "reward", "alpha"]


def test_nothing_is_written_without_the_option(tmp_path):
    CompletionsTable("table").log([ROW], 1, SimpleNamespace(report_to=[], output_dir=str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_saved", [True, False])
def test_a_callback_takes_the_option(is_saved):
    callback = BestOfNCallback(["p"], lambda prompts, completions: [0.0], save_completions=is_saved)
    assert callback.table.is_saved == is_saved

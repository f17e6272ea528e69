import sys
from types import ModuleType, SimpleNamespace

from hf_reward_ext.callbacks import completions_table
from hf_reward_ext.callbacks.completions_table import CompletionsTable

ROW = {"prompt": "p", "completion": "c", "reward": 1.0, "alpha": 0.5}


def test_trackers_get_the_whole_table(monkeypatch):
    logged = []
    wandb = ModuleType("wandb")
    wandb.log = logged.append
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    comet = {}
    monkeypatch.setattr(
        completions_table, "log_table_to_comet_experiment", lambda name, table: comet.update({name: table})
    )
    table = CompletionsTable("bon_completions")
    args = SimpleNamespace(report_to=["wandb", "comet_ml"])
    table.log([ROW], 2, args)
    table.log([ROW, ROW], 4, args)
    assert list(table.frame.columns) == ["step", "prompt", "completion", "reward", "alpha"]
    assert table.frame["step"].tolist() == ["2", "4", "4"]
    assert [len(one["bon_completions"]) for one in logged] == [1, 3]
    assert len(comet["bon_completions.csv"]) == 3


def test_first_rows_are_printed_without_trackers(capsys):
    CompletionsTable("table", num_printed=1).log(
        [ROW, {**ROW, "completion": "unseen"}], 7, SimpleNamespace(report_to=[])
    )
    shown = capsys.readouterr().out
    assert "Step 7" in shown and "1.00" in shown and "unseen" not in shown

"""Numbers and rows of commands in experiment trackers, and rows on the Hub."""

import json
import sys
from types import ModuleType

import accelerate.tracking
import pandas as pd
import pytest
from fake_hub import hub  # noqa: F401

from hf_reward_ext.cli.main import main
from hf_reward_ext.cli.tracking import _flat


@pytest.fixture
def trackers(monkeypatch):
    """Trackers that keep what they are given: `wandb` and `trackio` take tables, `tensorboard` takes text."""
    kept: dict[str, dict] = {}

    def tracker(name):
        class Tracker:
            requires_logging_directory = name == "tensorboard"

            def __init__(self, project, **given):
                assert project == "hf_reward_ext" and ("logging_dir" in given) == self.requires_logging_directory
                self.kept = kept.setdefault(name, {"logged": {}, "finished": False})
                self.tracker = self

            def start(self):
                self.kept["started"] = True

            def store_init_configuration(self, values):
                self.kept["settings"] = values

            def log(self, values, step=None):
                self.kept["logged"] |= values

            def add_text(self, title, text):
                self.kept["text"] = (title, text)

            def finish(self):
                self.kept["finished"] = True

        if name == "wandb":
            Tracker.log_table = lambda self, title, dataframe: self.log({title: dataframe})
        return Tracker

    names = ["tensorboard", "wandb", "trackio"]
    monkeypatch.setattr(accelerate.tracking, "get_available_trackers", lambda: names)
    monkeypatch.setattr(accelerate.tracking, "LOGGER_TYPE_TO_CLASS", {name: tracker(name) for name in names})
    trackio = ModuleType("trackio")
    trackio.Table = lambda dataframe: dataframe
    monkeypatch.setitem(sys.modules, "trackio", trackio)
    return kept


@pytest.fixture
def bon(folder):
    arguments = ["bon", "--num_candidates", "2", "--max_new_tokens", "3", "--prompt", "w3 w5", "--temperature", "1"]
    return [*arguments, "--reward_model", f"{folder}/head"]


def test_numbers_and_rows_reach_every_tracker_and_the_hub(bon, trackers, hub, tmp_path, capsys):  # noqa: F811
    upload = ["--output", f"{tmp_path}/rows.jsonl", "--push_to_hub", "me/rows"]
    assert main([*bon, *upload, "--report_to", "tensorboard", "wandb", "trackio", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    row = json.loads((tmp_path / "rows.jsonl").read_text())
    for name in ("tensorboard", "wandb", "trackio"):
        assert trackers[name]["finished"] and trackers[name]["settings"]["num_candidates"] == 2
        assert trackers[name]["settings"]["reward_model"] == "head"  # not the folder
        assert trackers[name]["logged"]["bon/best_reward"] == report["best_reward"]
        assert "output" not in trackers[name]["settings"]
    for name in ("wandb", "trackio"):
        table = trackers[name]["logged"]["bon/rows"]
        assert isinstance(table, pd.DataFrame)
        assert table.to_dict("records") == [
            {"prompt": "w3 w5", "completion": row["completions"][0], "reward": row["rewards"][0]}
        ]
    assert trackers["tensorboard"]["text"][0] == "bon/rows" and "| w3 w5 |" in trackers["tensorboard"]["text"][1]
    assert hub.files("me/rows") == ["README.md", "train.parquet"]


def test_a_finished_evaluation_is_reported_too(folder, trackers, tmp_path, capsys):
    more = ["--data", f"{folder}/pairs/test.jsonl", "--output", f"{tmp_path}/report.json"]
    command = ["evaluate", "--scorer", f"{folder}/head", *more]
    assert main(command) == 0
    assert main([*command, "--report_to", "wandb", "--json"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"hf_reward_ext", "torch", "transformers"} == set(report["versions"])
    assert report["scorer"] == "head"  # the name of the folder, not of a class
    name, estimate = next(iter(report["estimates"].items()))
    assert trackers["wandb"]["logged"][f"evaluate/{name}"] == estimate["value"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--report_to", "wandbb"], 1, "(tensorboard, wandb, trackio), got 'wandbb'; install its package"),
        (["--push_to_hub", "me/rows"], 2, "--push_to_hub goes with --output"),
        (["--push_to_hub", "a/b/c", "--output", "x.jsonl"], 2, "must be OWNER/NAME or NAME on the Hub, got 'a/b/c'"),
    ],
)
def test_what_cannot_be_reported_is_refused_before_work(bon, trackers, arguments, code, message, capsys, monkeypatch):
    monkeypatch.setattr("hf_reward_ext.cli.bon._prepare", lambda *_: pytest.fail("work has started"))
    try:
        assert main([*bon, *arguments]) == code
    except SystemExit as end:
        assert end.code == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a--b", "me/x..y", "me/rows.git", "-rows", "me/" + "x" * 97])
def test_a_name_that_the_hub_does_not_have_is_a_usage_error(name, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["generate", "--model", "m", "--prompt", "p", "--output", "o.jsonl", f"--push_to_hub={name}"])
    assert "--push_to_hub must be OWNER/NAME or NAME on the Hub" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("offline", "token", "message"),
    [
        (True, "hf_of_a_test", "must come without HF_HUB_OFFLINE, got 'me/rows' offline"),
        (False, None, "must come with a token of the Hub, got 'me/rows' without one"),
    ],
    ids=["offline", "no token"],
)
@pytest.mark.parametrize("command", ["bon --reward_model length", "generate", "judge --responses a b"])
def test_an_upload_that_cannot_be_made_is_refused_before_work(
    command, offline, token, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("hf_reward_ext.cli.outputs.is_offline_mode", lambda: offline)
    monkeypatch.setattr("hf_reward_ext.cli.outputs.get_token", lambda: token)
    output = tmp_path / "rows.jsonl"
    given = ["--model", "missing", "--prompt", "p", "--output", str(output), "--push_to_hub", "me/rows"]
    assert main([*command.split(), *given]) == 1
    assert message in capsys.readouterr().err and not output.exists()


def test_messages_without_text_are_rows_of_a_table():
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    row = _flat({"prompt": [{"role": "user", "content": "w1"}, call], "completions": ["w2"]})
    assert row["completion"] == "w2" and row["prompt"].startswith("user: w1") and "'f'" in row["prompt"]

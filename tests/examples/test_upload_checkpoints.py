"""Uploads of trained folders, with a Hub of folders."""

import json

import pytest
from fake_hub import hub, named_policy  # noqa: F401

from examples import upload_checkpoints
from hf_reward_ext import ELHSRModel


@pytest.fixture
def folder(hub, tmp_path):  # noqa: F811
    """A saved head on a policy of the Hub, with the remains of its training."""
    folder = tmp_path / "outputs/demo/heads/small"
    head = ELHSRModel.from_policy(named_policy())
    head.config.base_model_name_or_path = "owner/policy"
    head.save_pretrained(folder)
    (folder / "checkpoint-2").mkdir()
    (folder / "checkpoint-2/model.safetensors").touch()
    (folder / "training_args.bin").touch()
    return folder


def test_a_dry_run_lists_what_an_upload_sends(folder, hub, capsys):  # noqa: F811
    upload_checkpoints.main(["me", str(folder), "--dry-run"])
    name, *files = capsys.readouterr().out.splitlines()
    assert name.startswith("me/demo-heads-small: 3 files, ") and hub.calls == []
    upload_checkpoints.main(["me", str(folder)])
    assert hub.files("me/demo-heads-small") == sorted(line.strip() for line in files)
    assert hub.calls[0] == ("create_repo", "me/demo-heads-small", {"private": True, "exist_ok": True})
    upload_checkpoints.main(["me", str(folder), "--public"])
    assert hub.calls[-2][2]["private"] is False


@pytest.mark.parametrize("fault", ["no card", "no config", "local base"])
def test_nothing_is_uploaded_if_one_folder_cannot_be_used_by_others(fault, folder, hub, tmp_path):  # noqa: F811
    bad = tmp_path / "outputs/bad"
    bad.mkdir()
    base = str(folder) if fault == "local base" else "owner/policy"
    if fault != "no config":
        (bad / "config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    if fault != "no card":
        (bad / "README.md").touch()
    message = "must be a name on the Hub" if fault == "local base" else "must have a config and README.md"
    with pytest.raises(ValueError, match=message):
        upload_checkpoints.main(["me", str(folder), str(bad)])
    assert hub.calls == []

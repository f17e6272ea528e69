"""`--html` and `--traces` of the commands, with the numbers of the models."""

import json

import pytest
from cli_files import read_rows
from tiny import tiny_causal_lm, tiny_tokenizer

from hf_reward_ext.cli.main import main
from hf_reward_ext.sla import RewardTransformer
from hf_reward_ext.viz import write_html


@pytest.fixture
def bon(folder):
    arguments = ["bon", "--num_candidates", "4", "--max_new_tokens", "5", "--prompt", "w3 w5", "--temperature", "1"]
    return [*arguments, "--reward_model", f"{folder}/head"]


def test_candidates_of_a_head(bon, tmp_path, capsys):
    assert main([*bon, "--html", f"{tmp_path}/page.html", "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)["rows"]
    assert [trace["index"] for trace in row["traces"]] == [0, 3]
    for trace in row["traces"]:
        assert len(trace["values"]) == len(trace["tokens"]) and any(trace["values"])
    page = (tmp_path / "page.html").read_text()
    assert 'class="token' in page and f"{row['rewards'][0]:.3f}" in page


def test_a_file_has_traces_if_they_are_asked_for_and_the_page_is_that_of_the_file(bon, tmp_path, capsys):
    output = ["--output", f"{tmp_path}/rows.jsonl"]
    assert main([*bon, *output, "--html", f"{tmp_path}/page.html"]) == 0
    assert "traces" not in read_rows(tmp_path / "rows.jsonl")[0] and "1 rows in" in capsys.readouterr().out
    assert main([*bon, *output]) == 0  # the page is no part of the settings
    assert main([*bon, *output, "--traces"]) == 1
    assert "with other settings" in capsys.readouterr().err
    assert main([*bon, *output, "--traces", "--overwrite", "--html", f"{tmp_path}/page.html"]) == 0
    rows = read_rows(tmp_path / "rows.jsonl")
    write_html(tmp_path / "again.html", rows)
    assert len(rows[0]["traces"]) == 2 and (tmp_path / "again.html").read_text() == (tmp_path / "page.html").read_text()


def test_guided_completions_and_the_tree_of_a_search(folder, tmp_path, capsys):
    common = ["--prompt", "w3 w5", "w4", "--max_new_tokens", "6", "--html", f"{tmp_path}/page.html", "--json"]
    tiny_causal_lm(seed=1).save_pretrained(tmp_path / "guide")
    tiny_tokenizer().save_pretrained(tmp_path / "guide")
    guided = ["--model", f"{folder}/policy", "--guide", f"{tmp_path}/guide", "--temperature", "0"]
    tilts = []
    for alpha in ("0", "1"):
        assert main(["generate", *guided, "--alpha", alpha, *common]) == 0
        rows = json.loads(capsys.readouterr().out)["rows"]
        assert "".join(rows[0]["traces"][0]["tokens"]).strip() == rows[0]["completion"].strip()
        assert len(rows[0]["traces"][0]["values"]) == rows[0]["num_tokens"]
        tilts.append(rows[0]["traces"][0]["values"])
    assert set(tilts[0]) == {0.0} and any(tilts[1])
    RewardTransformer.from_base(tiny_causal_lm(), channel_size=8).save_pretrained(tmp_path / "channel")
    search = ["--channel", f"{tmp_path}/channel", "--model", f"{folder}/policy", "--width", "2", "--step", "2"]
    assert main(["generate", *search, *common]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    confirmed = "".join(node["text"] for node in rows[0]["tree"] if node["is_confirmed"])
    assert confirmed.replace(" ", "") == rows[0]["completion"].replace(" ", "")
    assert "look-ahead tree" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--as", "sft", "--output", "x.jsonl", "--html", "x.html"], 2, "--html shows all candidates"),
        (["--as", "sft", "--output", "x.jsonl", "--traces"], 2, "--traces shows all candidates"),
        (["--html", "no/such/x.html/"], 1, "`--html` must be a place where files can be written"),
    ],
)
def test_options_that_do_not_go_together(bon, arguments, code, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if code == 2:
        with pytest.raises(SystemExit, match="2"):
            main([*bon, *arguments])
    else:
        (tmp_path / "no").write_text("")
        assert main([*bon, *arguments]) == 1
    assert message in capsys.readouterr().err


def test_traces_need_rewards_of_tokens(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_lengths.py").write_text("def length(prompts, completions):\n    return [1.0] * len(completions)\n")
    base = ["bon", "--num_candidates", "2", "--max_new_tokens", "3", "--prompt", "w3", "--model", f"{folder}/policy"]
    base += ["--reward_model", "my_lengths:length"]
    assert main([*base, "--traces"]) == 1
    assert "`--traces` must come with a reward of tokens" in capsys.readouterr().err
    assert main([*base, "--html", "page.html"]) == 0  # without colors
    assert 'class="token' not in (tmp_path / "page.html").read_text()
    with pytest.raises(SystemExit, match="2"):
        main(["generate", "--model", f"{folder}/policy", "--prompt", "w3", "--traces"])


def test_judgments(folder, tmp_path):
    arguments = ["judge", "--model", f"{folder}/policy", "--verdicts", "w20", "w21", "--mode", "fast"]
    arguments += ["--prompt", "w3", "--responses", "w4", "w5"]
    assert main([*arguments, "--html", f"{tmp_path}/page.html"]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "fast verdict" in page and "intuition" in page and "response a" in page

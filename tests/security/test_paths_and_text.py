"""What a downloaded file or a name could do: paths, templates, Markdown, generated code."""

import ast
import json

import pytest
from tiny import tiny_causal_lm

from hf_reward_ext import RewardTransformer
from hf_reward_ext.base.saving.card import CardText, write_model_card
from hf_reward_ext.base.saving.markdown import escape_markdown
from hf_reward_ext.base.stats.intervals import Estimate
from hf_reward_ext.evaluation.table import estimates_to_markdown
from hf_reward_ext.hub import GenARMCustomGenerate
from hf_reward_ext.sla import RewardTransformerConfig

OUTSIDE = ["../x", "..", "/etc", "a/../../b", "C:\\x", "\\\\host\\x", "..\\x", "", " ", ".", "policy/../../x"]


@pytest.mark.parametrize("folder", OUTSIDE)
def test_a_channel_whose_policy_folder_leads_outside_is_refused(folder, tmp_path):
    rt = RewardTransformer.from_base(tiny_causal_lm(), channel_size=8)
    rt.save_pretrained(tmp_path / "channel")
    config = tmp_path / "channel" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "policy_folder": folder}))
    with pytest.raises(ValueError, match="must be a folder inside that of the channel"):
        RewardTransformer.from_pretrained(tmp_path / "channel", base=rt.base)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["channel"]


@pytest.mark.parametrize("folder", ["policy", "policy/arm", "policy/a..b"])
def test_folders_inside_are_fine(folder):
    assert RewardTransformerConfig(policy_folder=folder).policy_folder == folder


NASTY = "a|b\n# title <script>alert(1)</script> [x](y) `z` *w*"


def test_cards_show_names_and_settings_as_they_are(tmp_path):
    text = CardText("What.", "print()", {"title": "T", "id": "1"}, [])
    write_model_card(tmp_path, text, name=NASTY, settings={NASTY: NASTY}, metrics={NASTY: 0.5})
    lines = (tmp_path / "README.md").read_text().splitlines()
    assert not any("<script>" in line.replace("\\<", "") for line in lines)
    assert [line for line in lines if line.startswith("# ")] == [f"# {escape_markdown(NASTY)}"]
    rows = [line for line in lines if line.startswith("| a")]
    assert len(rows) == 2 and all(line.replace("\\|", "").count("|") == 3 for line in rows)


def test_tables_of_an_evaluation_too():
    table = estimates_to_markdown({NASTY: Estimate(0.5, 0.4, 0.6)}, "One row.")
    row = table.splitlines()[-1]
    assert row.replace("\\|", "").count("|") == 4 and "\\<script\\>" in row


@pytest.mark.parametrize("name", ['a"""b', "a\\b", "a'b", 'x"""\nimport os\n"""'])
def test_generated_code_holds_any_folder_name_as_a_plain_string(name, tmp_path):
    folder = tmp_path / name.replace("/", "")
    GenARMCustomGenerate(tiny_causal_lm(), alpha=0.5, policy="me/policy").save_pretrained(folder)
    tree = ast.parse((folder / "custom_generate" / "generate.py").read_text())
    kinds = [type(node).__name__ for node in tree.body]
    assert kinds == ["Expr", "ImportFrom", "Assign", "FunctionDef"]
    assert ast.literal_eval(tree.body[2].value) == str(folder)

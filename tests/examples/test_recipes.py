"""The recipes: one runs at toy size, the command lines of all parse, and their pages show them."""

import re
import runpy
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from cli_files import read_rows
from datasets import Dataset
from trl.scripts import dpo

from examples.recipes import data, duels, run
from hf_reward_ext.cli import main as cli
from hf_reward_ext.cli.rows import load_splits


def execute(words: list[str]) -> None:
    """Run a command in this process, which saves the imports."""
    if words[0] == "hf-reward-ext":
        assert cli.main([*words[1:], "--debug"]) == 0
        return
    assert words[:2] == ["python", "-m"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", words[2:])
        runpy.run_module(words[2], run_name="__main__")


@pytest.mark.filterwarnings("ignore:This judge may be unreliable")
@pytest.mark.filterwarnings("ignore:.*found in sys.modules after import:RuntimeWarning")
@pytest.mark.parametrize(
    "recipe", ["elhsr", *(pytest.param(name, marks=pytest.mark.slow) for name in run.RECIPES if name != "elhsr")]
)
def test_a_recipe_runs_at_toy_size_and_resumes(recipe, tmp_path, monkeypatch, capsys):
    done = []
    monkeypatch.setattr(run, "execute", lambda words: (execute(words), done.append(words)))
    arguments = [recipe, "--smoke", "--output", str(tmp_path)]
    run.main(arguments)
    lines = run.commands(recipe, True, str(tmp_path))
    assert done == lines
    written = [words[words.index("--output") + 1] for words in lines if "--output" in words]
    assert all(Path(path).read_text().strip() for path in written)
    run.main(arguments)
    assert done == lines and capsys.readouterr().out.count("finished: ") == len(lines)


def parse(words: list[str]) -> None:
    """Parse a command line, which raises for unknown options, without running it."""
    if words[0] == "hf-reward-ext":
        {one.__name__.rpartition(".")[2]: one for one in cli.COMMANDS}[words[1]].parse(words[2:])
    elif words[2] == "trl.scripts.dpo":
        dpo.make_parser().parse_args_and_config([*words[3:], "--use_cpu"], fail_with_unknown_args=True)
    else:
        {"examples.recipes.data": data, "examples.recipes.duels": duels}[words[2]].parse(words[3:])


@pytest.mark.parametrize("recipe", run.RECIPES)
def test_every_command_line_parses(recipe, monkeypatch, tmp_path):
    for is_smoke in (True, False):
        for words in run.commands(recipe, is_smoke, str(tmp_path)):
            parse(words)
    with pytest.raises((SystemExit, ValueError)):
        parse([*words, "--no_such_option", "1"])


@pytest.mark.parametrize("recipe", run.RECIPES)
def test_the_page_of_a_recipe_shows_its_commands_and_both_sizes_have_the_same_values(recipe):
    page = (run.FOLDER / recipe / "README.md").read_text()
    (block,) = re.findall(r"^```bash\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    lines = run.commands(recipe, False, f"outputs/recipes/{recipe}")
    assert [shlex.split(line) for line in block.replace("\\\n", " ").splitlines()] == lines
    settings = yaml.safe_load((run.FOLDER / recipe / "recipe.yaml").read_text())
    assert settings["full"].keys() == settings["smoke"].keys()
    assert not re.search(r"\{\w+\}", " ".join(" ".join(words) for words in lines))


def test_values_without_names_and_braces_of_json():
    values = {"out": "o", "verdicts": ["A", "B"], "template": '{"user": "{prompt}"}'}
    assert run._words("x {out}/a {verdicts} {template}", values) == ["x", "o/a", "A", "B", values["template"]]
    with pytest.raises(ValueError, match=r"got \['no'\]. Add their values"):
        run._words("x {no}", values)


def test_duels_are_pairs_of_the_same_prompts_without_ties():
    def rows(*texts, prompt="p"):
        return [{"prompt": prompt, "completion": text} for text in texts]

    pairs, num_ties = duels.duels(rows("a", "b", "c"), rows("a", "x", "y"), ["one", "one", "two"])
    assert num_ties == 1
    assert pairs == [
        {"prompt": "p", "chosen": "b", "rejected": "x", "subset": "one"},
        {"prompt": "p", "chosen": "c", "rejected": "y", "subset": "two"},
    ]
    chat = [{"role": "user", "content": "hi"}]
    for prompt in (chat, "\n\nHuman: hi\n\nAssistant:"):
        (pair,), _ = duels.duels(rows("b", prompt=prompt), rows("x", prompt=prompt))
        assert pair == {"prompt": chat, "chosen": [{"role": "assistant", "content": "b"}],
                        "rejected": [{"role": "assistant", "content": "x"}]}  # fmt: skip
    with pytest.raises(ValueError, match="must be of the same prompts in the same order, got 1 and 2 rows"):
        duels.duels(rows("a"), rows("a", "b"))
    with pytest.raises(ValueError, match="got 1 equal completions"):
        duels.duels(rows("a"), rows("a"))


CHAT = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]
HUB = {
    data.MATH: [{"problem": f"{number}+1?", "expected_answer": str(number + 1)} for number in range(6000)],
    data.CHAT_PAIRS: [{"prompt": "2+2?", "chosen": CHAT, "rejected": [CHAT[0], {"role": "assistant", "content": "5"}]}],
    "HuggingFaceH4/mt_bench_prompts": [{"prompt": ["first", "second"]}],
    "lmarena-ai/arena-hard-auto-v0.1": [{"turns": [{"content": "hard"}]}],
    "json": [{"instruction": "alpaca"}],
}


@pytest.fixture
def offline_hub(monkeypatch):
    """Rows with the columns of the Hub's cards."""
    monkeypatch.setattr(data, "load_dataset", lambda name, **_: Dataset.from_list(HUB[name]))
    data._answers.cache_clear()
    yield
    data._answers.cache_clear()


def test_rows_of_the_hub_are_written(offline_hub, tmp_path, monkeypatch):
    data.main(["math", "--output", str(tmp_path)])
    (first, *_) = read_rows(tmp_path / "test.jsonl")
    assert len(read_rows(tmp_path / "train.jsonl")) == 6000 and first["prompt"][0]["role"] == "user"
    math_verify = SimpleNamespace(parse=lambda text: text[-2], verify=lambda gold, own: gold == own)
    monkeypatch.setitem(sys.modules, "math_verify", math_verify)
    assert data.is_right(data.math_prompt("7+1?"), "\\boxed{8}") is True
    assert data.is_right(data.math_prompt("6+1?"), "\\boxed{8}") is False
    data.main(["chat", "--output", str(tmp_path)])
    rows = [(row["subset"], row["prompt"][0]["content"]) for row in read_rows(tmp_path / "prompts.jsonl")]
    assert rows == [("MT-Bench", "first"), ("Arena-Hard", "hard"), ("AlpacaEval", "alpaca")]
    (pair,) = HUB[data.CHAT_PAIRS]
    assert read_rows(tmp_path / "pairs/train.jsonl") == [{"chosen": pair["chosen"], "rejected": pair["rejected"]}]


def test_judgments_are_written_in_one_format_for_both_splits(offline_hub, tmp_path, monkeypatch):
    monkeypatch.setitem(HUB, data.JUDGE_PAIRS, HUB[data.CHAT_PAIRS] * 42)
    judgment = {"about": "chosen", "first_verdict": "A", "text": " fine", "verdict": "A"}
    monkeypatch.setattr(
        data, "sample_judgments", lambda judge, rows, num_samples: rows.map(lambda _: {"judgments": [judgment]})
    )
    arguments = ["judgments", "--model", "hf_reward_ext/demo-policy", "--num-pairs", "40", "--output", str(tmp_path)]
    data.main(arguments)
    splits = load_splits(str(tmp_path))
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 40, "validation": 2}
    assert splits["train"][0]["judgments"] == [judgment] and splits["validation"][0]["judgments"] == []
    with pytest.raises(SystemExit):
        data.parse(["math", "--model", "m", "--output", "x"])

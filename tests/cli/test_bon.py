import functools
import json

import pytest
import torch
from cli_files import read_rows
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, pipeline, set_seed

from hf_reward_ext.cli import bon, bon_rows
from hf_reward_ext.cli.bon import _by_pattern
from hf_reward_ext.cli.main import main


@pytest.fixture
def arguments(folder):
    return ["bon", "--num_candidates", "4", "--max_new_tokens", "5", "--reward_model", f"{folder}/head"]


@pytest.fixture
def functions(tmp_path, monkeypatch):
    """A module of the user's in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_rewards.py").write_text(
        "def shortest(prompts, completions):\n    return [-len(text) for text in completions]\n"
        "def has_w9(prompt, completion):\n    return 'w9' in completion\n"
        "def first(completion):\n    return (completion.split() or [None])[0]\n"
    )


@pytest.mark.stack
def test_a_head_ranks_candidates_as_the_pipeline_does(arguments, folder, capsys):
    assert main([*arguments, "--prompt", "w3 w5", "--temperature", "1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    policy = AutoModelForCausalLM.from_pretrained(folder / "policy")
    tokenizer = AutoTokenizer.from_pretrained(folder / "policy")
    pipe = pipeline("reward-bon", model=policy, tokenizer=tokenizer, reward_model=str(folder / "head"))
    set_seed(0)
    settings = dict(num_candidates=4, max_new_tokens=5, temperature=1.0, return_all=True, return_full_text=False)
    [candidates] = pipe(["w3 w5"], batch_size=8, **settings)
    [row] = report["rows"]
    assert row["completions"] == [one["generated_text"] for one in candidates]
    assert row["rewards"] == pytest.approx([one["score"] for one in candidates])
    assert report["best_reward"] == pytest.approx(max(row["rewards"]))


def test_rows_for_the_trainers(arguments, folder, tmp_path, capsys):
    arguments += ["--data", f"{folder}/prompts.jsonl", "--max_rows", "5", "--batch_size", "2"]
    rows = {}
    for shape in ("all", "preference", "sft"):
        assert main([*arguments, "--output", f"{tmp_path}/{shape}.jsonl", "--as", shape]) == 0
        rows[shape] = read_rows(tmp_path / f"{shape}.jsonl")
    assert len(rows["all"]) == 5
    assert [(row["prompt"], row["completion"], row["score"]) for row in rows["sft"]] == [
        (row["prompt"], row["completions"][0].strip(), row["rewards"][0]) for row in rows["all"]
    ]
    assert rows["preference"] == [
        {
            "prompt": row["prompt"],
            "chosen": row["completions"][0],
            "rejected": row["completions"][-1],
            "margin": row["rewards"][0] - row["rewards"][-1],
        }
        for row in rows["all"]
        if row["rewards"][0] > row["rewards"][-1]
    ]


def test_a_finished_file_is_left_alone_and_of_others_it_is_refused(arguments, folder, tmp_path, monkeypatch, capsys):
    arguments += ["--data", f"{folder}/prompts.jsonl", "--output", f"{tmp_path}/out.arrow", "--as", "sft"]
    assert main(arguments) == 0
    assert sorted(Dataset.from_file(f"{tmp_path}/out.arrow").column_names) == ["completion", "prompt", "score"]
    monkeypatch.setattr(bon, "_pipeline", lambda options: pytest.fail("there is nothing to do"))
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines() == [f"7 rows in {tmp_path}/out.arrow"] * 2
    assert main([*arguments, "--seed", "1"]) == 1
    assert "was made of other prompts or with other settings" in capsys.readouterr().err
    monkeypatch.undo()
    assert main([*arguments, "--seed", "1", "--overwrite"]) == 0


def test_functions_votes_labels_and_pruning(arguments, folder, functions, tmp_path, capsys):
    base = ["bon", "--num_candidates", "6", "--max_new_tokens", "5", "--prompt", "w3 w5", "--json"]
    by_function = [*base, "--model", f"{folder}/policy", "--reward_model", "my_rewards:shortest"]
    assert main([*by_function, "--label", "my_rewards:has_w9"]) == 0
    report = json.loads(capsys.readouterr().out)
    [row] = report["rows"]
    assert row["rewards"] == [-len(text) for text in row["completions"]]
    assert row["labels"] == [float("w9" in text) for text in row["completions"]]
    assert report["any_label"] == max(row["labels"])
    vote = ["--vote", "majority", "--extract_answer", "my_rewards:first"]
    assert main([*by_function, *vote]) == 0
    [row] = json.loads(capsys.readouterr().out)["rows"]
    counts = {answer: row["answers"].count(answer) for answer in row["answers"]}
    assert counts[row["answers"][0]] == max(counts.values())
    both = [*arguments, "--prompt", "w3 w5", "--second_reward_model", "my_rewards:shortest", "--combine", "max_rank"]
    assert main([*both, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["rewards"][0] <= 1
    assert main([*arguments, "--prompt", "w3 w5", "--prune_at", "1", "2", "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)["rows"]
    assert row["pruned"] == sorted(row["pruned"])
    assert main([*base, "--model", f"{folder}/policy", "--reward_model", "my_rewards:longest"]) == 1
    assert "has no attribute 'longest'. Pass MODULE:FUNCTION" in capsys.readouterr().err


def test_a_rule_decides_how_many_candidates_are_drawn(arguments, folder, functions, capsys):
    adaptive = [*arguments, "--max_candidates", "12", "--data", f"{folder}/prompts.jsonl", "--max_rows", "3", "--json"]
    voting = [*adaptive, "--stop", "beta", "--stop_probability", "0.6", "--vote", "majority"]
    rows = []
    for size in ("1", "3"):
        assert main([*voting, "--extract_answer", "my_rewards:first", "--batch_size", size]) == 0
        report = json.loads(capsys.readouterr().out)
        rows.append([(row["completions"], row["stop_reason"]) for row in report["rows"]])
        counts = [len(row["completions"]) for row in report["rows"]]
        assert report["mean_num_drawn"] == sum(counts) / 3 and all(4 <= count <= 12 for count in counts)
    assert rows[0] == rows[1]
    assert main([*adaptive, "--stop", "expected_improvement", "--price_per_token", "1000"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [len(row["completions"]) for row in report["rows"]] == [4, 4, 4]
    assert main([*adaptive, "--stop", "expected_improvement"]) == 1
    assert "needs the price of a token" in capsys.readouterr().err


def test_as_many_candidates_at_a_time_as_fit(arguments, folder, tmp_path, monkeypatch):
    forward = LlamaForCausalLM.forward

    @functools.wraps(forward)
    def limited(model, input_ids, *args, **kwargs):
        if len(input_ids) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(model, input_ids, *args, **kwargs)

    arguments += ["--data", f"{folder}/prompts.jsonl", "--max_rows", "3", "--temperature", "1"]
    (tmp_path / "two.yaml").write_text("candidates_per_batch: auto\nbatch_size: 2\n")
    assert main([*arguments, "--output", f"{tmp_path}/whole.jsonl", "--candidates_per_batch", "auto"]) == 0
    monkeypatch.setattr(LlamaForCausalLM, "forward", limited)
    assert main([*arguments, "--output", f"{tmp_path}/parts.jsonl", "--config", f"{tmp_path}/two.yaml"]) == 0
    whole, parts = (read_rows(tmp_path / f"{name}.jsonl") for name in ("whole", "parts"))
    assert [sorted(row["completions"]) for row in parts] == [sorted(row["completions"]) for row in whole]


@pytest.mark.parametrize("given", ["2", "auto"])
def test_candidates_at_a_time_from_a_file(given, tmp_path):
    (tmp_path / "given.yaml").write_text(f"candidates_per_batch: {given}\n")
    options, _ = bon.parse(["--reward_model", "r", "--prompt", "a", "--config", f"{tmp_path}/given.yaml"])
    assert options.candidates_per_batch == (2 if given == "2" else "auto")


def test_confidence_of_the_policy_ranks_and_prunes(folder, capsys):
    base = ["bon", "--num_candidates", "4", "--max_new_tokens", "5", "--prompt", "w3 w5", "--json"]
    confident = [*base, "--model", f"{folder}/policy", "--reward_model", "confidence"]
    for more in (
        [],
        ["--confidence_window", "2"],
        ["--second_reward_model", "length"],
        ["--prune_at", "2"],
        ["--resample_at", "2"],
    ):
        assert main([*confident, *more]) == 0
        [row] = json.loads(capsys.readouterr().out)["rows"]
        assert row["rewards"] == sorted(row["rewards"], reverse=True) or "--prune_at" in more
        assert ("pruned" in row) == ("--prune_at" in more)


@pytest.mark.parametrize(
    ("pattern", "text", "answer"), [(r"=(\d+)", "1+1=2;2+1=3", "3"), (r"\d$", "a 4", "4"), (r"\d", "none", None)]
)
def test_answers_by_pattern(pattern, text, answer):
    assert _by_pattern(pattern)(text) == answer


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--prompt", "a"], "--reward_model is missing"),
        (["--reward_model", "r"], "give either --prompt or --data"),
        (["--prompt", "a", "--reward_model", "confidence"], "a training-free reward as --reward_model"),
        (["--prompt", "a", "--reward_model", "r", "--confidence_window", "3"], "goes with --reward_model confidence"),
        (["--prompt", "a", "--reward_model", "r", "--prune_at", "1", "--resample_at", "2"], "exclude each other"),
        (
            ["--prompt", "a", "--reward_model", "r", "--resample_at", "2", "--candidates_per_batch", "2"],
            "--resample_at compares all",
        ),
        (["--prompt", "a", "--reward_model", "r", "--candidates_per_batch", "all"], "must be an integer or auto"),
        (["--prompt", "a", "--reward_model", "r", "--candidates_per_batch", "-1"], "must be an integer or auto"),
        (["--prompt", "a", "--reward_model", "r", "--candidates_per_batch", "0"], "must be an integer of at least 1"),
        (["--prompt", "a", "--reward_model", "r", "--stop", "beta"], "--stop and --max_candidates go together"),
        (["--prompt", "a", "--reward_model", "r", "--max_candidates", "4"], "--stop and --max_candidates go together"),
        (["--prompt", "a", "--reward_model", "r", "--stop", "beta", "--max_candidates", "64"], "--stop beta counts"),
        (["--prompt", "a", "--reward_model", "r", "--stop_probability", "0.9"], "goes with --stop beta"),
        (["--prompt", "a", "--reward_model", "r", "--price_per_token", "1"], "with --stop expected_improvement"),
        (["--prompt", "a", "--reward_model", "r", "--stop", "beta", "--max_candidates", "3"], "swap them"),
        (["--prompt", "a", "--reward_model", "r", "--temperature", "0"], "all candidates the same"),
        (["--prompt", "a", "--reward_model", "r", "--vote", "majority"], "--vote counts answers"),
        (["--prompt", "a", "--reward_model", "r", "--as", "sft"], "--as sft shapes the file"),
        (["--prompt", "a", "--reward_model", "r", "--as", "sft", "--label", "m:f"], "it goes with --as all"),
        (
            ["--prompt", "a", "--reward_model", "r", "--answer_pattern", "x", "--extract_answer", "m:f"],
            "exclude each other",
        ),
    ],
)
def test_a_wrong_command_line_ends_with_two(more, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["bon", *more])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "def label(prompts, completions):\n    return [1] * len(prompts)\n",
            "one prompt and one completion",
        ),
        ("def label(prompt, completion):\n    return {}[-1]\n", "one prompt (text) and one completion (text) that"),
        ("def label(prompt, completion):\n    return 'yes'\n", "raised ValueError: could not convert string"),
    ],
)
def test_a_wrong_label_function_is_explained(source, message, arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    name = f"labels_{len(source)}"
    (tmp_path / f"{name}.py").write_text(source)
    assert main([*arguments, "--prompt", "w3 w5", "--max_new_tokens", "2", "--label", f"{name}:label"]) == 1
    shown = capsys.readouterr().err
    assert "`--label` must be a function of" in shown and message in shown


def test_the_last_line_has_the_means_of_a_file(arguments, functions, tmp_path, capsys):
    line = [*arguments, "--prompt", "w3 w5", "--max_new_tokens", "2", "--label", "my_rewards:has_w9"]
    assert main([*line, "--output", f"{tmp_path}/out.jsonl"]) == 0
    shown = capsys.readouterr().out
    assert f"1 rows in {tmp_path}/out.jsonl; best_reward" in shown and "mean_label" in shown


@pytest.mark.parametrize(
    ("roles", "shown"),
    [(["user"], "m0"), (["system", "user"], "m1"), (["user", "assistant", "user"], "... m2"), (None, "text")],
)
def test_a_prompt_is_shown_in_a_line(roles, shown):
    messages = [{"role": role, "content": f"m{n}"} for n, role in enumerate(roles or [])]
    assert bon_rows.show_prompt(messages or "text") == shown

import json
from types import SimpleNamespace

import pytest
from cli_files import write_rows
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from hf_reward_ext import ELHSRModel, FastSlowRewardModel
from hf_reward_ext.cli import training
from hf_reward_ext.cli.main import main
from hf_reward_ext.sla import RewardTransformer

OFTEN = ["--max_steps", "2", "--report_to", "none", "--disable_tqdm", "true", "--logging_steps", "1"]


def train(method, folder, output, *more):
    common = ["--model_name_or_path", f"{folder}/policy", "--dataset_name", f"{folder}/pairs", "--output_dir", output]
    return main(["train", method, *map(str, common), *OFTEN, *map(str, more)])


@pytest.mark.stack
@pytest.mark.filterwarnings("ignore:This judge may be unreliable")
@pytest.mark.parametrize(
    ("method", "load", "more"),
    [
        ("genarm", AutoModelForCausalLM, ["--beta", "0.3", "--eval_strategy", "steps", "--eval_steps", "1"]),
        ("sla", RewardTransformer, ["--channel-size", "8"]),
        ("elhsr", ELHSRModel, ["--layers", "0", "-1"]),
        ("fast-slow", FastSlowRewardModel, ["--verdicts", "w20", "w21", "--judge_template", "{}"]),
    ],
)
def test_every_method_trains_and_its_model_loads(method, load, more, folder, tmp_path, capsys):
    if method == "fast-slow":
        template = {"user": "{prompt} {response_a} {response_b}", "base_suffix": " w9"}
        template |= {"analysis_prefix": " w10", "final_marker": " w11"}
        (tmp_path / "template.json").write_text(json.dumps(template))
        more = [*more[:-1], tmp_path / "template.json", "--judge_max_new_tokens", "5", "--budget", "0.5"]
    assert train(method, folder, tmp_path / "out", *more, "--json") == 0
    shown = capsys.readouterr()
    report = json.loads(shown.out)
    assert report["train"]["train_loss"] > 0
    assert (report["eval"] is not None) == (method in ("genarm", "elhsr"))
    assert "Saved in" in shown.err and "- hf-reward-ext" in (tmp_path / "out/README.md").read_text()
    model = load.from_pretrained(tmp_path / "out")
    if method == "elhsr":
        assert model.config.layers == [0, 3]
    if method == "sla":
        assert model.reward_channel.config.channel_size == 8
    if method == "fast-slow":
        assert model.config.max_new_tokens == 5
        assert model.config.template["final_marker"] == " w11"
        assert report["calibration"]["escalation_rate"] <= 0.5
        assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").config.calibration is not None


def test_a_file_gives_options_and_the_command_line_wins(folder, tmp_path, capsys):
    config = tmp_path / "genarm.yaml"
    config.write_text(
        f"model_name_or_path: {folder}/policy\ndataset_name: {folder}/pairs\noutput_dir: {tmp_path}/out\n"
        "beta: 0.7\nmax_steps: 5\nuse_peft: true\nlora_r: 2\nlora_target_modules: all-linear\nreport_to: none\n"
    )
    assert main(["train", "genarm", "--config", str(config), "--max_steps", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["train"]["epoch"] < 1
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["r"] == 2


def test_a_training_resumes(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert train("genarm", folder, out, "--save_steps", "1", "--seed", "1") == 0
    assert train("genarm", folder, out, "--max_steps", "3", "--resume_from_checkpoint", "last", "--json") == 0
    assert json.loads((out / "checkpoint-2" / "trainer_state.json").read_text())["global_step"] == 2
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["train"]["epoch"] == 1.5


def test_a_separate_evaluation_file(folder, tmp_path, capsys):
    more = ["--eval_dataset_name", folder / "pairs" / "test.jsonl", "--eval_strategy", "steps", "--eval_steps", "2"]
    arguments = ["--model_name_or_path", folder / "policy", "--dataset_name", folder / "pairs" / "train.jsonl"]
    assert main(["train", "sla", *map(str, [*arguments, "--output_dir", tmp_path, *OFTEN, *more]), "--json"]) == 0
    assert 0 <= json.loads(capsys.readouterr().out)["eval"]["eval_accuracy"] <= 1


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        ("elhsr", ["--learning_rate", "x"], "invalid float value: 'x'"),
        ("elhsr", ["--validation_fraction", "2"], "must be a share in [0, 1), got 2"),
        ("elhsr", [], "--model_name_or_path is missing"),
        ("elhsr", ["--model_name_or_path", "m"], "--dataset_name is missing"),
        ("elhsr", ["--model_name_or_path", "m", "--dataset_name", "d"], "--output_dir is missing"),
        ("elhsr", ["--model_name_or_path", "m", "--dataset_name", "d", "--output_dir", "o", "--use_peft"], "a head"),
        ("sla", ["--model_name_or_path", "m", "--dataset_name", "d", "--output_dir", "o", "--use_peft"], "frozen"),
        ("genarm", ["--config", "no.yaml"], "there is no file 'no.yaml'"),
        (
            "fast-slow",
            ["--model_name_or_path", "m", "--dataset_name", "d", "--output_dir", "o"]
            + ["--budget", "0.1", "--risk", "0.1"],
            "exclude each other",
        ),
    ],
)
def test_a_wrong_command_line_ends_with_two(method, arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["train", method, *arguments])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset_name", "{pairs}", "--dataset_train_split", "dev"], "has ['test', 'train']. Pass one of them"),
        (["--dataset_name", "{rows}"], "columns ['text'], but {chosen, rejected} or"),
        (["--dataset_name", "{rows}x.jsonl"], "there is no file"),
        (["--dataset_name", "{pairs}", "--resume_from_checkpoint", "last"], "must find a checkpoint"),
        (["--dataset_name", "{pairs}", "--resume_from_checkpoint", "no"], "must be a folder, but there is no no"),
        (["--dataset_name", "{pairs}/train.jsonl", "--eval_strategy", "epoch"], "has no split 'test', only ['train']"),
    ],
)
def test_wrong_data_is_reported_before_a_model_is_loaded(arguments, message, folder, tmp_path, capsys):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "a"}\n')
    filled = [argument.format(pairs=folder / "pairs", rows=rows) for argument in arguments]
    model = ["--model_name_or_path", "no/such-model", "--output_dir", str(tmp_path / "out")]
    assert main(["train", "genarm", *model, *filled]) == 1
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown


def test_help_shows_the_methods_own_options_first_and_everything_on_request(capsys):
    shown = {}
    for option in ("--help", "--help_all"):
        with pytest.raises(SystemExit, match="0"):
            main(["train", "sla", option])
        shown[option] = capsys.readouterr().out
    assert shown["--help"].index("--channel_size N") < shown["--help"].index("--learning_rate X")
    for option in ("--dataset_name", "--use_peft", "--lora_r", "--config FILE", "--resume_from_checkpoint"):
        assert option in shown["--help"]
    assert "--adam_beta1" not in shown["--help"] and "--adam_beta1" in shown["--help_all"]
    assert "--channel-size" not in shown["--help"]


def test_debug_shows_the_traceback_of_a_training(folder, tmp_path):
    with pytest.raises(ValueError, match="has no split|have the columns|there is no|must"):
        train("genarm", folder, tmp_path, "--dataset_name", f"{folder}/prompts.jsonl", "--debug")


PROMPT = [{"role": "user", "content": "w3"}]
ANSWERS = {"completions": ["w5", "w6"], "labels": [1, 0]}


@pytest.mark.parametrize(
    ("row", "is_chat"),
    [
        ({"prompt": PROMPT, **ANSWERS}, True),
        ({"prompt": "w3", **ANSWERS}, False),
        ({"prompt": PROMPT, "chosen": "w5", "rejected": "w6"}, True),
        ({"chosen": "w3 w5", "rejected": "w3 w6"}, False),
        ({"chosen": [*PROMPT, {"role": "assistant", "content": "w5"}], "rejected": PROMPT}, True),
        ({"prompt_ids": [3], "completion_ids": [5], "label": 1}, True),
    ],
)
def test_the_form_of_rows_is_that_of_their_prompt(row, is_chat):
    assert training._is_chat([row]) is is_chat


@pytest.mark.parametrize("best", [True, False])
def test_the_last_line_is_about_the_saved_weights(best):
    rows = [{"step": step, "epoch": step / 2, "eval_loss": loss} for step, loss in ((2, 1.5), (4, 2.5))]
    state = SimpleNamespace(log_history=[*rows, {"step": 4, "train_loss": 1.0}], best_global_step=2)
    trainer = SimpleNamespace(state=state, args=SimpleNamespace(load_best_model_at_end=best))
    assert training._last_metrics(trainer) == rows[0 if best else 1]


def test_a_head_of_chats_is_used_with_chats(folder, tmp_path, capsys):
    data = write_rows(tmp_path / "rows.jsonl", [{"prompt": PROMPT, **ANSWERS}] * 4)
    line = ["train", "elhsr", "--model_name_or_path", f"{folder}/policy", "--dataset_name", data, *OFTEN]
    more = ["--validation_fraction", "0", "--eval_strategy", "no", "--load_best_model_at_end", "false"]
    assert main([*line, "--output_dir", f"{tmp_path}/out", *more]) == 0
    shown = capsys.readouterr().err
    assert f"Next: hf-reward-ext bon --reward_model {tmp_path}/out --prompt ... --chat" in shown
    assert "plain text" not in shown

"""Evaluation and data out, on the demo policy and on a folder, at a small size."""

import importlib.util
import json
from pathlib import Path

from huggingface_hub import ModelCard
from tiny import tiny_tokenizer
from transformers import LlamaConfig, LlamaForSequenceClassification

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name, *arguments):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main([str(argument) for argument in arguments])


def test_the_loop_closes(tmp_path, capsys):
    small = ["--num-labels", 60, "--num-prompts", 33, "--num-candidates", 4, "--num-test", 4, "--epochs", 1]
    run("best_of_n_dpo", *small, "--output", tmp_path)
    shown = capsys.readouterr().out
    assert "of 33 prompts, mean margin" in shown and shown.count("gain") == 2
    assert json.loads((tmp_path / "pairs.jsonl.info.json").read_text())["settings"]["seed"] == 0


def test_the_demo_head_is_evaluated(tmp_path, capsys):
    run("evaluate_reward_model", "--num-labels", 60, "--num-test", 12, "--output", tmp_path)
    shown = capsys.readouterr().out
    assert "| best-of-n@8 |" in shown and "| accuracy |" in shown and "calibration error" in shown
    assert {path.name for path in tmp_path.iterdir()} >= {
        "accuracy.png", "best_of_n.png", "reliability.png", "result.json",
    }  # fmt: skip


def test_a_model_of_a_folder_is_evaluated_and_its_card_updated(tmp_path):
    folder, rows = tmp_path / "model", tmp_path / "rows.jsonl"
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_labels=1, pad_token_id=0,
    )  # fmt: skip
    LlamaForSequenceClassification(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    (folder / "README.md").write_text("---\ntags:\n- reward\n---\n\n# A model\n")
    rows.write_text("".join(f'{{"prompt": "w{n}", "chosen": " w{n + 1}", "rejected": " w2"}}\n' for n in range(3, 9)))
    run(
        "evaluate_reward_model", "--model", folder, "--data", rows, "--add-to-card", "--output", tmp_path / "out"
    )  # fmt: skip
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    card = ModelCard.load(folder / "README.md")
    assert [one.metric_name for one in card.data.eval_results] == ["accuracy"]
    assert card.data.eval_results[0].metric_value == round(result["estimates"]["accuracy"]["value"], 6)

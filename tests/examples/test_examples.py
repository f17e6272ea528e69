"""The examples run on the demo policy, at a small size."""

import importlib.util
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def main_of(name: str):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def test_a_head_is_trained_and_used(tmp_path, capsys):
    head = str(tmp_path / "head")
    main_of("elhsr_train")(["--output", head, "--num-samples", "160", "--epochs", "2"])
    main_of("elhsr_pipeline")(["--head", head, "--num-candidates", "4"])
    shown = capsys.readouterr().out
    assert "probability" in shown and shown.count("tokens in all") == 2


def test_any_policy_is_trained_on_given_rows(tmp_path, capsys):
    from tiny import tiny_causal_lm, tiny_tokenizer

    policy, rows = tmp_path / "policy", tmp_path / "rows.jsonl"
    tiny_causal_lm().save_pretrained(policy)
    tiny_tokenizer().save_pretrained(policy)
    rows.write_text(
        "".join(f'{{"prompt": "w{n} w5", "completions": [" w6 w7", " w8"], "labels": [1, 0]}}\n' for n in range(3, 13))
    )
    head = str(tmp_path / "head")
    main_of("elhsr_train")(["--policy", str(policy), "--data", str(rows), "--output", head, "--epochs", "1"])
    main_of("elhsr_pipeline")(
        ["--policy", str(policy), "--head", head, "--prompt", "w4 w5", "--num-candidates", "4", "--prune-at", "2"]
    )
    assert "tokens in all" in capsys.readouterr().out


def test_examples_are_short():
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text().splitlines()) < 80, path.name

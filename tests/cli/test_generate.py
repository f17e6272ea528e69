import json

import pytest
from peft import LoraConfig, get_peft_model
from tiny import tiny_causal_lm, tiny_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_reward_ext import GenARMLogitsProcessor
from hf_reward_ext.cli import generate, models
from hf_reward_ext.cli.main import main
from hf_reward_ext.sla import RewardTransformer, sla_generate

PROMPTS = ["w3 w5", "w4 w5 w6"]


def generated(capsys, *arguments):
    """Rows and exit code of a run without an output file."""
    assert main(["generate", *map(str, arguments), "--max_new_tokens", "6", "--json"]) == 0
    return [row["completion"] for row in json.loads(capsys.readouterr().out)["rows"]]


def expected(model, folder, **settings):
    tokenizer = AutoTokenizer.from_pretrained(folder / "policy", padding_side="left")
    inputs = tokenizer(PROMPTS, return_tensors="pt", padding=True, return_token_type_ids=False)
    ids = model.generate(**inputs, max_new_tokens=6, **settings)[:, inputs["input_ids"].shape[1] :]
    return tokenizer.batch_decode(ids, skip_special_tokens=True)


@pytest.fixture
def policy(folder):
    return AutoModelForCausalLM.from_pretrained(folder / "policy")


def test_a_plain_policy(folder, policy, capsys):
    texts = generated(capsys, "--model", folder / "policy", "--prompt", *PROMPTS, "--temperature", 0)
    assert texts == expected(policy, folder, do_sample=False)


@pytest.mark.stack
def test_a_guided_policy(folder, policy, tmp_path, capsys):
    guide = tiny_causal_lm(seed=1)
    guide.save_pretrained(tmp_path / "guide")
    tiny_tokenizer().save_pretrained(tmp_path / "guide")
    arguments = ["--model", folder / "policy", "--prompt", *PROMPTS, "--temperature", 0]
    texts = generated(capsys, *arguments, "--guide", tmp_path / "guide", tmp_path / "guide", "--alpha", 0.5, 1)
    processor = GenARMLogitsProcessor([guide, guide], alpha=[0.5, 1.0])
    assert texts == expected(policy, folder, do_sample=False, logits_processor=[processor])
    assert texts != expected(policy, folder, do_sample=False)


def test_adapters_guide_on_one_copy_of_the_weights(folder, policy, tmp_path, capsys, monkeypatch):
    config = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=2, init_lora_weights=False)
    adapted = get_peft_model(policy, config)
    adapted.save_pretrained(tmp_path / "arm")
    plain, loaded = models.load_causal_lm, []
    monkeypatch.setattr(models, "load_causal_lm", lambda name, **kwargs: loaded.append(name) or plain(name, **kwargs))
    arguments = ["--prompt", *PROMPTS, "--temperature", 0, "--guide", tmp_path / "arm"]
    texts = generated(capsys, *arguments)  # the policy is the adapter's base
    processor = GenARMLogitsProcessor(adapted, alpha=1.0)
    base = AutoModelForCausalLM.from_pretrained(folder / "policy")
    assert texts == expected(base, folder, do_sample=False, logits_processor=[processor])
    assert loaded == [str(folder / "policy")]


@pytest.mark.stack
def test_search_on_a_channel(folder, policy, tmp_path, capsys):
    rt = RewardTransformer.from_base(policy, channel_size=8)
    rt.save_pretrained(tmp_path / "channel")
    arguments = ["--channel", tmp_path / "channel", "--prompt", *PROMPTS, "--width", 2, "--step", 2, "--depth", 1]
    texts = generated(capsys, *arguments)
    assert texts == expected(rt, folder, custom_generate=sla_generate, width=2, step=2, depth=1)


def test_an_interrupted_run_ends_like_one_that_was_not(folder, tmp_path, monkeypatch, capsys):
    arguments = ["generate", "--model", f"{folder}/policy", "--data", f"{folder}/prompts.jsonl", "--batch_size", "2"]
    arguments += ["--max_new_tokens", "4", "--temperature", "1", "--num_return_sequences", "2"]
    assert main([*arguments, "--output", str(tmp_path / "whole.jsonl")]) == 0
    plain, calls = generate._continue, []

    def interrupt(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return plain(*args)

    monkeypatch.setattr(generate, "_continue", interrupt)
    output = tmp_path / "stopped.jsonl"
    assert main([*arguments, "--output", str(output)]) == 1
    assert not output.exists()
    assert main([*arguments, "--output", str(output)]) == 0
    assert len(calls) == 5  # 2 batches, the interrupted one, and the 2 that were left
    assert output.read_text() == (tmp_path / "whole.jsonl").read_text()
    row = json.loads(output.read_text().splitlines()[0])
    assert len(row["completions"]) == len(row["num_tokens"]) == 2


def test_messages_go_through_the_template(folder, policy, capsys):
    texts = generated(capsys, "--model", folder / "policy", "--prompt", "w3", "--chat", "--temperature", 0)
    tokenizer = AutoTokenizer.from_pretrained(folder / "policy")
    prompt = [{"role": "user", "content": "w3"}]
    ids = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    out = policy.generate(**ids, max_new_tokens=6, do_sample=False)[0, ids["input_ids"].shape[1] :]
    assert texts == [tokenizer.decode(out, skip_special_tokens=True)]


def test_weights_are_compared_from_the_same_random_numbers(folder, policy, tmp_path, capsys, monkeypatch):
    guide = tiny_causal_lm(seed=1)
    guide.save_pretrained(tmp_path / "guide")
    tiny_tokenizer().save_pretrained(tmp_path / "guide")
    monkeypatch.chdir(tmp_path)  # functions are also read from the working directory
    (tmp_path / "counted_tokens.py").write_text(
        "def count(prompts, completions): return [len(text) for text in completions]"
    )
    common = ["--model", folder / "policy", "--guide", tmp_path / "guide", "--prompt", *PROMPTS, "--temperature", 1]
    common = ["generate", *map(str, common), "--max_new_tokens", "6", "--json", "--html", f"{tmp_path}/page.html"]
    assert main([*common, "--alpha_sweep", "0", "1", "--reward_model", "counted_tokens:count"]) == 0
    report = json.loads(capsys.readouterr().out)
    page = (tmp_path / "page.html").read_text()
    assert "alpha 1" in page and "divergence 0.00 nats" in page
    alone = [*common[:3], *common[5:]]
    for number, alpha in enumerate((0, 1)):
        assert main([*common, "--alpha", str(alpha)]) == 0
        rows = json.loads(capsys.readouterr().out)["rows"]
        assert [row["completion"] for row in rows] == [row["completions"][number] for row in report["rows"]]
        assert [row["traces"][0]["values"] for row in rows] == [
            row["traces"][number]["values"] for row in report["rows"]
        ]
    assert main(alone) == 0
    plain = [row["completion"] for row in json.loads(capsys.readouterr().out)["rows"]]
    assert plain == [row["completions"][0] for row in report["rows"]]
    assert report["kl_alpha_0"] == pytest.approx(0, abs=1e-5) and report["kl_alpha_1"] > 0
    lengths = [len(row["completions"][1]) for row in report["rows"]]
    assert report["reward_alpha_1"] == sum(lengths) / 2 == sum(row["rewards"][1] for row in report["rows"]) / 2


def test_a_system_message_and_variables_reach_the_template(folder, policy, tmp_path, capsys):
    tokenizer = AutoTokenizer.from_pretrained(folder / "policy")
    tokenizer.chat_template = "{{ mood }} w9 {% for m in messages %}{{ m.content }} {% endfor %}"
    tokenizer.save_pretrained(tmp_path / "model")
    policy.save_pretrained(tmp_path / "model")
    more = ["--prompt", "w3", "--chat", "--system", "w4 w5", "--temperature", 0]
    texts = generated(capsys, "--model", tmp_path / "model", *more, "--chat_template_kwargs", "mood=w7")
    ids = tokenizer("w7 w9 w4 w5 w3 ", return_tensors="pt", add_special_tokens=False, return_token_type_ids=False)
    out = policy.generate(**ids, max_new_tokens=6, do_sample=False)[0, ids["input_ids"].shape[1] :]
    assert texts == [tokenizer.decode(out, skip_special_tokens=True)]
    command = ["generate", "--model", str(tmp_path / "model"), "--prompt", "w3", "--chat"]
    assert main([*command, "--chat_template_kwargs", "tone=1"]) == 1
    assert "variables of the chat template, which does not use 'tone'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt", "a", "--model", "m", "--alpha_sweep", "0", "1"], "--alpha_sweep gives the weight of every"),
        (["--prompt", "a", "--guide", "g", "--alpha_sweep", "0", "1", "--alpha", "1"], "leave --alpha out"),
        (["--prompt", "a", "--guide", "g", "--alpha_sweep", "1"], "two or more different weights, got [1.0]"),
        (["--prompt", "a", "--guide", "g", "--alpha_sweep", "0", "1", "1"], "remove the repetition"),
        (
            ["--prompt", "a", "--guide", "g", "--alpha_sweep", "0", "1", "--num_return_sequences", "2"],
            "leave --num_return_sequences out",
        ),
        (
            ["--prompt", "a", "--guide", "g", "--alpha_sweep", "0", "1", "--reward_model", "confidence"],
            "--reward_model confidence reads a running generate",
        ),
        (["--prompt", "a", "--guide", "g", "--reward_model", "m"], "--reward_model scores the completions of"),
        (["--prompt", "a", "--model", "m", "--system", "b"], "--system goes with chats; add --chat"),
        (["--prompt", "a", "--model", "m", "--chat_template_kwargs", "b"], "must be different NAME=VALUE, got 'b'"),
        (["--prompt", "a", "--model", "m", "--chat_template_kwargs", "b=[1]"], "true or false, got 'b=[1]'"),
        (["--model", "m"], "give either --prompt or --data"),
        (["--prompt", "a"], "--model is missing"),
        (["--prompt", "a", "--guide", "g", "--channel", "c"], "exclude each other"),
        (["--prompt", "a", "--model", "m", "--alpha", "1"], "--alpha weighs guides"),
        (["--prompt", "a", "--guide", "g", "h", "i", "--alpha", "1", "2"], "2 values for 3 guides"),
        (["--prompt", "a", "--channel", "c", "--temperature", "1"], "deterministic"),
        (
            ["--prompt", "a", "--model", "m", "--batch_size", "0"],
            "`--batch_size` must be an integer of at least 1, got 0",
        ),
    ],
)
def test_a_wrong_command_line_ends_with_two(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["generate", *arguments])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "{folder}/pairs", "--prompt", "a"], "but it has no config.json or adapter_config.json"),
        (["--model", "m", "--data", "{folder}/pairs", "--prompt_column", "question"], "but {{question}} is needed"),
        (["--guide", "{folder}/policy", "--prompt", "a"], "has no name of the model it was trained on"),
    ],
)
def test_an_error_is_printed_in_one_line(arguments, message, folder, capsys):
    assert main(["generate", *(argument.format(folder=folder) for argument in arguments)]) == 1
    error = capsys.readouterr().err.splitlines()
    assert message.format() in error[-1]

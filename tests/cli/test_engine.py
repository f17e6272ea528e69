"""`bon --engine`: candidates of a server, with the guarantees of every output file."""

import json

import fake_vllm
import pytest
from api_server import ApiServer
from cli_files import read_rows, write_rows
from tiny import tiny_causal_lm, tiny_tokenizer

from hf_reward_ext.cli import bon
from hf_reward_ext.cli.main import main

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "engine_rewards.py").write_text(
        "def variety(prompts, completions):\n"
        "    texts = [one if isinstance(one, str) else one[-1]['content'] for one in completions]\n"
        "    return [float(len(set(text.split()))) for text in texts]\n"
    )
    data = write_rows(tmp_path / "prompts.jsonl", [{"prompt": f"w{number} w5"} for number in range(7)])
    return ["bon", "--served_model", "tiny", "--reward_model", "engine_rewards:variety", "--num_candidates", "4",
            "--data", data, "--batch_size", "2", "--max_new_tokens", "5"]  # fmt: skip


def bon_at(server, arguments, *more):
    return main([*arguments, "--engine", server.url, *more])


@pytest.mark.parametrize("form", [[], ["--chat"]], ids=["text", "chat"])
def test_rows_of_a_server(arguments, form, tmp_path):
    with ApiServer() as server:
        assert bon_at(server, arguments, *form, "--output", "rows.jsonl") == 0
        assert len(server.requests) == 7 and {body["n"] for body in server.requests} == {4}
        assert bon_at(server, arguments, *form, "--output", "rows.jsonl") == 0  # finished: nothing is asked
        assert len(server.requests) == 7
    rows = read_rows(tmp_path / "rows.jsonl")
    assert [len(row["completions"]) for row in rows] == [4] * 7
    assert all(row["rewards"] == sorted(row["rewards"], reverse=True) for row in rows)
    assert all(len(text.split()) == count for row in rows
               for text, count in zip(row["completions"], row["num_tokens"], strict=True))  # fmt: skip


def test_rows_do_not_depend_on_batches_and_connections(arguments, tmp_path):
    with ApiServer() as server:
        assert bon_at(server, arguments, "--output", "rows.jsonl") == 0
        more = ["--output", "others.jsonl", "--batch_size", "5", "--concurrency", "1", "--request_timeout", "9"]
        assert bon_at(server, arguments, *more) == 0
    assert (tmp_path / "rows.jsonl").read_bytes() == (tmp_path / "others.jsonl").read_bytes()


@pytest.mark.parametrize("shape", ["all", "preference", "sft"])
def test_after_a_server_died_another_one_gives_the_same_file(arguments, shape, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("hf_reward_ext.engines.connection.Session._longest_delay", lambda *_: 0.0)
    arguments += ["--as", shape, "--concurrency", "1"]
    with ApiServer() as server:
        assert bon_at(server, arguments, "--output", "whole.jsonl") == 0
    with ApiServer([None] * 5 + ["dropped connection"] * 90) as server:  # dies at the sixth prompt
        assert bon_at(server, arguments, "--output", "rows.jsonl") == 1
    assert "resumes" in capsys.readouterr().err and not (tmp_path / "rows.jsonl").exists()
    with ApiServer() as server:
        assert bon_at(server, arguments, "--output", "rows.jsonl") == 0
        assert len(server.requests) == 3  # of two prompts each, two parts are complete
    assert (tmp_path / "rows.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_after_an_interrupt_the_same_file(arguments, tmp_path, monkeypatch):
    with ApiServer() as server:
        assert bon_at(server, arguments, "--output", "whole.jsonl") == 0
        import engine_rewards

        variety, calls = engine_rewards.variety, []

        def interrupted(prompts, completions):
            calls.append(prompts)
            if len(calls) == 4:
                raise KeyboardInterrupt
            return variety(prompts, completions)

        monkeypatch.setattr(engine_rewards, "variety", interrupted)
        assert bon_at(server, arguments, "--output", "rows.jsonl") == 1
        assert bon_at(server, arguments, "--output", "rows.jsonl") == 0
    assert (tmp_path / "rows.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_another_served_model_does_not_complete_a_file(arguments, capsys):
    arguments += ["--output", "rows.jsonl"]
    with ApiServer() as server:
        assert bon_at(server, arguments) == 0
        assert bon_at(server, [one if one != "tiny" else "other" for one in arguments]) == 1
    assert "other settings" in capsys.readouterr().err


def test_a_refusal_of_the_server_is_the_message(arguments, capsys):
    with ApiServer(refused={"top_k"}) as server:
        assert bon_at(server, arguments, "--top_k", "3") == 1
    assert "422" in (error := capsys.readouterr().err) and "'top_k'" in error and server.url in error


@pytest.mark.parametrize("reward", ["mean_log_probability", "length"])
def test_rewards_from_the_numbers_of_the_server(arguments, reward, capsys):
    arguments[arguments.index("engine_rewards:variety")] = reward
    with ApiServer() as server:
        assert bon_at(server, arguments, "--json") == 0
    for row in json.loads(capsys.readouterr().out)["rows"]:
        assert row["rewards"] == pytest.approx(
            row["num_tokens"] if reward == "length" else [-0.5 - (count - 1) / 16 for count in row["num_tokens"]]
        )


def test_a_head_reads_the_texts_of_a_server(arguments, folder, capsys):
    arguments[arguments.index("engine_rewards:variety")] = f"{folder}/head"
    with ApiServer() as server:
        assert bon_at(server, arguments, "--json") == 0
    assert all(len(set(row["rewards"])) > 1 for row in json.loads(capsys.readouterr().out)["rows"])


def test_continuous_batching(folder, capsys):
    arguments = ["bon", "--engine", "continuous_batching", "--reward_model", "mean_log_probability", "--model",
                 f"{folder}/policy", "--prompt", "w3 w5", "w4", "--num_candidates", "3",
                 "--max_new_tokens", "4"]  # fmt: skip
    assert main([*arguments, "--json"]) == 0
    assert [len(row["rewards"]) for row in json.loads(capsys.readouterr().out)["rows"]] == [3, 3]


def test_a_head_reads_the_states_of_vllm(folder, monkeypatch, capsys):
    asked = []

    def llm(**arguments):
        asked.append(arguments)
        return fake_vllm.FakeStateLLM(tiny_tokenizer(), tiny_causal_lm().config, arguments)

    fake_vllm.install(monkeypatch, LLM=llm)
    monkeypatch.setattr("hf_reward_ext.engines.vllm_states.load_final_norm", lambda *_, dtype: lambda states: states)
    arguments = ["bon", "--engine", "vllm", "--reward_model", f"{folder}/head", "--prompt", "w3", "--num_candidates",
                 "3", "--max_new_tokens", "4"]  # fmt: skip
    assert main(arguments) == 0
    assert asked[0]["model"] == f"{folder}/policy" and "speculative_config" in asked[0]
    assert main([*arguments, "--vllm_arguments", '{"speculative_config": {}}']) == 1
    assert "must not contain 'speculative_config'" in capsys.readouterr().err


@pytest.mark.parametrize(("message", "options"), [
    ("--engine is transformers, continuous_batching, vllm, MODULE:FUNCTION, or an address", "--engine sglang"),
    ("--served_model goes with the address", "--engine vllm --model b --served_model a"),
    ("--model is missing", "--engine vllm"),
    ("--prune_at goes with --engine transformers", "--engine vllm --model b --prune_at 4"),
    ("self_certainty reads all probabilities", "--engine vllm --model b --reward_model self_certainty"),
    ("--vllm_arguments goes with --engine vllm", "--model b --vllm_arguments {}"),
    ("--vllm_arguments is no JSON", "--engine vllm --model b --vllm_arguments max_model_len=9"),
    ("--vllm_arguments is an object", "--engine vllm --model b --vllm_arguments [9]"),
    ("--vllm_arguments contains 'dtype'", """--engine vllm --model b --vllm_arguments {"dtype":"float32"}"""),
    ("--served_model is missing", "--engine http://127.0.0.1:1/v1"),
    ("--model is a policy in this process", "--engine http://127.0.0.1:1/v1 --served_model a --model b"),
    ("--served_model goes with the address", "--served_model a --model b"),
    ("--concurrency goes with the address", "--engine continuous_batching --model b --concurrency 3"),
    ("--request_timeout goes with the address", "--model b --request_timeout 3"),
    ("--prune_at goes with --engine transformers", "--engine http://h/v1 --served_model a --prune_at 4"),
    ("--resample_at goes with --engine transformers", "--engine http://h/v1 --served_model a --resample_at 4"),
    ("confidence reads many probabilities", "--engine http://h/v1 --served_model a --reward_model confidence"),
    ("length as --second_reward_model", "--engine http://h/v1 --served_model a --second_reward_model length"),
    ("needs --price_per_token", "--engine http://h/v1 --served_model a --stop expected_improvement "
                                "--max_candidates 20"),
    ("`--concurrency` must be", "--engine http://h/v1 --served_model a --concurrency 0"),
])  # fmt: skip
def test_options_that_do_not_go_together(message, options, capsys):
    with pytest.raises(SystemExit, match="2"):
        bon.parse(["--reward_model", "engine_rewards:variety", "--prompt", "a", *options.split()])
    assert message in capsys.readouterr().err

"""`serve`, and the address of a server as a reward model of other commands."""

import json
import queue
import socket
import threading
from types import SimpleNamespace

import pytest
from cli_files import read_rows

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

import hf_reward_ext.serving  # noqa: E402
from hf_reward_ext.cli import serve  # noqa: E402
from hf_reward_ext.cli.main import main  # noqa: E402
from hf_reward_ext.cli.models import load_scorer  # noqa: E402
from hf_reward_ext.engines import RemoteReward  # noqa: E402
from hf_reward_ext.serving import RewardServer  # noqa: E402

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])


def test_a_head_is_served_until_the_server_is_stopped(folder, monkeypatch, capsys):
    started = queue.Queue()

    class Started(RewardServer):
        def run(self):
            started.put(self)
            super().run()

    monkeypatch.setattr(hf_reward_ext.serving, "RewardServer", Started)
    codes = []
    arguments = ["serve", "--scorer", f"{folder}/head", "--port", "0"]
    thread = threading.Thread(target=lambda: codes.append(main(arguments)))
    thread.start()
    server = started.get(timeout=60)
    found = RemoteReward(server.url)(["w3 w5 ", "w4 "], ["w6", "w7 w8"])
    server.__exit__()
    thread.join(60)
    assert codes == [0] and f"Serving {folder}/head at {server.url}" in capsys.readouterr().err
    options, _ = serve.parse(["--scorer", f"{folder}/head"])
    expected = load_scorer(f"{folder}/head", "--scorer", options, 16)(["w3 w5 ", "w4 "], ["w6", "w7 w8"])
    assert found == pytest.approx(expected, abs=1e-5)


def test_an_interrupt_ends_the_command_without_an_error(folder, monkeypatch, capsys):
    def interrupted(server, sockets):
        raise KeyboardInterrupt

    monkeypatch.setattr("uvicorn.Server.run", interrupted)
    assert main(["serve", "--scorer", f"{folder}/head", "--port", "0"]) == 0
    assert "interrupted" not in capsys.readouterr().err


def longest(prompts, completions):
    return [float(len(text)) for text in completions]


def test_a_server_ranks_candidates_and_pairs(folder, tmp_path, capsys):
    with RewardServer(longest, port=0) as server:
        output = ["--output", f"{tmp_path}/rows.jsonl"]
        arguments = ["bon", "--model", f"{folder}/policy", "--reward_model", server.url, "--prompt", "w3 w5", "w4"]
        assert main([*arguments, "--num_candidates", "3", "--max_new_tokens", "4", *output]) == 0
        capsys.readouterr()
        pairs = ["evaluate", "--scorer", server.url, "--data", f"{folder}/pairs"]
        assert main([*pairs, "--json"]) == 0
    for row in read_rows(tmp_path / "rows.jsonl"):
        assert row["rewards"] == [float(len(text)) for text in row["completions"]]
    report = json.loads(capsys.readouterr().out)
    assert report["num_rows"] == 12 and report["scorer"] == server.url


@pytest.mark.parametrize(("message", "options"), [
    ("--scorer is missing", ""),
    ("confidence reads a running policy", "--scorer confidence"),
    ("`--port` must be", "--scorer a --port 70000"),
    ("`--max_rows` must be", "--scorer a --max_rows 0"),
    ("--max_waiting_rows is lower", "--scorer a --max_waiting_rows 5"),
])  # fmt: skip
def test_options_that_do_not_go_together(message, options, capsys):
    with pytest.raises(SystemExit, match="2"):
        serve.parse(options.split())
    assert message in capsys.readouterr().err


def test_a_port_that_is_taken_is_refused_before_a_model_is_loaded(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--scorer", "missing", "--port", str(port)]) == 1
    assert f"must listen at 127.0.0.1:{port}" in capsys.readouterr().err


@pytest.mark.parametrize(("message", "options"), [
    ("no folder of that name", "--scorer missing --port 0"),
    ("`host` must be a loopback address", "--scorer missing --host 0.0.0.0"),
])  # fmt: skip
def test_mistakes_before_a_model_is_loaded(message, options, capsys):
    assert main(["serve", *options.split()]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("reads", [True, False])
def test_the_form_of_requests_is_named(reads, caplog):
    with caplog.at_level("INFO", "hf_reward_ext.cli.serve"):
        serve._note_form(SimpleNamespace(reads_messages=reads))
    assert ("Requests with text are scored as plain text" in caplog.text) == reads

"""The real vLLM as the engine: `make test-vllm VLLM=path/to/vllm MODEL=folder`, in an environment of its own."""

import os
import signal
import socket
import subprocess
import time

import pytest
import torch
from cli_files import read_rows, write_rows
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_reward_ext.base.scoring.scorer import as_scorer
from hf_reward_ext.cli.main import main
from hf_reward_ext.confidence import LogitsRewardModel
from hf_reward_ext.engines import Sampling, ServerGenerator

httpx2 = pytest.importorskip("httpx2")

VLLM, MODEL = os.environ.get("VLLM"), os.environ.get("VLLM_MODEL")
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.allow_hosts(["127.0.0.1"]),
    pytest.mark.skipif(not (VLLM and MODEL), reason="VLLM and VLLM_MODEL are not set"),
]
TEXT = ["The capital of France is", "One, two, three,"]
CHATS = [[{"role": "user", "content": "Name three colors."}], [{"role": "user", "content": "What is 7 times 8?"}]]


class Server:
    """`vllm serve` on a free port, until it is killed."""

    def __init__(self, log):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        environment = {
            **os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1", "PYTHONPATH": "",
        }  # fmt: skip
        command = [VLLM, "serve", MODEL, "--served-model-name", "smol", "--host", "127.0.0.1", "--port", str(self.port),
                   "--dtype", "float32", "--max-model-len", "512", "--max-num-batched-tokens", "4096",
                   "--enforce-eager"]  # fmt: skip
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        for _ in range(600):
            try:
                if httpx2.get(f"http://127.0.0.1:{self.port}/health").status_code == 200:
                    return
            except httpx2.TransportError:
                assert self.process.poll() is None, "the server ended; see its log"
            time.sleep(1)
        raise TimeoutError("the server does not answer")

    def kill(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    with open(tmp_path_factory.mktemp("vllm") / "server.log", "wb") as file:
        yield file


@pytest.fixture(scope="module")
def server(log):
    server = Server(log)
    yield server
    server.kill()


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32), AutoTokenizer.from_pretrained(MODEL)


@pytest.mark.parametrize("prompts", [TEXT, CHATS], ids=["text", "chat"])
def test_candidates_are_those_of_their_seed_with_ids_and_log_probabilities(server, model, prompts):
    engine = ServerGenerator(server.url, "smol", token_ids=True)
    sampling = Sampling(max_new_tokens=12, temperature=0.8, seed=1)
    groups = engine.generate(prompts, 4, sampling)
    again = engine.generate(prompts, 4, sampling)
    assert [[one.text for one in group] for group in again] == [[one.text for one in group] for group in groups]
    policy, tokenizer = model
    for prompt, group in zip(prompts, groups, strict=True):
        assert len({one.text for one in group}) > 1
        if isinstance(prompt, str):
            begin = tokenizer(prompt)["input_ids"]
        else:
            begin = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
        for one in group:
            assert one.text == tokenizer.decode(one.token_ids, skip_special_tokens=True)
            assert one.num_tokens == len(one.token_ids) == len(one.log_probabilities) <= 12
            with torch.no_grad():
                scored = policy(torch.tensor([[*begin, *one.token_ids]])).logits[0].log_softmax(-1)
            expected = [float(scored[len(begin) + place - 1, token]) for place, token in enumerate(one.token_ids)]
            assert one.log_probabilities == pytest.approx(expected, abs=1e-3)


def test_a_reward_from_the_log_probabilities_of_the_server(server, model, tmp_path):
    data = write_rows(tmp_path / "prompts.jsonl", [{"prompt": text} for text in TEXT])
    arguments = ["bon", "--engine", server.url, "--served_model", "smol", "--reward_model", "mean_log_probability",
                 "--data", data, "--num_candidates", "4", "--max_new_tokens", "8"]  # fmt: skip
    assert main([*arguments, "--output", f"{tmp_path}/rows.jsonl"]) == 0
    policy, tokenizer = model
    generator = ServerGenerator(server.url, "smol")
    reward = as_scorer(LogitsRewardModel(policy, "mean_log_probability"), tokenizer)
    for row in read_rows(tmp_path / "rows.jsonl"):
        [group] = generator.generate([row["prompt"]], 4, Sampling(max_new_tokens=8))
        ended = {one.text for one in group if one.num_tokens < 8}  # the scorer ends every text with EOS
        for text, value in zip(row["completions"], row["rewards"], strict=True):
            if text in ended:
                assert value == pytest.approx(reward([row["prompt"]], [text])[0], abs=1e-2)


def test_what_the_server_refuses_is_the_message(server):
    with pytest.raises(RuntimeError, match="404: .*does not exist"):
        ServerGenerator(server.url, "other").generate(TEXT[:1], 1, Sampling())
    with pytest.raises(RuntimeError, match="400: .*context length"):
        ServerGenerator(server.url, "smol").generate(["a " * 2000], 1, Sampling())


def test_a_killed_server_and_its_successor_write_the_file_of_one(server, log, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vllm_rewards.py").write_text(
        "killed = []\n"
        "def shortest(prompts, completions):\n"
        "    if killed: killed.pop()()\n"
        "    return [-len(text) for text in completions]\n"
    )
    data = write_rows(
        tmp_path / "prompts.jsonl", [{"prompt": f"{text} {number}"} for number in (1, 2) for text in TEXT]
    )
    arguments = ["bon", "--served_model", "smol", "--reward_model", "vllm_rewards:shortest", "--data", data,
                 "--num_candidates", "4", "--max_new_tokens", "8", "--batch_size", "1"]  # fmt: skip
    assert main([*arguments, "--engine", server.url, "--output", "whole.jsonl"]) == 0
    import vllm_rewards

    monkeypatch.setattr("hf_reward_ext.engines.connection.Session._longest_delay", lambda *_: 0.0)
    other = Server(log)
    vllm_rewards.killed.append(other.kill)
    assert main([*arguments, "--engine", other.url, "--output", "rows.jsonl"]) == 1
    assert not (tmp_path / "rows.jsonl").exists()
    assert main([*arguments, "--engine", server.url, "--output", "rows.jsonl"]) == 0
    assert (tmp_path / "rows.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()

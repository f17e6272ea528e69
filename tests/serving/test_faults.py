"""Faults of clients and of the scorer, each while another request waits, which loses nothing."""

import http.client
import json
import multiprocessing
import os
import signal
import socket
import struct
import threading

import pytest

httpx2 = pytest.importorskip("httpx2")
pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from hf_reward_ext.engines import RemoteReward  # noqa: E402
from hf_reward_ext.serving import Limits, RewardServer  # noqa: E402

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

ROW = {"prompts": ["a"], "completions": ["bcd"]}
TEN_MB = 10 * 2**20


class Scorer:
    """Lengths of texts, after a gate is opened; a text may also end the thread that scores."""

    def __init__(self):
        self.opened, self.entered = threading.Event(), threading.Event()

    def __call__(self, prompts, completions):
        self.entered.set()
        assert self.opened.wait(20)
        for text, error in (("exit", SystemExit(3)), ("interrupt", KeyboardInterrupt()), ("stop", StopIteration())):
            if text in completions:
                raise error
        return [float(len(text)) for text in completions]


@pytest.fixture
def scorer():
    return Scorer()


@pytest.fixture
def server(scorer, request):
    is_slow = request.node.name.endswith("[slow]")
    limits = Limits(max_rows=2048, body_seconds=0.1 if is_slow else 30.0)
    with RewardServer(scorer, port=0, limits=limits) as server:
        yield server
        scorer.opened.set()


def post_of(body: bytes, length: int | None = None, headers: str = "") -> bytes:
    """A request with the given length of its body, as bytes."""
    count = len(body) if length is None else length
    head = f"POST /v1/rewards HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {count}\r\n"
    return f"{head}{headers}\r\n".encode() + body


def of_texts(count: int, size: int) -> bytes:
    return json.dumps({"prompts": ["a"] * count, "completions": ["b" * size] * count}).encode()


def chunked(body: bytes) -> bytes:
    head = b"POST /v1/rewards HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"


GOOD = json.dumps(ROW).encode()
# What a client sends, whether it then waits, closes the connection or resets it, and the status of its answer.
FAULTS = {
    "no JSON": (post_of(b"{"), "waits", 422),
    "no UTF-8": (post_of(b'{"prompts": ["\xff"]}'), "waits", 400),
    "nothing": (post_of(b""), "waits", 422),
    "deep JSON": (post_of(b"[" * 100_000), "waits", 400),
    "another form": (post_of(b'{"prompts": {"a": 1}, "completions": 3}'), "waits", 422),
    "compressed": (post_of(b"\x1f\x8b\x08\x00", headers="Content-Encoding: gzip\r\n"), "waits", 400),
    "10 MB in a text": (post_of(of_texts(1, TEN_MB)), "waits", 413),
    "20 MB": (post_of(of_texts(2, TEN_MB)), "waits", 413),
    "20 MB in chunks": (chunked(of_texts(2, TEN_MB)), "waits", 413),
    "20 MB, gone in the middle": (post_of(of_texts(2, TEN_MB)[:TEN_MB], 2 * TEN_MB), "closes", None),
    "gone before its answer": (post_of(GOOD), "closes", None),
    "reset before its answer": (post_of(GOOD), "resets", None),
    "gone in its body": (post_of(GOOD[:9], len(GOOD)), "closes", None),
    "gone in its head": (post_of(GOOD)[:20], "closes", None),
    "slow": (post_of(GOOD[:9], len(GOOD)), "waits", 408),
    "another protocol": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40) + b"\r\n\r\n", "waits", 400),
    "a wrong length": (post_of(GOOD, -1), "waits", 400),
    "a long head": (post_of(GOOD, headers=f"X-A: {'a' * 2**17}\r\n"), "waits", 400),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_a_client_is_answered_and_harms_no_other(fault, server, scorer):
    data, after, status = FAULTS[fault]
    host, port = server.url.removeprefix("http://").split(":")
    found = []
    other = threading.Thread(target=lambda: found.append(httpx2.post(f"{server.url}/v1/rewards", json=ROW, timeout=20)))
    other.start()
    assert scorer.entered.wait(20)
    client = socket.create_connection((host, int(port)), timeout=20)
    try:
        client.sendall(data)
    except (BrokenPipeError, ConnectionResetError):
        assert status is not None  # refused before it was sent whole
    if after == "resets":
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if status is not None:
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert answer.status == status
        if status != 400:  # which may come from the parser of HTTP, as text
            assert json.loads(answer.read())["error"]["message"]
    client.close()
    scorer.opened.set()
    other.join(20)
    assert found[0].json()["data"] == [{"index": 0, "object": "reward", "reward": 3.0}]
    again = httpx2.post(f"{server.url}/v1/rewards", json={**ROW, "completions": ["bc"]}, timeout=20)
    assert again.json()["data"][0]["reward"] == 2.0
    assert httpx2.get(f"{server.url}/health").json()["waiting_rows"] == 0


def test_10_mb_of_many_rows_are_scored(server, scorer):
    scorer.opened.set()
    body, kind = of_texts(1024, TEN_MB // 1024), {"Content-Type": "application/json"}
    answer = httpx2.post(f"{server.url}/v1/rewards", content=body, headers=kind, timeout=60)
    assert [one["reward"] for one in answer.json()["data"]] == [TEN_MB / 1024] * 1024


@pytest.mark.parametrize("text", ["exit", "interrupt", "stop"])
def test_a_scorer_that_ends_its_thread_fails_its_own_request_only(text, server, scorer):
    found = {}

    def ask(completion):
        body = {"prompts": ["a"], "completions": [completion]}
        found[completion] = httpx2.post(f"{server.url}/v1/rewards", json=body, timeout=20)

    threads = [threading.Thread(target=ask, args=(one,)) for one in ("first", text, "last")]
    threads[0].start()
    assert scorer.entered.wait(20)
    for thread in threads[1:]:
        thread.start()
    while httpx2.get(f"{server.url}/health").json()["waiting_rows"] < 3:
        pass
    scorer.opened.set()
    for thread in threads:
        thread.join(20)
    assert {one: answer.status_code for one, answer in found.items()} == {"first": 200, text: 500, "last": 200}
    assert "The scorer failed" in found[text].json()["error"]["message"]
    assert found["last"].json()["data"][0]["reward"] == 4.0


def serve(port, pipe, hangs):
    """Serve lengths in a process of its own, which may hang in the middle and is killed."""

    def lengths(prompts, completions):
        if hangs and "x" * 50 in completions:
            pipe.send("hangs")
            threading.Event().wait()
        return [float(len(one)) for one in completions]

    server = RewardServer(lengths, port=port, limits=Limits(max_batch_rows=1))
    pipe.send(server.url)
    server.run()


def test_a_server_that_is_killed_and_started_again_loses_no_reward():
    context = multiprocessing.get_context("fork")  # nothing here computes with torch
    texts = ["x" * number for number in range(100)]

    def start(port, hangs):
        here, there = context.Pipe()
        process = context.Process(target=serve, args=(port, there, hangs), daemon=True)
        process.start()
        return process, here

    process, pipe = start(0, hangs=True)
    url = pipe.recv()
    remote = RemoteReward(url, rows_per_request=1, concurrency=4, retries=30, retry_delay=0.05)
    rewards = []
    client = threading.Thread(target=lambda: rewards.extend(remote(["a"] * len(texts), texts)))
    client.start()
    assert pipe.recv() == "hangs"
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    process, pipe = start(int(url.rpartition(":")[2]), hangs=False)
    client.join(30)
    process.kill()
    process.join()
    assert rewards == [float(len(text)) for text in texts]

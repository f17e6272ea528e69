"""Rewards over HTTP are those of the scorer; a wrong request is answered clearly, and harms no other."""

import json
import math
import re
import socket
import threading

import pytest
from tiny import tiny_causal_lm, tiny_tokenizer

httpx2 = pytest.importorskip("httpx2")
pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from hf_reward_ext import GenARMRewardModel  # noqa: E402
from hf_reward_ext.base.scoring.scorer import as_scorer  # noqa: E402
from hf_reward_ext.serving import Limits, RewardServer  # noqa: E402

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

CHAT = [{"role": "user", "content": "w3 w4"}]
ANSWER = [{"role": "assistant", "content": "w5 w6"}]


def lengths(prompts, completions):
    if any("wrong" in str(one) for one in completions):
        raise ValueError("`completions` must not be wrong, got 'wrong'. Change it.")
    if any("broken" in str(one) for one in completions):
        raise KeyError("secret of the scorer")
    texts = [one if isinstance(one, str) else one[-1]["content"] for one in completions]
    return [None if text == "none" else math.nan if text == "nan" else float(len(text)) for text in texts]


@pytest.fixture(scope="module")
def url():
    with RewardServer(lengths, port=0, limits=Limits(max_body_bytes=2**16, max_rows=50, max_characters=200)) as server:
        yield server.url


def post(url, path, body, **kwargs):
    return httpx2.post(url + path, json=body, timeout=20, **kwargs)


@pytest.mark.parametrize(("path", "body", "answer"), [
    ("/v1/rewards", dict(prompts=["a", "b"], completions=["c", "none"]), [1.0, None]),
    ("/v1/rewards", dict(prompts=[CHAT], completions=[ANSWER], model="any"), [5.0]),
    ("/v1/rewards", dict(prompts=[CHAT], completions=["nan"]), [None]),
    ("/v1/rewards", dict(prompts=[], completions=[]), []),
    ("/v1/rewards", dict(prompts=["ä\u2028"], completions=["\U0001f600 "]), [2.0]),
    ("/v1/score", dict(text_1="a", text_2="bcd"), [3.0]),
    ("/v1/score", dict(text_1="a", text_2=["b", "cd"]), [1.0, 2.0]),
    ("/v1/score", dict(text_1=["a", "b"], text_2=["b", "cd"], model="any"), [1.0, 2.0]),
], ids=str)  # fmt: skip
def test_lists_of_rewards(path, body, answer, url):
    response = post(url, path, body)
    name = path.removeprefix("/v1/").removesuffix("s")
    assert response.status_code == 200
    assert [(one["index"], one["object"], one[name]) for one in response.json()["data"]] == [
        (index, name, value) for index, value in enumerate(answer)
    ]


def test_a_request_of_openrlhf(url):
    body = {"query": ["2+2=4", "2+2=five"], "prompts": ["2+2=", "2+2="], "labels": ["4", "4"]}
    assert post(url, "/get_reward", body).json() == {"rewards": [1.0, 4.0], "scores": [1.0, 4.0], "extra_logs": {}}
    del body["labels"]
    assert post(url, "/get_reward", body).json()["rewards"] == [1.0, 4.0]


def test_a_request_of_verl(url):
    answer = post(url, "/classify", {"model": "path", "input": "2+2=4", "use_activation": False}).json()
    assert answer["data"][-1]["probs"][-1] == 5.0


def test_labels_are_a_column_of_the_function():
    def right(prompts, completions, labels):
        return [float(text == label) for text, label in zip(completions, labels, strict=True)]

    with RewardServer(right, port=0) as server:
        body = {"query": ["2+2=4", "2+2=5"], "prompts": ["2+2="] * 2, "labels": ["4", "4"]}
        assert post(server.url, "/get_reward", body).json()["rewards"] == [1.0, 0.0]
        columns = {"labels": [1]}
        body = {"prompts": ["a"], "completions": ["b"], "columns": columns}
        assert post(server.url, "/v1/rewards", body).json()["data"][0]["reward"] == 0.0
        del body["columns"]
        refused = post(server.url, "/v1/rewards", body)
        assert refused.status_code == 422 and "labels" in refused.json()["error"]["message"]


def test_no_answer_where_a_client_cannot_read_it(url):
    body = {"query": ["anone"], "prompts": ["a"]}
    refused = post(url, "/get_reward", body)
    assert refused.status_code == 422 and "`missing_reward`" in refused.json()["error"]["message"]
    with RewardServer(lengths, port=0, missing_reward=-1.0) as server:
        assert post(server.url, "/get_reward", body).json()["rewards"] == [-1.0]
        assert post(server.url, "/classify", {"input": "none"}).json()["data"][0]["probs"] == [-1.0]
        assert post(server.url, "/v1/rewards", dict(prompts=["a"], completions=["none"])).json()["data"] == [
            {"index": 0, "object": "reward", "reward": None}
        ]


ROW = dict(prompts=["a"], completions=["b"])
REFUSED = {
    "another path": ("/v2/rewards", ROW, 404, "The paths are /v1/rewards"),
    "no object": ("/v1/rewards", [ROW], 422, "the request"),
    "no completions": ("/v1/rewards", dict(prompts=["a"]), 422, "completions: Field required"),
    "other lengths": ("/v1/rewards", dict(prompts=["a"], completions=["b", "c"]), 422, "'completions': 2"),
    "a short column": ("/v1/rewards", dict(ROW, columns={"answer": []}), 422, "'answer': 0"),
    "text instead of a list": ("/v1/rewards", dict(prompts="a", completions="b"), 422, "prompts"),
    "a number": (
        "/v1/rewards",
        dict(prompts=["a"], completions=[3]),
        422,
        "completions.0: Input should be a valid string",
    ),
    "null": ("/v1/rewards", dict(prompts=["a"], completions=[None]), 422, "completions.0"),
    "an empty chat": ("/v1/rewards", dict(prompts=[[]], completions=["b"]), 422, "prompts.0"),
    "a message without role": (
        "/v1/rewards",
        dict(prompts=[[{"content": "a"}]], completions=["b"]),
        422,
        "prompts.0.0.role: Field required",
    ),
    "an unknown field": ("/v1/rewards", dict(ROW, temperature=1), 422, "temperature: Extra inputs"),
    "too many rows": ("/v1/rewards", dict(prompts=["a"] * 51, completions=["b"] * 51), 413, "at most 50 rows, got 51"),
    "a long text": ("/v1/rewards", dict(prompts=["a"], completions=["b" * 201]), 413, "row 0 .*200 .*got 201"),
    "a large body": ("/v1/rewards", dict(prompts=["a"], completions=["b" * 2**17]), 413, "at most 65536 bytes"),
    "what the scorer refuses": ("/v1/rewards", dict(prompts=["a"], completions=["wrong"]), 422, "Change it"),
    "another prompt": ("/get_reward", dict(query=["ab"], prompts=["b"]), 422, r"query\[0\] must begin with"),
    "no prompts": ("/get_reward", dict(query=["ab"]), 422, "prompts: Field required"),
    "more labels": ("/get_reward", dict(query=["ab"], prompts=["a"], labels=[1, 2]), 422, "'labels': 2"),
    "texts of other numbers": ("/v1/score", dict(text_1=["a", "b", "c"], text_2=["a", "b"]), 422, "'text_1': 3"),
    "a sigmoid": ("/classify", dict(input="a", use_activation=True), 422, "use_activation"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_request_that_is_refused(case, url):
    path, body, status, message = REFUSED[case]
    response = post(url, path, body)
    assert response.status_code == status
    assert re.search(message, response.json()["error"]["message"]), response.text


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 9999, b'{"prompts": NaN}', b"null"], ids=repr)
def test_a_body_that_is_not_json(content, url):
    response = httpx2.post(url + "/v1/rewards", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code in (400, 422) and response.json()["error"]["message"]


def test_a_fault_of_the_scorer_is_not_shown(url):
    response = post(url, "/v1/rewards", dict(prompts=["a"], completions=["broken"]))
    assert response.status_code == 500 and response.json()["error"]["message"] == "The scorer failed: KeyError"
    assert post(url, "/v1/rewards", ROW).status_code == 200


def test_a_method_that_a_path_does_not_have(url):
    assert httpx2.get(url + "/v1/rewards").status_code == 405


def test_health_and_counters(url):
    post(url, "/v1/rewards", ROW)
    assert httpx2.get(url + "/health").json() == {"status": "ok", "model": "lengths", "waiting_rows": 0}
    counters = httpx2.get(url + "/metrics").text
    assert 'rewards_answers_total{path="/v1/rewards",status="200"}' in counters
    assert "rewards_waiting_rows 0.0" in counters and "rewards_batch_seconds_count" in counters


class Gate:
    """A scorer that waits until it is opened, and records its batches."""

    def __init__(self):
        self.opened, self.entered, self.batches = threading.Event(), threading.Event(), []

    def __call__(self, prompts, completions):
        self.entered.set()
        assert self.opened.wait(20)
        self.batches.append(list(completions))
        return lengths(prompts, completions)


def in_threads(works):
    """Start works, and return a function that waits for their results."""
    results = [None] * len(works)

    def run(index, work):
        results[index] = work()

    threads = [threading.Thread(target=run, args=one) for one in enumerate(works)]
    for thread in threads:
        thread.start()

    def wait():
        for thread in threads:
            thread.join(20)
        return results

    return wait


def waiting_rows(url, count):
    """Ask until so many rows wait."""
    while httpx2.get(url + "/health").json()["waiting_rows"] < count:
        pass


def test_concurrent_requests_are_one_batch_and_a_wrong_one_fails_alone():
    gate = Gate()
    with RewardServer(gate, port=0) as server:

        def rewards(text):
            return lambda: post(server.url, "/v1/rewards", dict(prompts=["a", "b"], completions=[text, text]))

        first = in_threads([rewards("x")])
        assert gate.entered.wait(20)
        others = in_threads([rewards(text) for text in ("ab", "wrong", "abc", "broken")])
        waiting_rows(server.url, 10)
        gate.opened.set()
        assert [one.status_code for one in first()] == [200]
        found = others()
    assert [one.status_code for one in found] == [200, 422, 200, 500]
    assert [[row["reward"] for row in one.json()["data"]] for one in found[::2]] == [[2.0, 2.0], [3.0, 3.0]]
    assert len(gate.batches) == 6 and len(gate.batches[1]) == 8  # together, then each alone


def test_a_full_queue_is_answered_by_429_and_nothing_is_lost():
    gate = Gate()
    with RewardServer(gate, port=0, limits=Limits(max_rows=2, max_waiting_rows=3)) as server:
        body = dict(prompts=["a", "b"], completions=["c", "d"])
        first = in_threads([lambda: post(server.url, "/v1/rewards", body)])
        waiting_rows(server.url, 2)
        busy = post(server.url, "/v1/rewards", body)
        assert busy.status_code == 429 and busy.headers["retry-after"] == "1"
        gate.opened.set()
        assert first()[0].status_code == 200
        assert post(server.url, "/v1/rewards", body).status_code == 200


def test_a_client_that_has_gone_leaves_the_others_alone():
    gate = Gate()
    with RewardServer(gate, port=0) as server:
        host, port = server.url.removeprefix("http://").split(":")
        data = json.dumps(ROW).encode()
        with socket.create_connection((host, int(port))) as gone:
            head = (
                f"POST /v1/rewards HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(data)}"
            )
            gone.sendall(head.encode() + b"\r\n\r\n" + data)
            waiting_rows(server.url, 1)
        half = socket.create_connection((host, int(port)))
        half.sendall(head.encode() + b"\r\n\r\n" + data[:5])
        half.close()
        gate.opened.set()
        assert post(server.url, "/v1/rewards", ROW).status_code == 200


def test_a_slow_client_is_answered_by_408():
    with RewardServer(lengths, port=0, limits=Limits(body_seconds=0.05)) as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as slow:
            slow.sendall(b"POST /v1/rewards HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
            slow.settimeout(20)
            assert slow.recv(1000).startswith(b"HTTP/1.1 408")


def test_requests_that_have_begun_are_answered_when_the_server_stops():
    gate = Gate()
    server = RewardServer(gate, port=0)
    with server:
        answer = in_threads([lambda: post(server.url, "/v1/rewards", ROW)])
        assert gate.entered.wait(20)
        threading.Timer(0.05, gate.opened.set).start()
    assert answer()[0].status_code == 200
    with pytest.raises(httpx2.ConnectError):
        post(server.url, "/v1/rewards", ROW)


def test_a_key(monkeypatch):
    with RewardServer(lengths, port=0, api_key="secret") as server:
        assert post(server.url, "/v1/rewards", ROW).status_code == 401
        for key in ("other", "x", "secret2"):
            assert post(server.url, "/v1/rewards", ROW, headers={"Authorization": f"Bearer {key}"}).status_code == 401
        assert post(server.url, "/v1/rewards", ROW, headers={"Authorization": "Bearer secret"}).status_code == 200
        assert httpx2.get(server.url + "/metrics").status_code == 401
        assert httpx2.get(server.url + "/health").status_code == 200
    monkeypatch.setenv("HF_REWARD_EXT_API_KEY", "outside")
    with RewardServer(lengths, port=0) as server:
        assert post(server.url, "/v1/rewards", ROW).status_code == 401


def test_a_model_of_this_library():
    model, tokenizer = GenARMRewardModel.from_causal_lm(tiny_causal_lm()), tiny_tokenizer()
    prompts, completions = ["w3 w4 ", "w5 "], ["w6 w7", "w8 w9 w10"]
    expected = as_scorer(model, tokenizer)(prompts, completions)
    with RewardServer(model, tokenizer, port=0) as server:
        answer = post(server.url, "/v1/rewards", dict(prompts=prompts, completions=completions)).json()["data"]
    assert [one["reward"] for one in answer] == pytest.approx(expected)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "example.org", ""])
def test_others_than_loopback_need_a_key(host):
    with pytest.raises(ValueError, match="`host` must be a loopback address"):
        RewardServer(lengths, host=host, port=0)


@pytest.mark.parametrize(
    ("error", "named", "kwargs"),
    [
        (ValueError, "port", dict(port=65536)),
        (TypeError, "port", dict(port="80")),
        (TypeError, "host", dict(host=None)),
        (ValueError, "api_key", dict(api_key="")),
        (ValueError, "api_key", dict(api_key="two\nlines")),
        (TypeError, "api_key", dict(api_key=b"key")),
    ],
)
def test_wrong_arguments(error, named, kwargs):
    with pytest.raises(error, match=f"`{named}`"):
        RewardServer(lengths, **{"port": 0, **kwargs})


def test_a_port_that_is_taken():
    with RewardServer(lengths, port=0) as server:
        port = int(server.url.rpartition(":")[2])
        with pytest.raises(OSError, match=f"must listen at 127.0.0.1:{port}.*Choose another port"):
            RewardServer(lengths, port=port)


@pytest.mark.parametrize(("error", "kwargs"), [
    (ValueError, dict(max_rows=0)),
    (ValueError, dict(max_body_bytes=0)),
    (TypeError, dict(max_characters=1.5)),
    (ValueError, dict(max_batch_rows=-1)),
    (ValueError, dict(max_wait_seconds=-1.0)),
    (ValueError, dict(max_wait_seconds=math.nan)),
    (ValueError, dict(body_seconds=0.0)),
    (ValueError, dict(max_rows=10, max_waiting_rows=9)),
])  # fmt: skip
def test_wrong_limits(error, kwargs):
    with pytest.raises(error, match=f"`{list(kwargs)[-1]}`"):
        Limits(**kwargs)

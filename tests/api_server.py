"""A server on loopback that speaks the OpenAI-compatible API, with faults on request."""

import json
import math
import threading
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def words(seed: int, number: int) -> list[str]:
    """The completion that a seed gives, in the words of the tiny tokenizer."""
    return [f"w{(seed * 7 + number * 13 + place) % 24}" for place in range(1 + (seed + number) % 5)]


class ApiServer(AbstractContextManager):
    """
    Args:
        faults: Names of the faults of the first requests, see `FAULTS`; afterwards requests are answered.
        takes_n: Whether `n` gives several choices.
        refused: Fields that are refused by an error, which names them.
        has_log_probabilities: Whether choices have them.
        meeting: Number of requests that must be there at the same time before one is answered.
    """

    def __init__(self, faults=(), *, takes_n=True, refused=(), has_log_probabilities=True, meeting=1):
        self.faults = list(faults)
        self.takes_n, self.refused, self.has_log_probabilities = takes_n, set(refused), has_log_probabilities
        self.requests: list[dict] = []
        self.keys: list[str | None] = []
        self.most, self._now = 0, 0
        self._lock, self.closed = threading.Lock(), threading.Event()
        self.barrier = threading.Barrier(meeting)
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_POST(self):
                owner.serve(self)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def __exit__(self, *_):
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()

    def serve(self, handler):
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self._lock:
            self.requests.append(body)
            self.keys.append(handler.headers["Authorization"])
            self._now += 1
            self.most = max(self.most, self._now)
            fault = self.faults.pop(0) if self.faults else None
        self.barrier.wait(10)
        named = sorted(self.refused & body.keys())
        if named:
            status, answer = 422, {"detail": f"Unexpected fields in the request: {{{str(named)[1:-1]}}}"}
        else:
            status, answer = 200, self.answer(handler.path, body)
        with self._lock:
            self._now -= 1
        (FAULTS[fault] if fault else send)(self, handler, status, answer)

    def answer(self, path, body):
        is_text = path == "/v1/completions"
        assert path in ("/v1/completions", "/v1/chat/completions")
        choices = []
        for number in range(body.get("n", 1) if self.takes_n else 1):
            made = words(body["seed"], number)
            scored = [-0.5 - place / 8 for place in range(len(made))]
            choice = {"index": number, "finish_reason": "stop"}
            if is_text:
                choice |= {"text": " ".join(made), "logprobs": {"token_logprobs": scored, "tokens": made}}
            else:
                content = [{"token": word, "logprob": one} for word, one in zip(made, scored, strict=True)]
                choice |= {
                    "message": {"role": "assistant", "content": " ".join(made)},
                    "logprobs": {"content": content},
                }
            if "logprobs" not in body or not self.has_log_probabilities:
                choice["logprobs"] = None
            if body.get("return_token_ids"):
                choice["token_ids"] = [8 + int(word[1:]) for word in made]
            choices.append(choice)
        total = sum(len(words(body["seed"], number)) for number in range(len(choices)))
        return {"choices": choices[::-1], "usage": {"completion_tokens": total}}  # the order is not promised


def send(server, handler, status, answer, headers=(), cut=0):
    data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
    data = data[: len(data) - cut]
    handler.send_response(status)
    for name, value in headers:
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def _status(status, headers=()):
    return lambda server, handler, _, answer: send(server, handler, status, {"error": "busy"}, headers)


def _changed(change):
    return lambda server, handler, status, answer: send(server, handler, status, change(answer))


def _without(answer, name):
    return {**answer, "choices": [{key: one[key] for key in one if key not in name} for one in answer["choices"]]}


def _each(change):
    return _changed(lambda answer: {**answer, "choices": [change(one) for one in answer["choices"]]})


def _with_text(choice, text):
    return {**choice, "text": text} if "text" in choice else {**choice, "message": {"content": text}}


def _drop(server, handler, status, answer):
    handler.close_connection = True


def _cut(server, handler, status, answer):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.close_connection = True


def _hang(server, handler, status, answer):
    server.closed.wait(10)
    handler.close_connection = True


FAULTS = {
    **{f"status {code}": _status(code) for code in (408, 425, 500, 502, 503, 504)},
    "status 429": _status(429, [("Retry-After", "0")]),
    "unreadable delay": _status(429, [("Retry-After", "soon")]),
    "dropped connection": _drop,
    "connection cut in the answer": _cut,
    "truncated JSON": lambda server, handler, status, answer: send(server, handler, status, answer, cut=9),
    "a page instead of JSON": _changed(lambda answer: "<html>proxy error</html>"),
    "an empty answer": _changed(lambda answer: ""),
    "JSON of another kind": _changed(lambda answer: [1, 2]),
    "no choices": _changed(lambda answer: {**answer, "choices": []}),
    "choices of another kind": _changed(lambda answer: {**answer, "choices": ["a"] * len(answer["choices"])}),
    "too many choices": _changed(lambda answer: {**answer, "choices": answer["choices"] * 2}),
    "too few choices": _changed(lambda answer: {**answer, "choices": answer["choices"][:-1]}),
    "no text": _changed(lambda answer: _without(answer, ("text", "message"))),
    "an aborted choice": _changed(
        lambda answer: {**answer, "choices": [{**one, "finish_reason": "abort"} for one in answer["choices"]]}
    ),
    "broken log-probabilities": _changed(
        lambda answer: {**answer, "choices": [{**one, "logprobs": {"content": 3, "token_logprobs": 3}}
                                              for one in answer["choices"]]}
    ),
    "choices of mixed indices": _each(lambda one: {**one, "index": one["index"] or None}),
    "choices of half a letter": _each(lambda one: _with_text(one, "\ud800")),
    "log-probabilities that are none": _each(
        lambda one: {**one, "logprobs": {"content": [{"logprob": math.nan}], "token_logprobs": [math.nan]}}
    ),
    "no answer in time": _hang,
    "redirect": lambda server, handler, status, answer: send(
        server, handler, 307, "", [("Location", f"{server.target}/completions")]
    ),
}  # fmt: skip

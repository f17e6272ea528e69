"""Candidates of a server, with every fault that a server or the way to it can have."""

import asyncio
import math
from datetime import date

import pytest
from api_server import FAULTS, ApiServer, words

from hf_reward_ext.engines import Generator, Sampling, ServerGenerator
from hf_reward_ext.engines.connection import _requested_delay
from hf_reward_ext.engines.generator import derive_seed

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

TEXT = ["w3 w4", "w5"]
CHATS = [[{"role": "user", "content": text}] for text in TEXT]
BOTH = pytest.mark.parametrize("prompts", [TEXT, CHATS], ids=["text", "chat"])
UNSENDABLE = [
    ("w3", TypeError, "`prompts` must be a list of prompts, got text"),
    (["w3", None], ValueError, r"`prompts\[1\]` must be text or a list of messages"),
    (["\ud800"], ValueError, r"`prompts\[0\]` must be text that UTF-8 can hold"),
    ([[{"role": "user", "content": [{"type": "image"}]}]], ValueError, "must hold text parts only"),
    ([[{**CHATS[0][0], "date": date(2026, 1, 2)}]], TypeError, "messages of JSON values.*date is not JSON"),
    ([[{**CHATS[0][0], "number": math.nan}]], ValueError, "must be JSON values, got others"),
]
PASSING = [fault for fault in FAULTS if fault != "redirect"]
SAMPLING = Sampling(max_new_tokens=8, temperature=0.7, top_p=0.9, top_k=5, seed=3)


def generator(server, **kwargs):
    return ServerGenerator(server.url, "tiny", **{"retry_delay": 0.0, "timeout": 5.0, **kwargs})


@BOTH
def test_all_candidates_of_a_prompt_are_one_request(prompts):
    with ApiServer() as server:
        engine = generator(server, token_ids=True)
        assert isinstance(engine, Generator)
        groups = engine.generate(prompts, 3, SAMPLING)
    by_prompt = {str(body.get("prompt", body.get("messages"))): body for body in server.requests}
    assert len(server.requests) == len(by_prompt) == 2
    for prompt, group in zip(prompts, groups, strict=True):
        body = by_prompt[str(prompt)]
        seed = derive_seed(3, prompt, 0)
        assert [one.text.split() for one in group] == [words(seed, number) for number in range(3)]
        assert [one.num_tokens for one in group] == [len(words(seed, number)) for number in range(3)]
        assert group[0].log_probabilities[:1] == [-0.5] and len(group[0].token_ids) == group[0].num_tokens
        others = {key: body[key] for key in ("model", "n", "max_tokens", "temperature", "top_p", "top_k", "seed")}
        assert others == {
            "model": "tiny", "n": 3, "max_tokens": 8, "temperature": 0.7, "top_p": 0.9, "top_k": 5, "seed": seed,
        }  # fmt: skip


@BOTH
@pytest.mark.parametrize("fault", PASSING)
def test_a_fault_that_passes_changes_nothing(fault, prompts):
    with ApiServer() as server:
        expected = generator(server).generate(prompts, 3, SAMPLING)
    with ApiServer([fault]) as server:
        timeout = 0.2 if fault == "no answer in time" else 5.0
        assert generator(server, timeout=timeout).generate(prompts, 3, SAMPLING) == expected
        assert len(server.requests) == 3 and len({body["seed"] for body in server.requests}) == 2


@pytest.mark.parametrize("fault", [fault for fault in PASSING if fault != "no answer in time"])
def test_a_fault_that_stays_is_an_error_with_the_last_answer(fault):
    shown = {"status": fault[-3:], "unreadable delay": "429", "truncated JSON": "not JSON", "an aborted": "abort"}
    with ApiServer([fault] * 9) as server, pytest.raises(RuntimeError, match="3 attempts failed") as error:
        generator(server, retries=2).generate(TEXT[:1], 3, SAMPLING)
    assert len(server.requests) == 3
    assert server.url in str(error.value)
    assert all(value in str(error.value) for key, value in shown.items() if fault.startswith(key))


def test_a_server_that_is_not_there():
    with ApiServer() as server:
        pass
    with pytest.raises(RuntimeError, match="2 attempts failed, the last one with: ConnectError"):
        generator(server, retries=1).generate(TEXT, 2, SAMPLING)


@BOTH
@pytest.mark.parametrize("server_kwargs", [dict(takes_n=False), dict(refused={"n"})], ids=["ignored", "refused"])
def test_a_server_without_n_gets_a_request_for_each_candidate(server_kwargs, prompts):
    with ApiServer(**server_kwargs) as server:
        engine = generator(server)
        groups = engine.generate(prompts, 4, SAMPLING)
        used = len(server.requests)
        assert engine.generate(prompts, 4, SAMPLING) == groups
        assert len(server.requests) == used + 8 and all("n" not in body for body in server.requests[used:])
    for prompt, group in zip(prompts, groups, strict=True):
        seeds = [derive_seed(3, prompt, number) for number in range(4)]
        assert [one.text.split() for one in group] == [words(seed, 0) for seed in seeds]


@BOTH
def test_fields_that_a_server_refuses_are_left_out(prompts):
    with ApiServer(refused={"logprobs", "return_token_ids"}) as server:
        engine = generator(server, token_ids=True)
        groups = engine.generate(prompts, 1, SAMPLING)
        refused = len(server.requests)
        assert engine.generate(prompts, 1, SAMPLING) == groups
    assert len(server.requests) == refused + 2
    for group in groups:
        [one] = group
        assert one.log_probabilities is None and one.token_ids is None and one.num_tokens == len(one.text.split())


@pytest.mark.parametrize("field", ["temperature", "top_k", "max_tokens", "model"])
def test_a_field_that_matters_is_not_left_out(field):
    with ApiServer(refused={field}) as server, pytest.raises(RuntimeError, match=f"422: .*'{field}'"):
        generator(server).generate(TEXT[:1], 2, SAMPLING)
    assert len(server.requests) == 1


def test_log_probabilities_may_be_missing():
    with ApiServer(has_log_probabilities=False) as server:
        [group] = generator(server).generate(TEXT[:1], 2, SAMPLING)
    assert [(one.log_probabilities, one.num_tokens) for one in group] == [(None, None)] * 2


def test_further_candidates_are_others_and_do_not_depend_on_the_call():
    with ApiServer(takes_n=False) as server:
        engine = generator(server)
        [whole] = engine.generate(TEXT[:1], 6, SAMPLING)
        [begin], [rest] = engine.generate(TEXT[:1], 2, SAMPLING), engine.generate(TEXT[:1], 4, SAMPLING, first=2)
    assert begin + rest == whole


def test_at_most_as_many_requests_at_a_time_as_allowed():
    with ApiServer(meeting=3) as server:
        generator(server, concurrency=3).generate([f"w{number}" for number in range(9)], 1, SAMPLING)
    assert server.most == 3


def test_the_key_is_sent_and_may_come_from_the_environment(monkeypatch):
    with ApiServer() as server:
        generator(server).generate(TEXT[:1], 1, SAMPLING)
        monkeypatch.setenv("HF_REWARD_EXT_API_KEY", "from outside")
        generator(server).generate(TEXT[:1], 1, SAMPLING)
        generator(server, api_key="given").generate(TEXT[:1], 1, SAMPLING)
    assert server.keys == [None, "Bearer from outside", "Bearer given"]


def test_the_key_is_in_no_message():
    with ApiServer(refused={"model"}) as server, pytest.raises(RuntimeError) as error:
        generator(server, api_key="secret").generate(TEXT[:1], 1, SAMPLING)
    assert server.keys == ["Bearer secret"] and "secret" not in str(error.value)
    assert "secret" not in str(generator(server, api_key="secret").describe())


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(monkeypatch):
    with ApiServer() as proxy, ApiServer() as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
        generator(server).generate(TEXT[:1], 1, SAMPLING)
    assert len(server.requests) == 1 and not proxy.requests


def test_a_redirect_is_not_followed():
    with ApiServer() as other, ApiServer(["redirect"]) as server:
        server.target = other.url
        with pytest.raises(RuntimeError, match="answered 307"):
            generator(server).generate(TEXT[:1], 1, SAMPLING)
    assert not other.requests


def test_a_running_event_loop_as_in_a_notebook():
    with ApiServer() as server:

        async def cell():
            return generator(server).generate(TEXT[:1], 2, SAMPLING)

        assert len(asyncio.run(cell())[0]) == 2


@pytest.mark.parametrize(("error", "named", "kwargs"), [
    (ValueError, "url", dict(url="127.0.0.1:8000")),
    (ValueError, "url", dict(url="ftp://127.0.0.1")),
    (ValueError, "url", dict(url="http://user:secret@127.0.0.1")),
    (ValueError, "url", dict(url="http://127.0.0.1/v1?key=1")),
    (TypeError, "url", dict(url=None)),
    *[(ValueError, "url", dict(url=url)) for url in
      ("http://a:b/v1", "http://127.0.0.1:99999", "http://127.0.0.1:0", "http://[::1/v1", "http://a b/", "http://a/\n")],
    *[(ValueError, "api_key", dict(api_key=key)) for key in ("", " a", "a\nb", "ключ")],
    (TypeError, "api_key", dict(api_key=5)),
    (ValueError, "model", dict(model="")),
    (ValueError, "concurrency", dict(concurrency=0)),
    (TypeError, "concurrency", dict(concurrency=2.5)),
    (ValueError, "timeout", dict(timeout=0)),
    (ValueError, "timeout", dict(timeout=math.nan)),
    (ValueError, "retries", dict(retries=-1)),
    (ValueError, "retry_delay", dict(retry_delay=-0.1)),
])  # fmt: skip
def test_wrong_arguments(error, named, kwargs):
    with pytest.raises(error, match=f"`{named}`"):
        ServerGenerator(**{"url": "http://127.0.0.1:1/v1", "model": "tiny", **kwargs})


@pytest.mark.parametrize(("error", "named", "kwargs"), [
    (ValueError, "max_new_tokens", dict(max_new_tokens=0)),
    (ValueError, "temperature", dict(temperature=-1.0)),
    (ValueError, "top_p", dict(top_p=0.0)),
    (ValueError, "top_p", dict(top_p=1.5)),
    (ValueError, "top_k", dict(top_k=0)),
    (ValueError, "seed", dict(seed=-1)),
    (ValueError, "seed", dict(seed=2**32)),
    (TypeError, "seed", dict(seed="1")),
])  # fmt: skip
def test_wrong_sampling(error, named, kwargs):
    with pytest.raises(error, match=f"`{named}`"):
        Sampling(**kwargs)


def test_what_a_server_cannot_do_is_refused_before_a_request():
    with ApiServer() as server:
        begun = [*CHATS[0], {"role": "assistant", "content": "It is "}]
        with pytest.raises(ValueError, match=r"`prompts\[1\]` must end with a user's message"):
            generator(server).generate([CHATS[0], begun], 1, SAMPLING)
        with pytest.raises(ValueError, match="`temperature` must be positive for 2 candidates"):
            generator(server).generate(TEXT, 2, Sampling(temperature=0))
        for prompts, error, message in UNSENDABLE:
            with pytest.raises(error, match=message):
                generator(server).generate(prompts, 1, SAMPLING)
        assert not server.requests


@pytest.mark.parametrize(("value", "seconds"), [
    ("2", 2), ("1.5", 1.5), ("-3", 0), ("1e9", 60), ("nan", 0), ("\u00b2", 0), ("", 0), ("soon", 0),
    ("Fri, 21 Oct 2099 07:28:00 GMT", 60), ("Fri, 21 Oct 2016 07:28:00 GMT", 0),
])  # fmt: skip
def test_the_delay_that_a_server_asks_for(value, seconds):
    assert _requested_delay({"retry-after": value}) == seconds

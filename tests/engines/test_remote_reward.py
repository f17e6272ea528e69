"""Rewards of a server, wherever rewards of this process can be."""

import json
import math

import pytest
from datasets import Dataset
from tiny import tiny_causal_lm, tiny_tokenizer

pytest.importorskip("httpx2")
pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from api_server import FAULTS, ApiServer  # noqa: E402
from trl import GRPOConfig, GRPOTrainer  # noqa: E402

from hf_reward_ext import WeightedReward  # noqa: E402
from hf_reward_ext.base.scoring.scorer import as_scorer  # noqa: E402
from hf_reward_ext.engines import RemoteReward  # noqa: E402
from hf_reward_ext.serving import Limits, RewardServer  # noqa: E402

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

TEXTS = [f"w{number}" * (1 + number % 3) for number in range(10)]
PROMPTS = ["w3 "] * len(TEXTS)


def lengths(prompts, completions, **_):
    return [None if "w5" in str(one) else float(len(str(one))) for one in completions]


def bonus(prompts, completions, bonus):
    return [float(one) for one in bonus]


@pytest.fixture(scope="module")
def server():
    with RewardServer(lengths, port=0, limits=Limits(max_rows=4)) as server:
        yield server


class Rewards(ApiServer):
    """A server of rewards with the faults of the other one."""

    def answer(self, path, body):
        data = [{"index": index, "reward": float(len(one))} for index, one in enumerate(body["completions"])]
        return {"data": data[::-1]}


@pytest.mark.parametrize("chat", [False, True])
def test_rewards_are_those_of_the_scorer_in_requests_of_any_size(chat, server):
    prompts = [[{"role": "user", "content": one}] for one in PROMPTS] if chat else PROMPTS
    completions = [[{"role": "assistant", "content": one}] for one in TEXTS] if chat else TEXTS
    expected = as_scorer(lengths)(prompts, completions)
    for rows in (1, 3, 4):
        assert RemoteReward(server.url, rows_per_request=rows)(prompts, completions) == expected
    assert as_scorer(RemoteReward(server.url, rows_per_request=4))(prompts, completions) == expected
    assert RemoteReward(server.url)([], []) == []


def test_columns_are_sent_by_name():
    with RewardServer(bonus, port=0) as server:
        remote = RemoteReward(server.url, columns=["bonus"], rows_per_request=2)
        assert remote(["a"] * 3, ["b"] * 3, bonus=[1, 2, 3], other=[object()] * 3) == [1.0, 2.0, 3.0]
        with pytest.raises(TypeError, match=r"got none of \['bonus'\]"):
            remote(["a"], ["b"])


@pytest.mark.parametrize("fault", [name for name in FAULTS if "choice" not in name and "log-prob" not in name and
                                   name not in ("redirect", "no text")])  # fmt: skip
def test_a_fault_that_passes_changes_nothing(fault):
    with Rewards([fault]) as server:
        timeout = 0.2 if fault == "no answer in time" else 5.0
        remote = RemoteReward(server.url, rows_per_request=3, retry_delay=0.0, timeout=timeout)
        assert remote(PROMPTS, TEXTS) == [float(len(one)) for one in TEXTS]
        assert len(server.requests) == 5


@pytest.mark.parametrize("wrong", [
    {}, {"data": []}, {"data": [{"index": 0}]}, {"data": [{"index": 1, "reward": 1.0}]}, {"data": 3}, [],
    {"data": [{"index": 0, "reward": 1.0}] * 2},
    {"data": [{"index": 0, "reward": "high"}]}, {"data": [{"index": 0, "reward": [1]}]},
], ids=json.dumps)  # fmt: skip
def test_an_answer_of_another_form_is_no_reward(wrong):
    class Wrong(Rewards):
        def answer(self, path, body):
            return wrong

    with Wrong() as server, pytest.raises(RuntimeError, match="2 attempts failed, .*another form"):
        RemoteReward(server.url, retries=1, retry_delay=0.0)(["a"], ["b"])


@pytest.mark.parametrize(("prompts", "column", "error", "message"), [
    (["a", "b"], [1, 2], ValueError, "one value for each completion, got {'prompts': 2, 'completions': 1, 'x': 2}"),
    (["a"], [1, 2], ValueError, "'x': 2}"),
    (["a"], "b", ValueError, "'x': 'text'}"),
    (["a"], [math.nan], ValueError, "must be JSON values, got others"),
    (["a"], [object()], TypeError, "must be JSON values, got others: Object of type object"),
    (["\ud800"], [1], ValueError, "must be JSON values, got others"),
])  # fmt: skip
def test_what_cannot_be_sent_is_refused(prompts, column, error, message):
    with pytest.raises(error, match=message):
        RemoteReward("http://127.0.0.1:1", columns=["x"], unavailable="none", retries=0)(prompts, ["c"], x=column)


def test_a_server_that_is_gone_is_an_error_or_no_reward():
    with Rewards() as server:
        pass
    given = dict(retries=1, retry_delay=0.0, rows_per_request=4)
    with pytest.raises(RuntimeError, match="2 attempts failed"):
        RemoteReward(server.url, **given)(PROMPTS, TEXTS)
    assert RemoteReward(server.url, unavailable="none", **given)(PROMPTS, TEXTS) == [None] * len(TEXTS)


def test_rows_of_other_requests_keep_their_rewards():
    with Rewards(["status 500"] * 2) as server:
        remote = RemoteReward(server.url, unavailable="none", retries=1, retry_delay=0.0, rows_per_request=5,
                              concurrency=1)  # fmt: skip
        rewards = remote(PROMPTS, TEXTS)
    assert rewards.count(None) in (0, 5) and all(reward in (None, float(len(text)))
                                                 for reward, text in zip(rewards, TEXTS, strict=True))  # fmt: skip


@pytest.mark.parametrize("unavailable", ["raise", "none"])
def test_a_refusal_is_always_an_error(unavailable, server):
    with pytest.raises(RuntimeError, match="413: .*at most 4 rows"):
        RemoteReward(server.url, unavailable=unavailable)(PROMPTS, TEXTS)


def test_in_a_sum_of_rewards(server):
    total = WeightedReward([RemoteReward(server.url, rows_per_request=4), lengths], [1.0, 1.0])
    assert total(PROMPTS[:3], TEXTS[:3]).tolist() == [2 * len(one) for one in TEXTS[:3]]


def test_a_step_of_grpo(server, tmp_path):
    args = GRPOConfig(
        str(tmp_path), max_steps=1, per_device_train_batch_size=4, num_generations=4, max_completion_length=4, beta=0.0,
        report_to="none", use_cpu=True, bf16=False, gradient_checkpointing=False, save_strategy="no", disable_tqdm=True,
        logging_steps=1, log_completions=False,
    )  # fmt: skip
    remote = RemoteReward(server.url, rows_per_request=3)
    trainer = GRPOTrainer(
        tiny_causal_lm(), [remote, lengths], args, Dataset.from_list([{"prompt": "w4 w6", "answer": "a"}] * 2),
        processing_class=tiny_tokenizer(),
    )  # fmt: skip
    trainer.train()
    logged = trainer.state.log_history[0]
    assert logged["rewards/remote_reward/mean"] == logged["rewards/lengths/mean"] > 0


@pytest.mark.parametrize(("error", "named", "kwargs"), [
    (ValueError, "url", dict(url="localhost")),
    (ValueError, "rows_per_request", dict(rows_per_request=0)),
    (ValueError, "unavailable", dict(unavailable="zero")),
    (TypeError, "columns", dict(columns="answer")),
    (TypeError, "columns", dict(columns=None)),
    (TypeError, "columns", dict(columns=[1])),
    (ValueError, "api_key", dict(api_key="a ")),
    (ValueError, "retries", dict(retries=-1)),
])  # fmt: skip
def test_wrong_arguments(error, named, kwargs):
    with pytest.raises(error, match=f"`{named}`"):
        RemoteReward(**{"url": "http://127.0.0.1:1", **kwargs})


def test_a_server_is_asked_before_long_work(server):
    RemoteReward(server.url).check_answers()
    with Rewards() as other:
        RemoteReward(other.url).check_answers()
    quick = dict(retries=1, retry_delay=0.0)
    with pytest.raises(RuntimeError, match="404"):
        RemoteReward(f"{server.url}/other", **quick).check_answers()
    with RewardServer(lengths, port=0, api_key="secret") as closed:
        with pytest.raises(RuntimeError, match="401|403"):
            RemoteReward(closed.url, api_key="wrong", **quick).check_answers()
        RemoteReward(closed.url, api_key="secret").check_answers()
        url = closed.url
    with pytest.raises(RuntimeError, match=url):
        RemoteReward(url, **quick).check_answers()

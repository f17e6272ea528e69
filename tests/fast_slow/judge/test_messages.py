import json

import pytest
from datasets import Dataset
from tiny_judges import point_judge

from hf_reward_ext.fast_slow.judge.messages import plain_text
from hf_reward_ext.rewards import FastSlowReward


def said(content, **fields):
    return {"role": "assistant", "content": content, **fields}


def call(name, arguments, **fields):
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **fields}


SHOWN = '{"name": "multiply", "arguments": {"a": 2}}'
CALL = call("multiply", {"a": 2}, id="1")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Hi", "Hi"),
        ("", ""),
        ([said("Hi")], "Hi"),
        ([said("")], ""),
        ([{"role": "user", "content": "Hi"}, said("Yes?")], "user: Hi\n\nassistant: Yes?"),
        ([said([{"type": "text", "text": "It is "}, {"type": "text", "text": "6."}])], "It is 6."),
        ([said([{"type": "text", "text": "6", "image": None}, "!"])], "6!"),
        ([said(None, tool_calls=[CALL])], SHOWN),
        ([said("", tool_calls=[CALL])], SHOWN),
        ([said("I multiply.", tool_calls=[CALL, CALL])], f"I multiply.\n{SHOWN}\n{SHOWN}"),
        ([said(None, tool_calls=[{"name": "multiply", "arguments": '{"a": 2}'}])], SHOWN),
        ([said(None, tool_calls=json.dumps([CALL]))], SHOWN),
        ([said(None, function_call={"name": "multiply", "arguments": {"a": 2}})], SHOWN),
        ([said(None, tool_calls=[call("multiply", {"a": 2, "b": None})])], SHOWN),
        ([said(None, tool_calls=[call("multiply", "{a: 2")])], '{"name": "multiply", "arguments": "{a: 2"}'),
        (
            [said(None, tool_calls=[CALL]), {"role": "tool", "name": "multiply", "content": "6"}, said("It is 6.")],
            f"assistant: {SHOWN}\n\ntool multiply: 6\n\nassistant: It is 6.",
        ),
        ([said(None), said("6")], "assistant: 6"),
        ([said("6", tool_calls=None, audio=None, function_call=None)], "6"),
        ([said("6", tool_calls=[])], "6"),
        ([said("6", reasoning_content="2*3")], "<think>\n2*3\n</think>\n6"),
    ],
)
def test_what_the_judge_reads(value, expected):
    assert plain_text(value) == expected


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (None, TypeError, "a text or a list of messages, got None"),
        (3, TypeError, "got 3"),
        ({"role": "user", "content": "Hi"}, TypeError, "list of messages"),
        (["Hi"], TypeError, "list of messages"),
        (b"Hi", TypeError, "list of messages"),
        ([], ValueError, "at least one message"),
        ([{"from": "human", "value": "Hi"}], ValueError, r"text and tool calls only, got \['from', 'value'\]"),
        ([{"content": "Hi"}], ValueError, "'role' and a 'content'"),
        ([said(3)], ValueError, "a text or a list of parts, got 3"),
        ([said([{"type": "image", "image": "x"}])], ValueError, "must be text, got one of type 'image'"),
        ([said([{"type": "image_url", "image_url": {"url": "x"}}])], ValueError, "'image_url'"),
        ([said([{"type": "text", "text": None}])], ValueError, "must be text"),
        ([said("6", audio={"id": "x"})], ValueError, r"\['audio'\]"),
        ([said(None, tool_calls=[{"function": None}])], ValueError, "A tool call must be like"),
        ([said(None, tool_calls="multiply(2)")], ValueError, "`tool_calls` must be a list"),
    ],
)
def test_what_no_judge_of_text_can_read(value, error, message):
    with pytest.raises(error, match=message):
        plain_text(value)


def test_rows_of_an_arrow_table_read_as_they_were_written():
    rows = [
        {"response": [said("6")]},
        {"response": [said(None, tool_calls=[CALL]), {"role": "tool", "name": "multiply", "content": "6"}]},
        {"response": [said(None, tool_calls=[call("add", {"b": 3})])]},
    ]
    stored = Dataset.from_list(rows)
    assert [plain_text(row["response"]) for row in stored] == [plain_text(row["response"]) for row in rows]


def test_different_tool_calls_are_judged_apart():
    function = FastSlowReward(point_judge())
    calls = [[said("", tool_calls=[call(name, {})])] for name in ("w20", "w21", "w20")]
    shown = [function.judge.judge_prompt.render("w4", one) for one in calls]
    assert shown[0] == shown[2] != shown[1] and "w21" in shown[1]
    rewards = function.score(["w4"] * 3, calls)
    assert rewards[0] == rewards[2]
    with pytest.raises(ValueError, match="'image'"):
        function.score(["w4"], [[said([{"type": "image"}])]])

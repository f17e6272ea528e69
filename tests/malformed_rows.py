"""Preference rows that are refused, each with a part of its message."""


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **fields):
    return {"role": "assistant", "content": text, **fields}


TEXT = {"prompt": "w1 w2", "chosen": " w3", "rejected": " w4"}
CHAT = {"prompt": [user("w1")], "chosen": [assistant("w3")], "rejected": [assistant("w4")]}
CALL = [{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}]

BAD = {
    "no text": ({**TEXT, "chosen": None}, "`chosen` must be text or a list of messages, got None"),
    "a number": ({**TEXT, "rejected": 3}, "`rejected` must be text or a list of messages, got 3"),
    "no prompt": ({**TEXT, "prompt": None}, "`prompt` must be text or a list of messages, got None"),
    "empty prompt": ({**TEXT, "prompt": ""}, "`prompt` must have text, got ''.*BOS"),
    "empty chat": ({**CHAT, "prompt": []}, "`prompt` must have text, got an empty list of messages"),
    "empty completion": ({**TEXT, "chosen": ""}, "`chosen` must have text, got ''"),
    "white completion": ({**TEXT, "chosen": " \n"}, r"`chosen` must have text, got ' \\n'"),
    "empty last message": ({**CHAT, "rejected": [assistant("")]}, "`rejected` must have text, got an empty last"),
    "lone surrogate": ({**TEXT, "chosen": "a\ud800"}, "`chosen` must be text that UTF-8 can hold"),
    "bytes": ({**TEXT, "chosen": b"w3"}, "`chosen` must be text or a list of messages, got b'w3'"),
    "strings in a list": ({**CHAT, "chosen": ["w3"]}, r"`chosen\[0\]` must be a message with 'role' and 'content'"),
    "no role": ({**CHAT, "chosen": [{"content": "w3"}]}, r"`chosen\[0\]` must be a message"),
    "role of another format": (
        {**CHAT, "prompt": [{"role": "human", "content": "w1"}]},
        r"`prompt\[0\]` must have one of the roles system.*'human'",
    ),
    "ends with the user": (
        {**CHAT, "chosen": [user("w3")]},
        r"`chosen` must end with the assistant's.*roles \['user', 'user'\]",
    ),
    "content None": (
        {**CHAT, "prompt": [{"role": "user", "content": None}]},
        r"`prompt\[0\]\['content'\]` must be text, got None",
    ),
    "no content": ({**CHAT, "chosen": [{"role": "assistant"}]}, r"`chosen\[0\]\['content'\]` must be text, got None"),
    "content number": (
        {**CHAT, "chosen": [assistant(3)]},
        r"`chosen\[0\]\['content'\]` must be text or a list of text parts, got 3",
    ),
    "image": (
        {**CHAT, "prompt": [user([{"type": "image"}, {"type": "text", "text": "w1"}])]},
        r"`prompt\[0\]\['content'\]` must hold text parts only, got one of type 'image'",
    ),
    "images column": ({**CHAT, "images": ["x.png"]}, "`images` must be empty: rewards here are of text"),
    "two forms": ({**CHAT, "rejected": "w4"}, "`chosen` and `rejected` must have one form"),
    "text prompt of other chats": (
        {**CHAT, "prompt": "w9", "chosen": [user("w1"), assistant("w3")], "rejected": [user("w1"), assistant("w4")]},
        "`prompt` must be the text of a message",
    ),
    "text prompt, only answers": ({**CHAT, "prompt": "w1"}, "must begin with their prompt, got chats"),
    "no shared text": (
        {"chosen": "Yes", "rejected": "no"},
        "must begin with their prompt, got texts that share no beginning",
    ),
    "no shared message": (
        {"chosen": [user("w1"), assistant("w3")], "rejected": [user("w2"), assistant("w4")]},
        "must begin with their prompt, got chats",
    ),
    "two prompts": (
        {
            "chosen": [user("w0"), assistant("w1"), user("w1"), assistant("w3")],
            "rejected": [user("w0"), assistant("w1"), user("w2"), assistant("w4")],
        },
        r"must part at an assistant's message, got \['user'\] at message 2",
    ),
    "tool call of the user": (
        {**CHAT, "prompt": [{**user("w1"), "tool_calls": CALL}]},
        r"`prompt\[0\]\['tool_calls'\]` must be the assistant's",
    ),
    "tool call without name": (
        {**CHAT, "chosen": [assistant(None, tool_calls=[{"function": {}}])]},
        r"`chosen\[0\]\['tool_calls'\]` must hold calls like",
    ),
    "tool calls not JSON": (
        {**CHAT, "chosen": [assistant(None, tool_calls="f(")]},
        r"`chosen\[0\]\['tool_calls'\]` must be JSON where it is text",
    ),
    "tools not JSON": ({**CHAT, "tools": "f("}, "`tools` must be JSON where it is text"),
    "tools no list": ({**CHAT, "tools": {"name": "f"}}, "`tools` must be a list of JSON schemas"),
    "tools of texts": ({**TEXT, "tools": [{"name": "f"}]}, "`tools` must be of a chat, got texts"),
    "template arguments": ({**CHAT, "chat_template_kwargs": [1]}, "`chat_template_kwargs` must be a dictionary"),
    "margin NaN": ({**TEXT, "margin": float("nan")}, "`margin` must be a finite number, got nan"),
    "margin text": ({**TEXT, "margin": "much"}, "`margin` must be a finite number, got 'much'"),
    "no rejected": ({"prompt": "w1", "chosen": " w2"}, "`rejected` is missing"),
    "ids of text": (
        {"prompt_ids": "w1", "chosen_ids": [3], "rejected_ids": [4]},
        "`prompt_ids` must be a list of token ids",
    ),
    "no ids": ({"prompt_ids": [3], "chosen_ids": [], "rejected_ids": [4]}, "`chosen_ids` must not be empty"),
    "None ids": (
        {"prompt_ids": [3], "chosen_ids": None, "rejected_ids": [4]},
        "`chosen_ids` must be a list of token ids",
    ),
    "negative id": (
        {"prompt_ids": [3], "chosen_ids": [-1], "rejected_ids": [4]},
        "`chosen_ids` must hold ids from 0, got -1",
    ),
    "short mask": (
        {"prompt_ids": [3], "chosen_ids": [4], "rejected_ids": [4], "chosen_mask": [1]},
        "`chosen_mask` must be a list of 2 times 0 or 1",
    ),
    "empty mask": (
        {"prompt_ids": [3], "chosen_ids": [4], "rejected_ids": [4], "rejected_mask": [0, 0]},
        "`rejected_mask` must be .* with at least one 1",
    ),
}


def good_row(row):
    """A row of the same form and columns that is accepted."""
    if "chosen_ids" in row:
        good = {"prompt_ids": [3], "chosen_ids": [5], "rejected_ids": [6]}
        masks = {"chosen_mask": [0, 1], "rejected_mask": [0, 1]}
        return {**good, **{column: masks[column] for column in masks if column in row}}
    is_chat = isinstance(row.get("prompt", row["chosen"]), list)
    good = CHAT if is_chat else TEXT
    if "prompt" not in row:
        chats = {side: CHAT["prompt"] + CHAT[side] for side in ("chosen", "rejected")}
        good = chats if is_chat else {"chosen": "w1 w2 w3", "rejected": "w1 w2 w4"}
    others = {"margin": 0.0, "tools": None, "images": None, "chat_template_kwargs": None}
    return {**good, **{column: others[column] for column in others if column in row}}

"""Pages of rows: what they show, and that no text can be more than text."""

import re
from html.parser import HTMLParser

import pytest

from hf_reward_ext.viz import write_html

JUDGMENT = {
    "probability": 0.8, "mode": "fast", "intuition": 0.6, "distribution": 0.9, "num_tokens": 2, "texts": [[], []],
    "consistent": True, "parsed": True, "fast_probability": 0.8,
}  # fmt: skip
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'onmouseover='x",
    "</style><link rel=stylesheet href=http://x>",
    "{{ 7 * 7 }}{% raw %}",
    "a\u202eb\u2066c",
    "\x00\x1b[31m\x7f\u200b\ud800\U000e0041",
]


class Page(HTMLParser):
    """Tags, attributes and visible text of a page."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def rows_of_bon(text="x", **columns):
    trace = {"index": 0, "tokens": [text, " y"], "values": [0.5, -0.5]}
    row = {"prompt": text, "completions": [text, text], "rewards": [1.0, -1.0], "answers": [text, None]}
    return [{**row, "num_tokens": [2, 1], "traces": [trace], **columns}]


def rows_of_generate(text="x"):
    node = {"depth": 0, "text": text, "score": 0.25, "is_confirmed": True}
    return [{"prompt": [{"role": text, "content": text}], "completion": text, "num_tokens": 3, "tree": [node]}]


def rows_of_judge(text="x", **columns):
    return [
        {"prompt": text, "chosen": text, "rejected": [{"role": "assistant", "content": text}], **JUDGMENT, **columns}
    ]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("make", [rows_of_bon, rows_of_generate, rows_of_judge])
def test_text_stays_text(make, text, tmp_path):
    plain, hostile = tmp_path / "plain.html", tmp_path / "hostile.html"
    write_html(plain, make(), title="x")
    write_html(hostile, make(text), title=text)
    assert Page(hostile).tags == Page(plain).tags
    assert {name for name, _ in Page(hostile).attributes} == {name for name, _ in Page(plain).attributes}
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069]", Page(hostile).source)


@pytest.mark.parametrize("make", [rows_of_bon, rows_of_generate, rows_of_judge])
def test_a_page_needs_nothing_else(make, tmp_path):
    write_html(tmp_path / "page.html", make())
    page = Page(tmp_path / "page.html")
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert not [value for name, value in page.attributes if name in ("src", "href")]
    assert "url(" not in page.source and "default-src 'none'" in page.source


def test_candidates_with_colors_around_their_mean(tmp_path):
    assert write_html(tmp_path / "page.html", rows_of_bon("word", labels=[1.0, 0.0])) == 1
    page = Page(tmp_path / "page.html")
    assert "1.000" in page.text and "-1.000" in page.text and "answer word" in page.text
    assert "✓ right" in page.text and "✗ wrong" in page.text and "blue above and orange below" in page.text
    assert page.source.count('class="token up"') == 1 and 'title="-0.500"' in page.source
    write_html(tmp_path / "page.html", rows_of_bon("word", traces=None, rewards=[None, None]))
    page = Page(tmp_path / "page.html")
    assert "blue above" not in page.text and "token" not in [value for _, value in page.attributes]


@pytest.mark.parametrize("shown_first", ["chosen", "rejected"])
def test_judgments_with_both_confidences_and_the_share_of_each_response(shown_first, tmp_path):
    slow = {"mode": "slow", "texts": [["why A"], ["why B"]], "consistent": False, "intuition": float("nan")}
    rows = rows_of_judge(shown_first=shown_first, correct=shown_first == "chosen") + rows_of_judge(**slow)
    write_html(tmp_path / "page.html", rows)
    page = Page(tmp_path / "page.html")
    shares = re.findall(r"(chosen|rejected)\s*(\d+)%", page.text)
    expected = {"chosen": "80", "rejected": "20"} if shown_first == "chosen" else {"chosen": "20", "rejected": "80"}
    assert dict(shares[:2]) == expected
    assert "intuition  0.60" in page.text and "distribution  0.90" in page.text and "intuition undefined" in page.text
    assert f"2 rows. Written judgments: 1 of 2. Right: {int(shown_first == 'chosen')} of 1." in page.text
    assert "why A" in page.text and "why B" in page.text and "the two orders prefer different responses" in page.text


def test_the_first_rows_of_many(tmp_path):
    assert write_html(tmp_path / "page.html", rows_of_generate() * 205) == 200
    page = Page(tmp_path / "page.html")
    assert "The first 200 of 205 rows" in page.text and page.tags.count("article") == 200


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "must have a row to show, got none"),
        ([{"prompt": "x", "chosen": "a", "rejected": "b"}], r"must be rows of `bon`.*got the columns \['chosen'"),
        ([*rows_of_bon(), {"prompt": "x", "completions": []}], r"Row 1 must have the columns .* lacks \['rewards'\]"),
    ],
)
def test_rows_that_no_command_wrote(rows, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write_html(tmp_path / "page.html", rows)
    assert not (tmp_path / "page.html").exists()

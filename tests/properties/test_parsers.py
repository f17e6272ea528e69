"""Any value of any option: the command line and a file give exactly what was typed, or a usage error."""

import io
import math
import tempfile
from contextlib import redirect_stderr
from dataclasses import MISSING, fields
from pathlib import Path
from types import UnionType
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hf_reward_ext.cli import bon, demo, evaluate, generate, judge

COMMANDS = {
    generate: (generate.GenerateOptions, {"model": "m", "prompt": ["p"]}),
    bon: (bon.BonOptions, {"model": "m", "reward_model": "length", "prompt": ["p"]}),
    judge: (judge.JudgeOptions, {"model": "m", "data": "d.jsonl"}),
    evaluate: (evaluate.EvaluateOptions, {"scorer": "length", "data": "d.jsonl"}),
    demo: (demo.DemoOptions, {}),
}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["-x", "--seed", "--", "-1", "=", "a=b", "'q'", '"q"', "010", "1_0", "1:30", "0x10", "1e3", ".5", "null", "~",
     "yes", "no", "nan", "-inf", "{}", "[a]", "%s", "@file", "#", "a: b", "2020-01-01", "ü \u2028\n\t", "--config=x"]
)  # fmt: skip
FLOATS = st.floats() | st.floats(0, 1)
INTS = st.integers(-3, 40) | st.integers() | st.sampled_from([10**400, -(10**400)])
TYPED = {int: INTS, float: FLOATS | INTS, bool: st.booleans(), str: TEXT}
ANY = st.one_of(st.none(), st.booleans(), INTS, FLOATS, TEXT)


def kind_of(hint):
    """Type of the values of an option, whether it is a list, and its choices."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) is UnionType or type(None) in get_args(hint):
        hint = next(one for one in get_args(hint) if one is not type(None))
    if get_origin(hint) is list:
        return kind_of(get_args(hint)[0])[0], True, ()
    return (str, False, get_args(hint)) if get_origin(hint) is Literal else (hint, False, ())


@st.composite
def typed_options(draw, options):
    """Values of a few options, most of the declared type."""
    hints, values = get_type_hints(options), {}
    named = {field.name: field for field in fields(options)}
    for name in draw(st.lists(st.sampled_from(sorted(named)), min_size=1, max_size=2, unique=True)):
        kind, is_list, choices = kind_of(hints[name])
        one = TYPED[kind] | st.sampled_from(choices) if choices else TYPED[kind]
        usual = st.lists(one, min_size=1, max_size=3) if is_list else one
        values[name] = draw(st.one_of(usual, usual, usual, ANY, st.lists(ANY, max_size=2)))
    return values


def spelled(options, values):
    names = {field.name: field.metadata.get("option", field.name) for field in fields(options)}
    return {names[name]: value for name, value in values.items()}


def parsed(command, arguments):
    """The options, or `None` after a usage error of ours."""
    with redirect_stderr(io.StringIO()) as shown:
        try:
            return command.parse(arguments)[0]
        except SystemExit as error:
            assert error.code == 2, error.code
    assert "hf-reward-ext " in shown.getvalue() and ": error: " in shown.getvalue()
    return None


def is_equal(value, other):
    if isinstance(value, list):
        return isinstance(other, list) and len(value) == len(other) and all(map(is_equal, value, other))
    is_nan = isinstance(value, float) and isinstance(other, float) and math.isnan(value) and math.isnan(other)
    return is_nan or (value == other and isinstance(value, bool) == isinstance(other, bool))


def meant(text, hint):
    """What a text means as a value of an option; `none` and `null` are TRL's words for no value."""
    kind, is_list, _ = kind_of(hint)
    if type(None) in get_args(hint) and not is_list and kind is not str and text.lower() in ("none", "null"):
        return None
    if kind is bool:
        return {"true": True, "yes": True, "t": True, "y": True, "1": True}.get(text.lower(), False)
    return kind(text)


def on_line(options, values):
    arguments = []
    for name, value in spelled(options, values).items():
        if isinstance(value, list):
            arguments += [f"--{name}", *map(str, value)]
        else:
            arguments.append(f"--{name}={value}")
    return arguments


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__.rpartition(".")[2])
@given(data=st.data())
def test_the_command_line_and_a_file_give_what_was_typed(command, data):
    options, base = COMMANDS[command]
    typed = data.draw(typed_options(options))
    hints, defaults = get_type_hints(options), {field.name: field.default for field in fields(options)}
    values = {**base, **typed}
    has_no_spelling = any(isinstance(value, list) and (not value or "--" in value) for value in typed.values())
    line = None if has_no_spelling else parsed(command, on_line(options, values))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "options.yaml"
        file.write_text(yaml.safe_dump(spelled(options, values), allow_unicode=True), encoding="utf-8")
        from_file = parsed(command, ["--config", str(file)])
    for name, value in typed.items():
        _, is_list, _ = kind_of(hints[name])
        items = value if isinstance(value, list) else [value]
        if line is not None:
            expected = [meant(str(item), hints[name]) for item in items]
            assert is_equal(expected if is_list else expected[0], getattr(line, name)), name
        if from_file is not None and value is None:
            assert defaults[name] is not MISSING and getattr(from_file, name) in (None, defaults[name])
        elif from_file is not None:
            expected = [meant(item, hints[name]) if isinstance(item, str) else item for item in items]
            assert is_equal(expected if is_list else expected[0], getattr(from_file, name)), name


@given(text=st.text(st.sampled_from("abs:edmol -?[]{}&*!|>'\"%@`#,\n\t01.~\\"), max_size=30) | st.text(max_size=12))
def test_any_file_is_options_or_a_usage_error(text):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "options.yaml"
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        parsed(generate, ["--model", "m", "--prompt", "p", "--config", str(file)])


@pytest.mark.parametrize("text", ["010", "0x10", "1:30", "1_0", "1e3", "+5", "-0", "0o7", "0b1", "٣"])
def test_a_number_means_the_same_in_a_file(text, tmp_path):
    base, file = ["--model", "m", "--prompt", "p"], tmp_path / "options.yaml"
    for option in ("top_k", "temperature"):
        file.write_text(f"{option}: {text}\n", encoding="utf-8")
        line, from_file = (
            parsed(generate, [*base, f"--{option}={text}"]),
            parsed(generate, [*base, "--config", str(file)]),
        )
        assert line == from_file


@pytest.mark.parametrize(
    "text",
    ["dtype: []", "seed: 3\nseed: 4", "max_rows: 3\nmax-rows: 4", "config: other.yaml", "help: true", "json: 3",
     "debug: 'no'", "[" * 600, "seed: 2020-13-45", "env: {a: 1, a: 2}"],
)  # fmt: skip
def test_what_a_file_cannot_say_is_refused(text, tmp_path):
    file = tmp_path / "options.yaml"
    file.write_text(text)
    assert parsed(generate, ["--model", "m", "--prompt", "p", "--config", str(file)]) is None

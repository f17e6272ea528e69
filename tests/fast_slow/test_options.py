"""Wrong options of a judge are refused by name, before its model reads a token."""

import math

import pytest
import torch
from tiny import tiny_causal_lm, tiny_tokenizer
from tiny_judges import TEMPLATE, VERDICTS, counted, pair_judge, pair_prompt, random_rows
from transformers import LlamaForSequenceClassification, ViTConfig, ViTForImageClassification

from hf_reward_ext.fast_slow import (
    FastSlowRewardModel,
    FastSlowRewardModelConfig,
    FastSlowStoppingCriteria,
    Gate,
    JudgePrompt,
    JudgeTemplate,
    best_response,
    sample_judgments,
)
from hf_reward_ext.fast_slow.decode.decoding import judge_rows
from hf_reward_ext.fast_slow.judge.gate import ALWAYS, NEVER

NAN, INF = math.nan, math.inf
PAIRS = [{"prompt": "w4", "chosen": "w5", "rejected": "w6"}] * 4
NO_NUMBER = (NAN, INF, -INF, "0.5", None, True, [0.5], 1j, torch.tensor(0.5))


@pytest.mark.parametrize("value", [*NO_NUMBER, -0.1])
@pytest.mark.parametrize("field", ["intuition_threshold", "distribution_threshold"])
def test_thresholds(field, value):
    with pytest.raises((ValueError, TypeError), match=f"`{field}` must be a number of at least 0"):
        Gate(**{field: value})


@pytest.mark.parametrize("value", [*NO_NUMBER, 0, -1])
def test_temperatures(value):
    with pytest.raises((ValueError, TypeError), match="`temperature` must be a number above 0"):
        Gate(temperature=value)
    with pytest.raises((ValueError, TypeError), match="`slow_temperature` must be a number above 0"):
        FastSlowRewardModelConfig(slow_temperature=value)


@pytest.mark.parametrize("value", [*NO_NUMBER, -0.1, 1.1])
def test_shares(value):
    with pytest.raises((ValueError, TypeError), match="`weight` must be a number from 0 to 1"):
        Gate(weight=value)
    with pytest.raises((ValueError, TypeError), match="`fast_vote_weight` must be a number from 0 to 1"):
        FastSlowRewardModelConfig(fast_vote_weight=value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(rule="xor"), "`rule` must be one of 'or', 'and', 'weighted', got 'xor'"),
        (dict(rule=None), "`rule` must be one of"),
        (dict(distribution="vocab"), "`distribution` must be one of 'verdict', 'vocabulary', 'top_gap', got 'vocab'"),
        (dict(reference_score=NAN), "`reference_score` must be a number, got nan"),
    ],
)
def test_gates(fields, message):
    with pytest.raises(ValueError, match=message):
        Gate(**fields)
    with pytest.raises(ValueError, match=message):
        Gate.from_dict(fields)
    with pytest.raises(ValueError, match=message):
        FastSlowRewardModelConfig(gate=fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(gate={"threshold": 0.5}), r"`gate` must be a dictionary with any of \['distribution'.*got \{'threshold'"),
        (dict(gate="always"), "`gate` must be a dictionary"),
        (dict(verdicts=["A"]), r"two or more different strings, got \('A',\)"),
        (dict(verdicts=["A"], kind="binary"), "two or more different strings"),
        (dict(verdicts=["A", "A"]), "two or more different strings"),
        (dict(verdicts=["A", " "]), "two or more different strings"),
        (dict(verdicts="AB"), "list of strings, got 'AB'"),
        (dict(verdicts=[1, 2]), "list of strings"),
        (dict(verdicts=None), "list of strings"),
        (dict(verdicts=["A", "B", "C"], kind="pairwise"), "of `kind='pairwise'` must be two"),
        (dict(kind="triple"), "`kind` must be one of"),
        (
            dict(template={"user": "{prompt} {response_a} {response_b}", "sytem": "x"}),
            "`template` must be a dictionary",
        ),
        (dict(template={"system": "x"}), "`template` must be a dictionary with 'user'"),
        (dict(template="{prompt}"), "`template` must be a dictionary"),
        (dict(template={"user": "{prompt} {response_a}"}), r"no \{response_b\}"),
        (dict(num_votes=0), "`num_votes` must be an integer of at least 1, got 0"),
        (dict(num_votes=1.5), "`num_votes` must be an integer"),
        (dict(sampling_temperature=NAN), "`sampling_temperature` must be a number of at least 0, got nan"),
        (dict(sampling_temperature=-1), "`sampling_temperature` must be a number of at least 0"),
        (dict(max_new_tokens=0), "`max_new_tokens` must be an integer of at least 1, got 0"),
        (dict(max_new_tokens=-5), "`max_new_tokens` must be an integer of at least 1"),
        (dict(max_new_tokens=None), "`max_new_tokens` must be an integer"),
    ],
)
def test_configurations(fields, message):
    with pytest.raises((ValueError, TypeError), match=message):
        FastSlowRewardModelConfig(**fields)


SLOTS = "{prompt} {response_a} {response_b} "


@pytest.mark.parametrize(
    ("user", "message"),
    [
        (SLOTS + "{foo}", r"plain slots among prompt, .*got '\{foo\}'"),
        (SLOTS + "{prompt.__class__}", r"got '\{prompt.__class__\}'"),
        (SLOTS + "{prompt.__class__.__mro__[1]}", "plain slots"),
        (SLOTS + "{prompt[0]}", "plain slots"),
        (SLOTS + "{0}", "plain slots"),
        (SLOTS + "{}", "plain slots"),
        (SLOTS + "{prompt!r}", r"got '\{prompt!r\}'"),
        (SLOTS + "{prompt:>9000000000}", r"got '\{prompt:>9000000000\}'"),
        (SLOTS + "{prompt:{first}}", "plain slots"),
        (SLOTS + "{", "unpaired brace"),
        (SLOTS + "}", "unpaired brace"),
        (3, "`user` of a judge template must be a text, got 3"),
    ],
)
def test_templates(user, message):
    with pytest.raises((ValueError, TypeError), match=message):
        JudgeTemplate(user=user)
    with pytest.raises((ValueError, TypeError), match=message):
        FastSlowRewardModelConfig(template={"user": user})


def test_doubled_braces_stay_and_other_fields_are_texts():
    template = JudgeTemplate(user="{{json}} " + SLOTS, base_suffix="")
    assert template.question(("A", "B"), "x", "y", "z").startswith("{json} x")
    for fields in (dict(system=3), dict(base_suffix=None), dict(final_marker=None), dict(final_marker=" \n")):
        with pytest.raises((ValueError, TypeError), match=f"`{next(iter(fields))}` of a judge template must be a text"):
            JudgeTemplate(user=SLOTS, **fields)


COLUMNS = (["w4", "w5"], ["w6", "w7"], ["w8", "w9"])
CALLS = {
    "mode": (
        lambda judge: judge.judge(*COLUMNS, mode="Fast"),
        "`mode` must be one of 'gated', 'fast', 'slow', got 'Fast'",
    ),
    "no prompt": (lambda judge: judge.judge(["w4", None], *COLUMNS[1:]), r"`prompts\[1\]`: .*got None"),
    "no response": (lambda judge: judge.judge(["w4"] * 2, ["w4", None], ["w4"] * 2), r"`responses_a\[1\]`: .*got None"),
    "a number": (lambda judge: judge.judge(["w4"], ["w4"], [3]), r"`responses_b\[0\]`: .*got 3"),
    "no messages": (lambda judge: judge.judge([[]], ["w4"], ["w5"]), r"`prompts\[0\]`: .*at least one message"),
    "one text": (lambda judge: judge.judge("w4", "w5", "w6"), "`prompts` must be a list with one entry per decision"),
    "None": (lambda judge: judge.judge(None, None, None), "`prompts` must be a list"),
    "a dictionary": (lambda judge: judge.judge({"w4": 1}, ["w5"], ["w6"]), "`prompts` must be a list"),
    "lengths": (lambda judge: judge.judge(["w4"], ["w5", "w6"], ["w7"]), r"must have one length, got \[1, 2\]"),
    "single": (lambda judge: judge.score(["w4"], ["w5"]), "compare two"),
    "long": (lambda judge: judge.judge(["w4 " * 300], ["w5"], ["w6"], mode="fast"), "must fit into the 256 tokens"),
    "long, written": (
        lambda judge: judge.judge(["w4 " * 246], ["w5"], ["w6"], mode="slow"),
        "with room for 3 new ones, got 254 for decision 0",
    ),
    "both aims": (lambda judge: judge.calibrate(PAIRS, 0.5, 0.5), "exactly one of `budget` and `risk`"),
    "no aim": (lambda judge: judge.calibrate(PAIRS), "exactly one of `budget` and `risk`"),
    "budget of 2": (lambda judge: judge.calibrate(PAIRS, 2), "`budget` must be a number from 0 to 1, got 2"),
    "budget of nan": (lambda judge: judge.calibrate(PAIRS, NAN), "`budget` must be a number from 0 to 1, got nan"),
    "budget as text": (lambda judge: judge.calibrate(PAIRS, "0.4"), "`budget` must be a number"),
    "risk of 0": (lambda judge: judge.calibrate(PAIRS, risk=0), "`risk` must be a number above 0 and below 1, got 0"),
    "risk of 1": (lambda judge: judge.calibrate(PAIRS, risk=1), "`risk` must be a number above 0 and below 1"),
    "risk of nan": (
        lambda judge: judge.calibrate(PAIRS, risk=NAN),
        "`risk` must be a number above 0 and below 1, got nan",
    ),
    "confidence of 2": (
        lambda judge: judge.calibrate(PAIRS, risk=0.5, confidence=2),
        "`confidence` must be a number above 0 and below 1, got 2",
    ),
    "confidence of nan": (lambda judge: judge.calibrate(PAIRS, 0.5, confidence=NAN), "`confidence` must be"),
    "too few pairs": (
        lambda judge: judge.calibrate(PAIRS, risk=0.05),
        "takes 59 held-out decisions even without an error, got 4",
    ),
    "fuse alone": (lambda judge: judge.calibrate(PAIRS, 0.5, fuse=True), "`fuse=True` must come with `slow=True`"),
    "no pairs": (lambda judge: judge.calibrate([], 0.5), "held-out pairs must not be empty"),
    "a late column": (
        lambda judge: judge.calibrate([*PAIRS, {"prompt": "w4", "chosen": "w5"}], 0.5),
        r"Row 4 .* lacks \['rejected'\]",
    ),
    "no chosen": (
        lambda judge: judge.calibrate([*PAIRS, {**PAIRS[0], "chosen": None}], 0.5),
        r"`chosen` of row 4: .*got None",
    ),
    "max_leaders": (
        lambda judge: best_response(judge, "w4", ["w5", "w6"], max_leaders=0),
        "`max_leaders` must be an integer of at least 1",
    ),
    "leaders' threshold": (
        lambda judge: best_response(judge, "w4", ["w5", "w6"], threshold=NAN),
        "`threshold` must be",
    ),
    "no responses": (lambda judge: best_response(judge, "w4", []), "at least one response"),
    "samples": (lambda judge: sample_judgments(judge, PAIRS, num_samples=3), "`num_samples` must be"),
    "greedy samples": (
        lambda judge: sample_judgments(judge, PAIRS, temperature=0),
        "`temperature` must be a number above 0",
    ),
    "hot samples": (
        lambda judge: sample_judgments(judge, PAIRS, temperature=NAN),
        "`temperature` must be a number above 0",
    ),
    "short samples": (
        lambda judge: sample_judgments(judge, PAIRS, max_new_tokens=1),
        "`max_new_tokens` must be above 2",
    ),
}


@pytest.mark.parametrize(("call", "message"), CALLS.values(), ids=CALLS)
def test_calls(call, message):
    judge = pair_judge()
    with counted(judge.causal_lm) as shapes, pytest.raises((ValueError, TypeError), match=message):
        call(judge)
    assert shapes == []


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("batch_size", 0, "`batch_size` must be an integer of at least 1, got 0"),
        ("batch_size", 2.5, "`batch_size` must be an integer"),
        ("max_new_tokens", 0, "`max_new_tokens` must be an integer of at least 1"),
        ("max_new_tokens", 2, "`max_new_tokens` must be above 2, .*`analysis_prefix`, got 2"),
        ("num_votes", 2, "`temperature` must be above 0 with `num_votes=2`, got 0.0"),
    ],
)
def test_settings_of_a_judge_that_were_changed(name, value, message):
    judge = pair_judge(gate=Gate(ALWAYS, ALWAYS))
    setattr(judge if name == "batch_size" else judge.config, name, value)
    with counted(judge.causal_lm) as shapes, pytest.raises((ValueError, TypeError), match=message):
        judge.judge(*COLUMNS)
    assert shapes == []


def test_a_judge_that_never_writes_needs_no_room_for_it():
    judge = pair_judge(max_new_tokens=1, gate=Gate(NEVER, NEVER))
    assert [one.mode for one in judge.judge(*COLUMNS)] == ["fast", "fast"]
    assert judge.judge([], [], []) == [] and pair_judge().judge(iter(["w4"]), ("w5",), ["w6"])


def classifier():
    return LlamaForSequenceClassification(tiny_causal_lm().config)


def image_model():
    return ViTForImageClassification(
        ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    )


@pytest.mark.parametrize("make", [classifier, image_model, lambda: None, lambda: "name", lambda: torch.nn.Linear(2, 2)])
def test_models_that_are_no_judge(make):
    with pytest.raises(TypeError, match="`causal_lm` must be a causal LM, got"):
        FastSlowRewardModel(make(), tiny_tokenizer(), VERDICTS, template=TEMPLATE)


def test_the_constructor():
    model, tokenizer = tiny_causal_lm(), tiny_tokenizer()
    for tokenizer_of_another_kind in (None, "name"):
        with pytest.raises(TypeError, match="`tokenizer` must be a tokenizer"):
            FastSlowRewardModel(model, tokenizer_of_another_kind, VERDICTS, template=TEMPLATE)
        with pytest.raises(TypeError, match="`tokenizer` must be a tokenizer"):
            JudgePrompt(tokenizer_of_another_kind, VERDICTS, TEMPLATE)
    with pytest.raises(ValueError, match="embedding for each of the tokenizer's 32 ids, got 20"):
        FastSlowRewardModel(tiny_causal_lm(vocab_size=20), tokenizer, VERDICTS, template=TEMPLATE)
    with pytest.raises(ValueError, match="`gate` must come without thresholds"):
        pair_judge(gate=Gate(), intuition_threshold=0.3)
    config = FastSlowRewardModelConfig(verdicts=VERDICTS, template=TEMPLATE.to_dict())
    assert FastSlowRewardModel(model, tokenizer, config=config).config is config
    with pytest.raises(ValueError, match=r"`config` must come without other settings, got \['gate', 'num_votes'\]"):
        FastSlowRewardModel(model, tokenizer, config=config, num_votes=3, intuition_threshold=0.3)
    with pytest.raises(TypeError, match="batch_size"):
        pair_judge(batch_size="8")


def test_rows_of_the_generation_hook():
    model, prompt = tiny_causal_lm(), pair_prompt()
    for kwargs, message in (
        (dict(pairing="both"), "`pairing` must be one of"),
        (dict(pairing="orders"), "even number of rows, got 3"),
        (dict(num_votes=0), "`num_votes` must be"),
        (dict(temperature=NAN), "`temperature` must be a number of at least 0"),
        (dict(max_new_tokens=2), "`max_new_tokens` must be above 2"),
    ):
        with counted(model) as shapes, pytest.raises(ValueError, match=message):
            judge_rows(model, random_rows((3, 4, 5)), prompt, Gate(), **kwargs)
        assert shapes == []
    with pytest.raises(ValueError, match="row 1 is empty"):
        judge_rows(model, [[3], []], prompt, Gate())
    for kwargs, message in (
        (dict(prompt_length=0), "`prompt_length` must be an integer of at least 1"),
        (dict(prompt_length=7, intuition_threshold=NAN), "`intuition_threshold` must be"),
        (dict(prompt_length=7, pairing="both"), "`pairing` must be one of"),
        (dict(prompt_length=7, gate=Gate(), intuition_threshold=0.3), "`gate` must come without thresholds"),
    ):
        with pytest.raises(ValueError, match=message):
            FastSlowStoppingCriteria([3, 4], **kwargs)

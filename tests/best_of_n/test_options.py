"""Options hold wherever they are given, prompts and rewards of every form; what does not fit is refused before work."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from tiny import tiny_causal_lm, tiny_tokenizer
from transformers import GenerationConfig, LlamaConfig, LlamaForSequenceClassification, pipeline
from transformers.pipelines.pt_utils import KeyDataset

from hf_reward_ext.best_of_n import BetaVotes, Pruning, Resampling, sft_rows
from hf_reward_ext.elhsr import ELHSRModel

SAMPLING = dict(max_new_tokens=6, temperature=1.0)
CHAT = [{"role": "user", "content": "w1 w2"}]


def length(prompts, completions):
    return [len(completion) for completion in completions]


def last_word(text):
    return text.split()[-1] if text.split() else None


def never(drawn):
    return False


def bon(reward_model=None, **kwargs):
    torch.manual_seed(0)  # for the head
    policy, tokenizer = tiny_causal_lm(), tiny_tokenizer()
    reward_model = reward_model or ELHSRModel.from_policy(policy, tokenizer)
    return pipeline("reward-bon", model=policy, tokenizer=tokenizer, reward_model=reward_model, **kwargs)


OPTIONS = {
    "num_candidates": dict(num_candidates=3),
    "stop": dict(num_candidates=(2, 4), stop=lambda drawn: len(drawn.scores) >= 4),
    "return_all": dict(return_all=True),
    "vote": dict(vote="majority", extract_answer=last_word),
    "prune": dict(prune=Pruning((2, 4))),
    "resampling": dict(prune=Resampling((2, 4))),
    "candidates_per_batch": dict(candidates_per_batch=3),
    "combine": dict(combine="max_rank"),
    "seed": dict(seed=7),
    "show_progress": dict(show_progress=True),
    "max_new_tokens": dict(max_new_tokens=3),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_of_the_pipeline_is_one_of_its_calls(option, capsys):
    common = dict(second_reward_model=length if option == "combine" else None)
    settings = dict(seed=1, return_all=True, num_candidates=8, show_progress=False, **SAMPLING)
    settings = {name: value for name, value in settings.items() if name not in OPTIONS[option]}
    made = bon(**OPTIONS[option], **common)(["w1 w2", "w3 w4"], **settings)
    shown = capsys.readouterr().err
    plain = bon(**common)
    assert plain(["w1 w2", "w3 w4"], **OPTIONS[option], **settings) == made
    assert bool(capsys.readouterr().err) == bool(shown) == (option == "show_progress")
    defaults = dict(num_candidates=16, return_all=False, combine="min_max")
    if option in ("seed", "max_new_tokens", "show_progress"):
        return  # whose default shows only in what is not returned
    reset = dict.fromkeys(OPTIONS[option])
    again = bon(**OPTIONS[option], **common)("w1 w2", **reset, **settings)
    explicit = {name: defaults[name] for name in reset if name in defaults}
    assert again == plain("w1 w2", **explicit, **settings)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (dict(num_candidates=0), ValueError, "`num_candidates` must be at least 1, got 0"),
        (dict(num_candidates=2.5), TypeError, "`num_candidates` must be an integer, got 2.5"),
        (dict(num_candidates=True), TypeError, "must be an integer"),
        (dict(candidates_per_batch="4"), TypeError, "`candidates_per_batch` must be an integer"),
        (dict(candidates_per_batch=2, prune=Pruning((2,))), ValueError, "must not be given together"),
        (dict(vote="majority"), ValueError, "`extract_answer` must be given"),
        (dict(vote="majority", extract_answer=3), TypeError, "`extract_answer` must be callable"),
        (dict(prune=Pruning((2,), keep=1, min_reward=0.0), candidates_per_batch=1), ValueError, "together"),
        (dict(prune=(2, 4)), TypeError, "`prune` must be a `Pruning` or a `Resampling`"),
        (dict(combine="min_max"), ValueError, "needs a `second_reward_model`"),
        (dict(vote="majority", extract_answer=lambda: 1), TypeError, "`extract_answer` must be callable with 1 arg"),
        (dict(extract_answer=last_word), ValueError, "`vote` must be given with `extract_answer`"),
        (dict(seed=-1), ValueError, "`seed` must be an integer of at least 0"),
        (dict(seed=2**32), ValueError, "`seed` must be an integer of at most"),
        (dict(seed=True), TypeError, "`seed` must be an integer"),
        (dict(return_all="no"), TypeError, "`return_all` must be True or False, got 'no'"),
        (dict(show_progress=1), TypeError, "`show_progress` must be True or False, got 1"),
        (dict(batch_size=0), ValueError, "`batch_size` must be an integer of at least 1"),
        (dict(batch_size="2"), TypeError, "`batch_size` must be an integer"),
        (dict(streamer=object()), ValueError, "`streamer` must be None for 16 candidates"),
        (dict(assistant_model=object()), ValueError, "`assistant_model` must be None for 16 candidates"),
        (dict(prompt_lookup_num_tokens=2), ValueError, "`prompt_lookup_num_tokens` must be None for 16 candidates"),
        (dict(max_length=500), ValueError, "2 tokens was given with `max_length=500`.*at most 256"),
        (
            dict(generation_config=GenerationConfig(max_new_tokens=500, do_sample=True)),
            ValueError,
            "2 tokens was given with `max_new_tokens=500`.*at most 256",
        ),
        (dict(num_beams=3), ValueError, "candidates are sampled"),
        (dict(max_new_tokens=500), ValueError, "2 tokens was given with `max_new_tokens=500`.*at most 256"),
        (dict(num_candidates=(4, 8)), ValueError, "without `stop`"),
        (dict(stop="beta"), ValueError, r"`stop` was given with `num_candidates=16`"),
        (dict(num_candidates=(8, 4), stop=never), ValueError, "Swap them"),
        (dict(num_candidates=(0, 4), stop=never), ValueError, "must be at least 1, got 0"),
        (dict(num_candidates=(1.5, 4), stop=never), TypeError, "must be an integer"),
        (dict(num_candidates=(1, 2, 3), stop=never), ValueError, "the least and the most, got"),
        (dict(num_candidates=(2, 4), stop="beta"), ValueError, "counts votes"),
        (dict(num_candidates=(2, 4), stop=BetaVotes()), ValueError, "counts votes"),
        (dict(num_candidates=(2, 4), stop="best"), ValueError, "`stop` must be 'beta'.*got 'best'"),
        (dict(num_candidates=(2, 4), stop=0.95), TypeError, "got `float`"),
        (dict(num_candidates=(2, 4), stop=BetaVotes), TypeError, "got `BetaVotes`"),
        (dict(num_candidates=(2, 4), stop="expected_improvement"), ValueError, "needs the price of a token"),
        (dict(num_candidates=(2, 4), stop=never, do_sample=False), ValueError, "must be True for 4 candidates"),
    ],
)
def test_options_are_checked_before_anything_is_sampled(given, error, message, monkeypatch):
    pipe = bon()
    monkeypatch.setattr(type(pipe.model), "forward", lambda *_, **__: pytest.fail("work began"))
    with pytest.raises(error, match=message):
        pipe("w1 w2", **given)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([], "got an empty list"),
        (None, "`prompt` must be text or a list of messages, got None"),
        (3, "`prompt` must be text or a list of messages, got 3"),
        (["w1", None], r"`prompts\[1\]` must be text or a list of messages, got None"),
        (["w1", 3], r"`prompts\[1\]` must be text or a list of messages, got 3"),
        (["w1", ""], r"`prompts\[1\]` must have text.*An empty prompt"),
        (["w1", []], r"`prompts\[1\]` must have text, got an empty list"),
        ([CHAT, []], r"`prompts\[1\]` must have text, got an empty list"),
        ([CHAT, [{"role": "user"}]], r"`prompts\[1\]\[0\]\['content'\]` must be text, got None"),
        ([[{"role": "user", "content": [{"type": "image"}]}]], "must hold text parts only, got one of type 'image'"),
        (["w1", CHAT], "all be text or all be chats"),
        (" ", "`prompt` must have at least one token, got ' '"),
        (["w1", "\n"], r"`prompts\[1\]` must have at least one token"),
        (["w1", "w2 " * 300], r"`prompts\[1\]` of 300 tokens was given, but the policy reads at most 256"),
        ({"prompt": "w1"}, "`prompt` must be text or a list of messages"),
        (Dataset.from_dict({"prompt": ["w1"]}), r"`prompt\[0\]` must be a message with 'role' and 'content'"),
    ],
)
def test_prompts_are_checked_before_anything_is_sampled(prompts, message, monkeypatch):
    pipe = bon(length)
    monkeypatch.setattr(type(pipe.model), "forward", lambda *_, **__: pytest.fail("work began"))
    with pytest.raises(ValueError, match=message):
        pipe(prompts, **SAMPLING)


@pytest.mark.parametrize(
    "prompts",
    [
        ("w1 w2", "w3"),
        (prompt for prompt in ["w1 w2", "w3"]),
        iter(["w1 w2", "w3"]),
        Dataset.from_dict({"prompt": ["w1 w2", "w3"]})["prompt"],
        KeyDataset(Dataset.from_dict({"prompt": ["w1 w2", "w3"]}), "prompt"),
        np.array(["w1 w2", "w3"]),
        {"w1 w2": 1, "w3": 2}.keys(),
    ],
    ids=["tuple", "generator", "iterator", "column", "key dataset", "array", "keys"],
)
def test_prompts_come_in_any_form(prompts):
    expected = bon(length)(["w1 w2", "w3"], seed=0, return_all=True, **SAMPLING)
    assert list(bon(length)(prompts, seed=0, return_all=True, **SAMPLING)) == expected


async def asynchronous(prompts, completions, **_):
    return [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("reward", "scores"),
    [
        (lambda prompts, completions: [None, 1.0, 2.0, 3.0], [3.0, 2.0, 1.0, None]),
        (lambda prompts, completions: [float("nan"), 1.0, 2.0, 3.0], [3.0, 2.0, 1.0, None]),
        (lambda p, c: (value for value in (1, None, 3, None)), [3.0, 1.0, None, None]),
        (lambda completion_ids, **_: [len(ids) for ids in completion_ids], None),
        (asynchronous, [4.0, 3.0, 2.0, 1.0]),
    ],
)
def test_rewards_of_every_convention(reward, scores):
    records = bon(reward, num_candidates=4)("w1 w2", return_all=True, seed=0, **SAMPLING)
    found = [record["score"] for record in records]
    assert found == (scores or sorted((record["num_tokens"] for record in records), reverse=True))


@pytest.mark.parametrize(
    ("reward", "error", "message"),
    [
        (lambda prompts, completions: [None] * 4, ValueError, "at least one of the 4 candidates"),
        (lambda prompts, completions: [float("nan")] * 4, ValueError, "at least one of the 4 candidates"),
        (lambda prompts, completions: [1.0, 1j, 1.0, 1.0], TypeError, "returned a `complex` for response 1"),
        (lambda prompts, completions: [float("inf"), 1, 1, 1], ValueError, "infinity for 1 of 4 responses"),
        (lambda prompts, completions: [1.0], ValueError, r"returned shape \(1,\) for 4 responses"),
        (lambda prompts, completions: {"a": 1.0}, TypeError, "returned a `dict`"),
        (lambda prompts, completions: [asynchronous([], [])] * 4, TypeError, "returned a `coroutine` for response 0"),
    ],
)
@pytest.mark.filterwarnings("ignore:coroutine 'asynchronous' was never awaited:RuntimeWarning")
def test_what_is_no_reward_is_refused(reward, error, message):
    with pytest.raises(error, match=message):
        bon(reward, num_candidates=4)("w1 w2", **SAMPLING)


@pytest.mark.parametrize("reward", [lambda text: [0.0], lambda completions, answer: [0.0], 3, dict])
def test_what_cannot_be_called_is_refused_before_anything_is_sampled(reward):
    with pytest.raises(TypeError):
        bon(reward)


def test_candidates_without_a_score_make_no_rows_and_no_weighted_votes():
    records = bon(lambda p, c: [None, 1.0, 1.0, 1.0], num_candidates=4)(
        "w1 w2", return_all=True, vote="weighted", extract_answer=lambda text: text, **SAMPLING
    )
    assert records[-1]["score"] is None
    second = bon(length, second_reward_model=lambda p, c: [None, 5, 6, 7], num_candidates=4)
    scores = [record["score"] for record in second("w1 w2", return_all=True, **SAMPLING)]
    assert scores[-1] is None and None not in scores[:-1]
    assert sft_rows("w1 w2", [{"generated_text": "w1 w2 w3", "score": None}]) == []


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (list, TypeError, "got a `list`"),
        (lambda: ([],), TypeError, "got a `tuple`"),
        (lambda: torch.tensor(1), TypeError, "got a `Tensor`"),
        (lambda: np.ones(2), TypeError, "got a `ndarray`"),
        (lambda: iter("ab"), TypeError, "got a `str_ascii_iterator`"),
        (lambda: float("nan"), ValueError, "must return `None` for no answer, got nan"),
    ],
    ids=["list", "list inside", "tensor", "array", "iterator", "nan"],
)
def test_answers_that_cannot_be_counted_are_refused(answer, error, message):
    with pytest.raises(error, match=message):
        bon(length, num_candidates=2)("w1", vote="majority", extract_answer=lambda _: answer(), **SAMPLING)


@pytest.mark.parametrize(
    "found",
    [float("nan"), np.array([True, False]), torch.tensor([1, 0]), iter("ab")],
    ids=["nan", "array", "tensor", "iterator"],
)
def test_a_rule_that_returns_neither_true_nor_false_is_refused(found):
    with pytest.raises(TypeError, match="`stop` must return True, False, a text or None"):
        bon(length)("w1", num_candidates=(2, 4), stop=lambda drawn: found, **SAMPLING)


def test_functions_get_the_messages_of_a_chat():
    seen = []

    def reward(prompts, completions, **_):
        seen.extend(zip(prompts, completions, strict=True))
        return [len(completion[0]["content"]) for completion in completions]

    [record] = bon(reward, num_candidates=2)(CHAT, **SAMPLING)
    assert all(prompt == CHAT and completion[0]["role"] == "assistant" for prompt, completion in seen)
    assert record["score"] == len(record["generated_text"][-1]["content"])
    prefilled = [*CHAT, {"role": "assistant", "content": "w3 "}]
    [record] = bon(reward, num_candidates=2)(prefilled, **SAMPLING)
    assert seen[-1][0] == CHAT and seen[-1][1][0]["content"].startswith("w3 ")
    assert record["score"] == len(record["generated_text"][-1]["content"])


def test_an_answer_that_was_begun_is_one_turn_for_a_reward_model():
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_labels=1, pad_token_id=0,
    )  # fmt: skip
    reward, read = LlamaForSequenceClassification(config).eval(), []
    reward.register_forward_pre_hook(lambda module, args, kwargs: read.extend(kwargs["input_ids"]), with_kwargs=True)
    bon(reward, num_candidates=2)([*CHAT, {"role": "assistant", "content": "w3 "}], **SAMPLING)
    for ids in read:
        assert tiny_tokenizer().decode(ids).count("assistant : w3") == 1
        assert tiny_tokenizer().decode(ids).startswith("user : w1 w2 assistant : w3")


@pytest.mark.parametrize(("prompt", "value"), [(CHAT, True), ([*CHAT, {"role": "assistant", "content": "w3"}], False)])
def test_a_chat_is_continued_with_the_assistants_answer_only(prompt, value):
    with pytest.raises(ValueError, match=f"`continue_final_message` must be None .*got {value}"):
        bon(length)(prompt, continue_final_message=value, **SAMPLING)

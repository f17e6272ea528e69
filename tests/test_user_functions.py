"""Functions of the user are bound to their arguments before any work, wherever they are given."""

import inspect

import pytest
from tiny import tiny_causal_lm

from hf_reward_ext.base.scoring.pair import PairScorer
from hf_reward_ext.best_of_n import DraftBlocks, sft_rows, write_best_of_n
from hf_reward_ext.best_of_n.options import BestOfNOptions
from hf_reward_ext.cli.functions import load_function
from hf_reward_ext.evaluation import evaluate_best_of_n
from hf_reward_ext.genarm import GenARMLogitsProcessor
from hf_reward_ext.rewards import StepReward
from hf_reward_ext.rewards.steps import check_marks
from hf_reward_ext.sla.streaming import ChunkSender

ROWS = [{"prompt": "w1", "completions": ["w2", "w3"], "labels": [1, 0]}]


def length(completions, **_):
    return [float(len(one)) for one in completions]


PLACES = {
    "extract_answer": (1, lambda f: BestOfNOptions(vote="majority", extract_answer=f)),
    "stop": (1, lambda f: BestOfNOptions(num_candidates=(2, 4), stop=f)),
    "combine": (2, lambda f: BestOfNOptions(combine=f)),
    "rows": (2, lambda f: write_best_of_n(length, ["w1"], "never.jsonl", f)),
    "accept": (2, lambda f: sft_rows("w1", [], accept=f)),
    "log_odds": (3, PairScorer),
    "marks": (1, check_marks),
    "marks of a reward": (1, lambda f: StepReward(length, f)),
    "alpha": (1, lambda f: GenARMLogitsProcessor(tiny_causal_lm(), f)),
    "reward of blocks": (3, lambda f: DraftBlocks(tiny_causal_lm(), f, threshold=0.5)),
    "on_chunk": (1, lambda f: ChunkSender(f, [])),
    "extract_answer of an evaluation": (1, lambda f: evaluate_best_of_n(length, ROWS, extract_answer=f)),
}


def takes_nothing():
    pytest.fail("called")


def takes_more(*, needed):
    pytest.fail("called")


async def asynchronous(*arguments):
    pytest.fail("called")


class AsynchronousObject:
    async def __call__(self, *arguments):
        pytest.fail("called")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "function",
    [takes_nothing, takes_more, asynchronous, AsynchronousObject()],
    ids=["none", "keyword", "async", "async object"],
)
def test_a_function_that_cannot_be_called_is_refused_before_work(place, function, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    count, give = PLACES[place]
    is_async = inspect.iscoroutinefunction(function) or not inspect.isfunction(function)
    message = "got an asynchronous function" if is_async else f"must be callable with {count} argument"
    with pytest.raises(TypeError, match=f"`{place.split()[0]}` .*{message}"):
        give(function)
    assert not list(tmp_path.iterdir())


def test_builtins_without_a_signature_are_taken():
    BestOfNOptions(vote="majority", extract_answer=str)
    check_marks(str.split)


@pytest.mark.parametrize("option", ["--label", "--extract_answer", "--engine"])
def test_functions_of_commands_return_their_results(option, tmp_path, monkeypatch):
    (tmp_path / "user_functions.py").write_text("async def asynchronous(*arguments): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TypeError, match=f"`{option}` must return its result .*'user_functions:asynchronous'"):
        load_function("user_functions:asynchronous", option, ("", ""))


@pytest.mark.parametrize("prompts", ["w1 w2", [{"role": "user", "content": "w1"}]], ids=["text", "chat"])
def test_a_single_prompt_is_not_a_list_of_prompts(prompts, tmp_path):
    with pytest.raises(TypeError, match="`prompts` must be a list of prompts, got a single prompt"):
        write_best_of_n(length, prompts, tmp_path / "rows.jsonl")
    assert not list(tmp_path.iterdir())

"""`candidates_per_batch="auto"`: memory that runs out costs time, and neither loses nor changes candidates."""

import functools

import numpy as np
import pytest
import torch
from tiny import tiny_causal_lm, tiny_tokenizer
from transformers import pipeline

from hf_reward_ext.best_of_n import EngineBestOfN, Pruning, fitting
from hf_reward_ext.best_of_n.fitting import is_out_of_memory
from hf_reward_ext.elhsr import ELHSRModel
from hf_reward_ext.engines import ServerGenerator, TransformersGenerator

PROMPTS = ["w1 w2 w3", "w4", "w5 w6", "w7 w8"]
SAMPLING = dict(max_new_tokens=6, temperature=1.3, seed=5, return_all=True)
ERRORS = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "cpu": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
    "mps": RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
    "python": MemoryError(),
}
OTHERS = [RuntimeError("shapes do not match"), ValueError("out of memory."), KeyboardInterrupt()]


@pytest.fixture(autouse=True)
def cleared(monkeypatch):
    """What would be collected after an error; to collect the objects of all tests is slow."""
    calls = []
    monkeypatch.setattr(fitting, "clear_device_cache", lambda garbage_collection: calls.append(garbage_collection))
    return calls


class Counted:
    """A reward of texts that records what it scored."""

    __name__ = "counted"

    def __init__(self):
        self.scored = []

    def __call__(self, prompts, completions):
        self.scored += zip(prompts, completions, strict=True)
        return [float(len(text)) for text in completions]


def make_pipe(reward):
    torch.manual_seed(0)
    policy, tokenizer = tiny_causal_lm(), tiny_tokenizer()
    reward = ELHSRModel.from_policy(policy, tokenizer) if reward == "head" else reward
    return pipeline("reward-bon", model=policy, tokenizer=tokenizer, reward_model=reward)


def limit_memory(model, monkeypatch, rows, error, tokens=0):
    """Let forwards of more rows fail, after some tokens of the call were written; return the rows that failed."""
    forward, failed, done = model.forward, [], {}

    @functools.wraps(forward)  # its signature names the arguments that the model takes
    def limited(input_ids, *args, **kwargs):
        count = len(input_ids)
        done[count] = done.get(count, -1) + 1
        if count > rows and done[count] >= tokens:
            done[count] = -1
            failed.append(count)
            raise error
        return forward(input_ids, *args, **kwargs)

    monkeypatch.setattr(model, "forward", limited)
    return failed


def texts_of(results):
    return [sorted((one["generated_text"], one["num_tokens"]) for one in group) for group in results]


@pytest.mark.parametrize("counts", [dict(num_candidates=9), dict(num_candidates=(5, 9), stop=lambda drawn: False)],
                         ids=["fixed", "waves"])  # fmt: skip
@pytest.mark.parametrize(("reward", "rows", "tokens", "error"), [
    ("head", 4, 0, "cuda"), ("head", 13, 2, "cpu"), ("confidence", 5, 3, "cpu"), ("text", 13, 2, "python"),
    ("text", 4, 3, "cuda"),
])  # fmt: skip
def test_candidates_do_not_depend_on_what_fits(counts, reward, rows, tokens, error, monkeypatch):
    counted = Counted()
    pipe = make_pipe(counted if reward == "text" else reward)
    settings = dict(**counts, **SAMPLING, candidates_per_batch="auto", batch_size=4)
    whole = pipe(PROMPTS, **settings)
    scored, counted.scored = sorted(counted.scored), []
    failed = limit_memory(pipe.model, monkeypatch, rows, ERRORS[error], tokens)
    found = pipe(PROMPTS, **settings)
    assert failed and len(failed) == len(set(failed))  # a size that failed is not tried again
    assert texts_of(found) == texts_of(whole) and [len(group) for group in found] == [9] * 4
    for group, other in zip(found, whole, strict=True):
        assert [one["score"] for one in group] == pytest.approx([one["score"] for one in other], abs=1e-4)
    assert sorted(counted.scored) == scored  # each candidate once


def test_the_first_prompts_show_what_fits_for_the_others(monkeypatch):
    pipe = make_pipe(Counted())
    failed = limit_memory(pipe.model, monkeypatch, 3, ERRORS["cuda"])
    pipe(PROMPTS, num_candidates=8, candidates_per_batch="auto", **SAMPLING)
    assert failed == [8, 4]


def test_a_fixed_number_is_that_of_waves():
    pipe = make_pipe(Counted())
    fixed = pipe(PROMPTS, num_candidates=6, candidates_per_batch="auto", **SAMPLING)
    waves = pipe(PROMPTS, num_candidates=(2, 6), stop=lambda drawn: False, batch_size=2, **SAMPLING)
    assert texts_of(fixed) == texts_of(waves)


def test_candidates_of_an_engine_in_this_process(monkeypatch):
    counted, policy = Counted(), tiny_causal_lm()
    best_of_n = EngineBestOfN(TransformersGenerator(policy, tiny_tokenizer()), counted, candidates_per_batch="auto")
    settings = dict(num_candidates=7, max_new_tokens=6, seed=3, return_all=True)
    whole = best_of_n(PROMPTS, **settings)
    failed = limit_memory(policy, monkeypatch, 9, ERRORS["cpu"], tokens=2)
    counted.scored = []
    assert best_of_n(PROMPTS, **settings) == whole and failed == [28, 12]
    assert len(counted.scored) == 28


@pytest.mark.parametrize("error", ERRORS)
def test_a_candidate_that_does_not_fit_is_an_error(error, monkeypatch):
    pipe = make_pipe(Counted())
    limit_memory(pipe.model, monkeypatch, 1, ERRORS[error], tokens=1)
    with pytest.raises(RuntimeError, match="One candidate of each of 4 prompts must fit in memory.*Lower `batch_size`"):
        pipe(PROMPTS, num_candidates=4, candidates_per_batch="auto", batch_size=4, **SAMPLING)


@pytest.mark.parametrize("error", OTHERS, ids=lambda error: type(error).__name__)
def test_another_error_is_not_tried_again(error, monkeypatch):
    pipe = make_pipe(Counted())
    failed = limit_memory(pipe.model, monkeypatch, 1, error, tokens=1)
    with pytest.raises(type(error), match=f"^{error}$"):
        pipe("w1 w2", num_candidates=4, candidates_per_batch="auto", **SAMPLING)
    assert failed == [4]


def test_an_error_of_the_reward_is_not_tried_again():
    calls = []

    def reward(prompts, completions):
        calls.append(completions)
        raise torch.OutOfMemoryError("CUDA out of memory.")

    for counts in (dict(num_candidates=4), dict(num_candidates=(2, 4), stop=lambda drawn: False)):
        with pytest.raises(torch.OutOfMemoryError):
            make_pipe(reward)("w1 w2", candidates_per_batch="auto", **counts, **SAMPLING)
    assert [len(one) for one in calls] == [4, 2]


def test_every_candidate_is_in_one_batch_whatever_fails(cleared):
    rng = np.random.default_rng(0)
    for _ in range(300):
        batches, start, count = fitting.FittingBatches(), int(rng.integers(5)), int(rng.integers(1, 40))
        for prompts in rng.integers(1, 6, size=3).tolist():
            limit = int(rng.integers(prompts, 60))

            def sample(numbers, prompts=prompts, limit=limit):
                if len(numbers) * prompts > limit:
                    raise ERRORS[str(rng.choice(list(ERRORS)))]
                return list(numbers)

            numbers = range(start, start + count)
            made = list(batches.sample(numbers, prompts, sample))
            assert sum(made, []) == list(numbers)
            assert all(len(part) * prompts <= limit for part in made)
    assert cleared and all(cleared)  # what the failed call left is collected


def test_what_is_lack_of_memory():
    assert all(map(is_out_of_memory, ERRORS.values()))
    assert not any(map(is_out_of_memory, OTHERS))


@pytest.mark.parametrize(("settings", "error", "message"), [
    (dict(candidates_per_batch="all"), TypeError, "must be an integer or 'auto', got 'all'"),
    (dict(candidates_per_batch="auto", prune=Pruning((2,))), ValueError, "`candidates_per_batch` and `prune`"),
])  # fmt: skip
def test_wrong_settings(settings, error, message):
    with pytest.raises(error, match=message):
        make_pipe("head")("w1", **settings)


def test_a_server_manages_its_own_memory():
    with pytest.raises(ValueError, match="must be an integer for a server.*Leave it out"):
        EngineBestOfN(ServerGenerator("http://127.0.0.1:1/v1", "m"), Counted(), candidates_per_batch="auto")

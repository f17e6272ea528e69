"""Training-free rewards in the pipeline."""

import pytest
import torch
from tiny import tiny_causal_lm, tiny_tokenizer
from transformers import pipeline

from hf_reward_ext import evaluate_best_of_n
from hf_reward_ext.base.scoring.scorer import as_scorer
from hf_reward_ext.best_of_n import Pruning
from hf_reward_ext.cli.options import TRAINING_FREE
from hf_reward_ext.confidence import GroupConfidence, LogitsReward, LogitsRewardModel, MeanLogProbability
from hf_reward_ext.confidence.names import MEASURES, as_measure

SAMPLING = dict(max_new_tokens=6, temperature=1.3)


def bon(reward_model, **kwargs):
    tokenizer = tiny_tokenizer()
    return pipeline(
        "reward-bon", model=tiny_causal_lm(), tokenizer=tokenizer, reward_model=reward_model, num_candidates=6, **kwargs
    )


@pytest.mark.parametrize("name", MEASURES)
def test_a_name_is_a_reward(name):
    pipe = bon(name)
    records = pipe("w1 w2 w3", seed=3, return_all=True, **SAMPLING)
    scores = [record["score"] for record in records]
    assert scores == sorted(scores, reverse=True)
    inputs = pipe.tokenizer("w1 w2 w3", return_tensors="pt", return_token_type_ids=False)
    torch.manual_seed(3)
    with LogitsReward(pipe.model, name) as reader:
        pipe.model.generate(**inputs, do_sample=True, num_return_sequences=6, **SAMPLING)
    assert scores == pytest.approx(sorted(reader.rewards.tolist(), reverse=True), abs=1e-5)
    assert bon(as_measure(name))("w1 w2 w3", seed=3, return_all=True, **SAMPLING) == records


def test_names_are_those_of_the_command_line():
    assert tuple(MEASURES) == TRAINING_FREE


def test_it_prunes_votes_and_combines():
    pipe = bon(
        GroupConfidence(window=2), second_reward_model=lambda prompts, completions: [len(t) for t in completions]
    )
    settings = dict(return_all=True, seed=0, **SAMPLING)
    pruned = pipe(["w1 w2", "w3 w4"], batch_size=2, prune=Pruning((2, 4)), **settings)
    assert all(0 < sum(record["pruned"] for record in group) < 6 for group in pruned)
    voted = bon("confidence")("w1 w2", vote="weighted", extract_answer=lambda text: text[:2], **settings)
    weights = torch.tensor([record["score"] for record in voted]).softmax(-1)
    tally = {one["answer"]: 0.0 for one in voted}
    for record, weight in zip(voted, weights.tolist(), strict=True):
        tally[record["answer"]] += weight
    assert voted[0]["answer"] == max(tally, key=tally.get)


def test_a_folder_of_that_name_must_be_written_as_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "confidence").mkdir()
    with pytest.raises(ValueError, match=r"Write './confidence' for the folder, or pass `GroupConfidence\(\)`"):
        bon("confidence")


def test_as_a_second_reward_it_needs_its_policy():
    with pytest.raises(ValueError, match="of a measure `LogitsRewardModel"):
        bon("confidence", second_reward_model="length")
    policy = tiny_causal_lm()
    both = bon("confidence", second_reward_model=LogitsRewardModel(policy, "self_certainty"))
    assert 0 <= both("w1 w2", **SAMPLING)[0]["score"] <= 1


def test_finished_texts_are_scored_by_name():
    policy, tokenizer = tiny_causal_lm(), tiny_tokenizer()
    scorer = as_scorer(LogitsRewardModel(policy, MeanLogProbability()), tokenizer)
    assert scorer.__name__ == "MeanLogProbability"
    [reward] = scorer(["w1 w2"], [" w3 w4"])
    ids = tokenizer("w1 w2 w3 w4 <eos>", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        log_probs = policy(ids).logits[0].log_softmax(-1)
    expected = sum(float(log_probs[place - 1, ids[0, place]]) for place in (2, 3, 4)) / 3
    assert reward == pytest.approx(expected, abs=1e-5)
    rows = [{"prompt": "w1", "completions": [" w3", " w4 w5"], "labels": [1, 0]}]
    result = evaluate_best_of_n(LogitsRewardModel(policy, "length"), rows, tokenizer=tokenizer)
    assert result.rewards.tolist() == [[2.0, 3.0]]

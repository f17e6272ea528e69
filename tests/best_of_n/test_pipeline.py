import pytest
import torch
from tiny import VOCAB, tiny_causal_lm, tiny_tokenizer
from transformers import LlamaConfig, LlamaForSequenceClassification, pipeline

import hf_reward_ext  # noqa: F401  registers "reward-bon"
from hf_reward_ext.base.scoring.combine import FittedCombination
from hf_reward_ext.best_of_n import Pruning
from hf_reward_ext.elhsr import ELHSRModel, HiddenStateReward

SAMPLING = dict(max_new_tokens=6, temperature=1.0)


@pytest.fixture
def policy():
    return tiny_causal_lm()


@pytest.fixture
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture
def head(policy, tokenizer):
    return ELHSRModel.from_policy(policy, tokenizer)


def count_w9(prompts, completions):
    """A reward that can be checked by eye."""
    return [completion.split().count("w9") for completion in completions]


def bon(policy, tokenizer, reward_model, **kwargs):
    return pipeline("reward-bon", model=policy, tokenizer=tokenizer, reward_model=reward_model, **kwargs)


@pytest.mark.stack
def test_like_text_generation_best_first(policy, tokenizer, head):
    pipe = bon(policy, tokenizer, head, num_candidates=5)
    [best] = pipe("w1 w2 w3", seed=0, **SAMPLING)
    everyone = pipe("w1 w2 w3", seed=0, return_all=True, **SAMPLING)
    assert len(everyone) == 5 and everyone[0] == best
    scores = [record["score"] for record in everyone]
    assert scores == sorted(scores, reverse=True)
    assert best["generated_text"].startswith("w1 w2 w3")


@pytest.mark.stack
def test_scores_are_those_of_the_meter(policy, tokenizer, head):
    inputs = tokenizer("w1 w2 w3", return_tensors="pt", return_token_type_ids=False)
    torch.manual_seed(3)
    with HiddenStateReward(policy, head) as meter:
        out = policy.generate(**inputs, do_sample=True, num_return_sequences=6, **SAMPLING)
    torch.manual_seed(3)
    records = bon(policy, tokenizer, head, num_candidates=6)("w1 w2 w3", return_all=True, **SAMPLING)
    expected = {
        tokenizer.decode(ids, skip_special_tokens=True): float(reward)
        for ids, reward in zip(out[:, 3:], meter.rewards, strict=True)
    }
    found = {record["generated_text"].removeprefix("w1 w2 w3"): record["score"] for record in records}
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_batches_of_prompts_keep_all_candidates_of_each(policy, tokenizer, batch_size):
    prompts = ["w1 w2 w3", "w4", "w5 w6"]
    pipe = bon(policy, tokenizer, count_w9, num_candidates=4)
    results = pipe(prompts, batch_size=batch_size, return_all=True, **SAMPLING)
    assert [len(candidates) for candidates in results] == [4, 4, 4]
    for prompt, candidates in zip(prompts, results, strict=True):
        for record in candidates:
            assert record["generated_text"].startswith(prompt)
            assert record["score"] == record["generated_text"][len(prompt) :].split().count("w9")


@pytest.mark.parametrize("chunk", [1, 3, 4])
def test_candidates_in_chunks(policy, tokenizer, head, chunk):
    pipe = bon(policy, tokenizer, head, num_candidates=7)
    records = pipe(["w1 w2", "w3"], batch_size=2, candidates_per_batch=chunk, return_all=True, seed=1, **SAMPLING)
    assert [len(candidates) for candidates in records] == [7, 7]
    again = pipe(["w1 w2", "w3"], batch_size=2, candidates_per_batch=chunk, return_all=True, seed=1, **SAMPLING)
    assert records == again


@pytest.mark.stack
def test_chat_input(policy, tokenizer, head):
    chat = [{"role": "user", "content": "w1 w2"}]
    [[best], [other]] = bon(policy, tokenizer, head, num_candidates=3)([chat, chat], batch_size=2, **SAMPLING)
    assert best["generated_text"][:1] == chat and best["generated_text"][1]["role"] == "assistant"
    assert isinstance(other["score"], float)


@pytest.mark.stack
def test_text_reward_models_by_object_and_by_name(policy, tokenizer, tmp_path):
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_labels=1, pad_token_id=0,
    )  # fmt: skip
    reward_model = LlamaForSequenceClassification(config).eval()
    reward_model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    found = [
        bon(policy, tokenizer, given, num_candidates=4)("w1 w2", return_all=True, seed=0, **SAMPLING)
        for given in (reward_model, str(tmp_path))
    ]
    assert found[0] == found[1]
    for record in found[0]:
        ids = tokenizer(record["generated_text"], return_tensors="pt")["input_ids"]
        with torch.no_grad():
            raw = reward_model(ids).logits.item()
        assert record["score"] == pytest.approx(raw, abs=1e-5)  # no sigmoid


def test_head_by_folder(policy, tokenizer, head, tmp_path):
    head.save_pretrained(tmp_path)
    by_name = bon(policy, tokenizer, str(tmp_path), num_candidates=3)("w1 w2", return_all=True, seed=0, **SAMPLING)
    by_object = bon(policy, tokenizer, head, num_candidates=3)("w1 w2", return_all=True, seed=0, **SAMPLING)
    assert by_name == by_object


def test_votes(policy, tokenizer):
    def last_word(text):
        return text.split()[-1] if text.split() else None

    pipe = bon(policy, tokenizer, count_w9, num_candidates=12)
    settings = dict(return_all=True, seed=0, extract_answer=last_word, **SAMPLING)
    majority = pipe("w1", vote="majority", **settings)
    answers = [record["answer"] for record in majority]
    assert answers.count(answers[0]) == max(answers.count(answer) for answer in answers if answer is not None)
    weighted = pipe("w1", vote="weighted", **settings)
    weights = torch.tensor([float(record["score"]) for record in weighted]).softmax(-1).tolist()
    tally = {}
    for record, weight in zip(weighted, weights, strict=True):
        tally[record["answer"]] = tally.get(record["answer"], 0) + weight
    tally.pop(None, None)
    assert weighted[0]["answer"] == max(tally, key=tally.get)


@pytest.mark.stack
def test_pruning_reports_what_it_stopped(policy, tokenizer, head):
    pipe = bon(policy, tokenizer, head, num_candidates=8)
    records = pipe("w1 w2", prune=Pruning((2, 4)), return_all=True, max_new_tokens=10, seed=0)
    assert len(records) == 8 and 0 < sum(record["pruned"] for record in records) <= 6
    flags = [record["pruned"] for record in records]
    assert flags == sorted(flags)  # the ones that were stopped come last
    assert all(record["num_tokens"] <= 4 for record in records if record["pruned"])


def test_combinations(policy, tokenizer, head):
    def length(prompts, completions):
        return [len(completion) for completion in completions]

    pipe = bon(policy, tokenizer, head, num_candidates=6, second_reward_model=length)
    plain = bon(policy, tokenizer, head, num_candidates=6)("w1", return_all=True, seed=0, **SAMPLING)
    for combine in ("max_rank", "min_max", FittedCombination((0.0, 1.0))):
        records = pipe("w1", return_all=True, seed=0, combine=combine, **SAMPLING)
        assert {record["generated_text"] for record in records} == {record["generated_text"] for record in plain}
    assert records[0]["score"] == max(len(record["generated_text"]) - 2 for record in records)


def test_probability_of_a_calibrated_head(policy, tokenizer, head):
    head.config.calibration = [2.0, -1.0]
    [record] = bon(policy, tokenizer, head, num_candidates=2)("w1 w2", **SAMPLING)
    assert record["probability"] == pytest.approx(torch.tensor(2 * record["score"] - 1).sigmoid().item(), abs=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (dict(num_candidates=0), "`num_candidates` must be at least 1, got 0"),
        (dict(candidates_per_batch=0), "`candidates_per_batch` must be at least 1, got 0"),
        (dict(vote="most"), "'majority' or 'weighted'"),
        (dict(vote="majority"), "`extract_answer` must be given"),
        (dict(combine="sum"), "one of"),
        (dict(num_return_sequences=3), "`num_return_sequences` must be None"),
        (dict(num_beams=2), "candidates are sampled"),
        (dict(do_sample=False), "must be True for 16 candidates"),
    ],
)
def test_bad_calls_are_refused(policy, tokenizer, call, message):
    with pytest.raises(ValueError, match=message):
        bon(policy, tokenizer, count_w9)("w1 w2", **call)


def test_bad_inputs_are_refused(policy, tokenizer, head):
    with pytest.raises(ValueError, match="`reward_model` must be given"):
        pipeline("reward-bon", model=policy, tokenizer=tokenizer)
    with pytest.raises(TypeError, match="is a `int`, but it must score text"):
        bon(policy, tokenizer, 3)
    with pytest.raises(ValueError, match="hidden_size"):
        bon(tiny_causal_lm(hidden_size=24), tokenizer, head)
    with pytest.raises(ValueError, match="An empty prompt"):
        bon(policy, tokenizer, head)("")
    with pytest.raises(ValueError, match="300 tokens.*at most 256"):
        bon(policy, tokenizer, head)("w1 " * 300)
    with pytest.raises(ValueError, match="only an ELHSR head and training-free measures"):
        bon(policy, tokenizer, count_w9)("w1", prune=Pruning((2,)))
    with pytest.raises(ValueError, match="returned shape"):
        bon(policy, tokenizer, lambda prompts, completions: [1.0])("w1", **SAMPLING)

"""The look-ahead search by rewards of steps, against a search that recomputes every prefix."""

import functools
from threading import Thread

import pytest
import torch
from sla_reference import model_functions, reference_search
from tiny import EOS, tiny_causal_lm, tiny_tokenizer

from hf_reward_ext import ELHSRModel, RewardTransformer, sla_generate
from hf_reward_ext.rewards import StepSearchReward, aggregate_steps

PROMPTS = [[3, 4, 5], [6, 7]]
MARKS = "w[0-9]*[02468] "  # a step ends with an even word


@pytest.fixture(scope="module")
def transformer():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return RewardTransformer.from_base(tiny_causal_lm(seed=2), channel_size=8).eval()


def slow_score(prompt, answer, reward, aggregation, probabilities):
    """The aggregate over steps of the mean token rewards, each prefix read by a forward of its own."""
    text = tiny_tokenizer().decode(answer)
    words, ends = text.split(), []
    for number, word in enumerate(words):
        if number + 1 == len(words) or int(word[1:]) % 2 == 0:
            ends.append(number)
    rewards = [reward(prompt + answer[: end + 1]) for end in range(len(answer))]
    values = [sum(rewards[: end + 1]) / (end + 1) for end in ends]
    if probabilities:
        values = [float(torch.tensor(value).sigmoid()) for value in values]
    return aggregate_steps(values, aggregation)


def search(model, prompts, tokenizer, **options):
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    return model.generate(
        ids, attention_mask=(ids != 0).long(), custom_generate=sla_generate, width=2, step=2, depth=1,
        max_new_tokens=8, return_dict_in_generate=True, suppress_tokens=[0, 1, EOS, *range(3, 8)], **options,
    )  # fmt: skip


@pytest.mark.parametrize("aggregation", ["min", "last", "mean", "product"])
def test_tokens_are_those_of_the_reference_with_recomputed_scores(aggregation, transformer):
    probabilities = aggregation == "product"
    next_top, token_reward = model_functions(transformer)
    tokenizer = tiny_tokenizer()
    reward = StepSearchReward(transformer, tokenizer, MARKS, aggregation=aggregation, probabilities=probabilities)
    found = search(transformer, PROMPTS, tokenizer, reward=reward)

    def words(prefix, count):
        return [token for token in next_top(prefix, 32) if token >= 8][:count]

    for prompt, row in zip(PROMPTS, found.sequences, strict=True):
        score = functools.cache(
            lambda answer, prompt=prompt: slow_score(prompt, list(answer), token_reward, aggregation, probabilities)
            if answer else 0.0
        )  # fmt: skip

        def increment(prefix, prompt=prompt, score=score):
            answer = tuple(prefix[len(prompt) :])
            return (score(answer) * len(answer) - score(answer[:-1]) * (len(answer) - 1), 1) if answer else (0.0, 0)

        slow = reference_search(words, increment, prompt, 2, 2, 1, 8, {EOS})
        assert row[len(PROMPTS[0]) :].tolist() == sum(slow, [])
    others = search(transformer, PROMPTS, tokenizer)
    assert aggregation == "mean" or not torch.equal(others.rewards, found.rewards)


def test_the_score_of_the_answer_is_that_of_its_steps(transformer):
    tokenizer = tiny_tokenizer()
    reward = StepSearchReward(transformer, tokenizer, MARKS)
    found = search(transformer, PROMPTS[:1], tokenizer, reward=reward, return_tree=True)

    def leaf(node):
        chosen = [child for child in node["children"] if child["is_confirmed"]]
        return node if not chosen else leaf(chosen[0])

    last = leaf(found.trees[0])
    answer = found.sequences[0, 3:-1]  # the reward of the last token is never read
    values = model_functions(transformer)[1]
    assert last["score"] == pytest.approx(slow_score(PROMPTS[0], answer.tolist(), values, "min", False), abs=1e-5)


def test_heads_calls_and_threads(transformer):
    policy, tokenizer = transformer.base, tiny_tokenizer()
    head = ELHSRModel.from_policy(policy)
    reward = StepSearchReward(policy, tokenizer, MARKS, reward=head, aggregation="last")
    first = search(policy, PROMPTS, tokenizer, reward=reward)
    # With its last step alone, a score is the gated mean over all tokens, which the head gives without steps too.
    plain = search(policy, PROMPTS, tokenizer, reward=head, score_prompt=False)
    assert torch.equal(first.sequences, plain.sequences)
    assert first.rewards.tolist() == pytest.approx(plain.rewards.tolist(), abs=1e-5)
    again, results = first.sequences[:1].tolist(), {}

    def run(number):
        results[number] = search(policy, [PROMPTS, again][number % 2], tokenizer, reward=reward).sequences

    run(0), run(1)
    alone = StepSearchReward(policy, tokenizer, MARKS, reward=head, aggregation="last")
    assert torch.equal(results[1], search(policy, again, tokenizer, reward=alone).sequences)
    threads = [Thread(target=run, args=(number,)) for number in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.equal(results[0], results[2]) and torch.equal(results[1], results[3])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(aggregation="max"), ValueError, "`aggregation` must be one of"),
        (dict(aggregation="product"), ValueError, "must come with `probabilities=True`"),
        (dict(marks="("), ValueError, "`marks` must be a regular expression"),
        (dict(reward=lambda prompts, completions: [0.0]), TypeError, "the search needs the reward of each token"),
    ],
)
def test_what_has_no_rewards_of_steps_is_refused(options, error, message, transformer):
    with pytest.raises(error, match=message):
        StepSearchReward(transformer, tiny_tokenizer(), **options)

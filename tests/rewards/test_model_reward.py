import asyncio
import pickle
from threading import Barrier

import pytest
from tiny import tiny_causal_lm, tiny_tokenizer
from tiny_judges import counted, pair_judge, point_judge
from transformers import AutoModelForSequenceClassification

from hf_reward_ext import GenARMRewardModel, RewardTransformer, WeightedReward
from hf_reward_ext.base.scoring.scorer import as_scorer
from hf_reward_ext.rewards import AsyncReward, ModelReward, Scored, TokenRewardMean

PROMPTS = ["w4 w5 ", "w4 w5 ", "w6 ", "w6 "]
COMPLETIONS = ["w12", "w13 w14", "w12", "w12"]


def classifier():
    config = tiny_causal_lm().config
    config.num_labels = 1
    return AutoModelForSequenceClassification.from_config(config).eval()


def channel():
    return RewardTransformer.from_base(tiny_causal_lm(), channel_size=4)


def arm():
    return GenARMRewardModel.from_causal_lm(tiny_causal_lm(initializer_range=0.2))


def test_rewards_are_those_of_the_scorer_in_batches_and_equal_texts_are_scored_once():
    model, logged = classifier(), {}
    reward = ModelReward(model, tiny_tokenizer(), batch_size=2, name="rm")
    with counted(model) as shapes:
        found = asyncio.run(reward(PROMPTS, COMPLETIONS, [[1]] * 4, logged.__setitem__, other=[1] * 4))
        again = reward.score(PROMPTS[::-1], COMPLETIONS[::-1], log_metric=logged.__setitem__)
    assert found == pytest.approx(as_scorer(model, tiny_tokenizer())(PROMPTS, COMPLETIONS), abs=1e-5)
    assert [rows for rows, _ in shapes] == [2, 1]  # three different texts, at most two at a time, and none again
    assert again == found[::-1] and logged == {"rm/answered_rate": 1.0, "rm/cached_rate": 1.0}


def test_it_is_a_scorer_wherever_scorers_are_taken():
    reward = ModelReward(classifier(), tiny_tokenizer())
    scorer = as_scorer(reward)
    assert scorer(PROMPTS, COMPLETIONS) == reward.score(PROMPTS, COMPLETIONS) and len(scorer.models) == 1


@pytest.mark.parametrize("make", [classifier, arm, channel, lambda: WeightedReward([point_judge()]), point_judge],
                         ids=["classifier", "arm", "channel", "weighted", "judge"])  # fmt: skip
def test_it_is_pickled_with_its_model(make):
    reward = ModelReward(make(), tiny_tokenizer())
    copy = pickle.loads(pickle.dumps(reward))
    assert copy.score(PROMPTS, COMPLETIONS) == pytest.approx(reward.score(PROMPTS, COMPLETIONS), abs=1e-5)


def test_functions_and_judges_of_pairs_are_refused():
    with pytest.raises(TypeError, match=r"got a function \(function\), whose"):
        ModelReward(lambda prompts, completions: [0.0] * len(prompts))
    with pytest.raises(TypeError, match="without its tokenizer"):
        ModelReward(classifier())
    with pytest.raises(ValueError, match="judge with pointwise verdicts"):
        ModelReward(pair_judge())
    with pytest.raises(ValueError, match="`cache_size` must be an integer of at least 0"):
        ModelReward(classifier(), tiny_tokenizer(), cache_size=-1)


def test_the_least_recently_used_rewards_are_dropped():
    reward, logged = ModelReward(classifier(), tiny_tokenizer(), cache_size=1), {}
    reward.score(["w4 ", "w5 "], ["w12", "w12"])
    reward.score(["w5 "], ["w12"], log_metric=logged.__setitem__)
    assert logged[f"{reward.__name__}/cached_rate"] == 1
    reward.score(["w4 "], ["w12"], log_metric=logged.__setitem__)
    assert logged[f"{reward.__name__}/cached_rate"] == 0


@pytest.mark.parametrize("make", [arm, channel])
def test_token_rewards_are_averaged_over_the_completion(make):
    model, tokenizer = make(), tiny_tokenizer()
    found = TokenRewardMean(model, tokenizer).score(["w4 w5 ", "w6 "], ["w12 w13 w14", "w9"])
    for prompt, completion, mean in zip(["w4 w5 ", "w6 "], ["w12 w13 w14", "w9"], found, strict=True):
        inputs = tokenizer(f"{prompt}{completion} <eos>", return_tensors="pt", return_token_type_ids=False)
        start = len(tokenizer(prompt)["input_ids"])
        assert mean == pytest.approx(model(**inputs).token_rewards[0, start:].mean().item(), abs=1e-5)
    with pytest.raises(TypeError, match="got a `LlamaForSequenceClassification`"):
        TokenRewardMean(classifier(), tokenizer)


class Meets(AsyncReward):
    """A reward that waits until another one runs too."""

    def __init__(self, barrier):
        super().__init__("meets")
        self.barrier = barrier

    def compute(self, prompts, completions, columns):
        self.barrier.wait(timeout=20)
        return Scored([1.0] * len(prompts))


def test_asynchronous_rewards_run_at_the_same_time():
    barrier = Barrier(2)

    async def both():
        return await asyncio.gather(*(Meets(barrier)(["x"], ["y"]) for _ in range(2)))

    assert asyncio.run(both()) == [[1.0], [1.0]]

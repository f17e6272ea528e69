"""Every reward of the shelf, and the prompts and completions that trainers pass."""

from tiny import tiny_causal_lm, tiny_tokenizer
from tiny_judges import pair_judge, point_judge

from hf_reward_ext import GenARMRewardModel, RewardTransformer
from hf_reward_ext.rewards import (
    AnswerReward,
    ConditionedReward,
    FastSlowReward,
    FormatReward,
    GroupwiseReward,
    LengthControlled,
    ModelReward,
    StepReward,
    TokenRewardMean,
    WeightedReward,
)


def tool_tokenizer():
    """A chat template that writes the names and the arguments of tool calls too."""
    tokenizer, content = tiny_tokenizer(), "message['content'] + ' ' }}"
    call = "{{ call['function']['name'] + ' ' + call['function']['arguments'] | join(' ') + ' ' }}"
    calls = f"{{% for call in message.get('tool_calls') or [] %}}{call}{{% endfor %}}"
    assert content in tokenizer.chat_template
    tokenizer.chat_template = tokenizer.chat_template.replace(content, content + calls)
    return tokenizer


def second_is_better(requests):
    return ["Ranking: 2 > 1"] * len(requests)


def rewards():
    """One of each kind, by name."""
    tokenizer = tool_tokenizer()
    arm = GenARMRewardModel.from_causal_lm(tiny_causal_lm(initializer_range=0.2))
    channel = RewardTransformer.from_base(tiny_causal_lm(), channel_size=4)
    found = [
        ModelReward(arm, tokenizer, name="model"),
        TokenRewardMean(channel, tokenizer),
        FastSlowReward(point_judge()),
        FastSlowReward(pair_judge(), num_generations=4, name="duels"),
        GroupwiseReward(second_is_better, tokenizer),
        AnswerReward(r"w\d+"),
        FormatReward(r".*w1.*"),
        ConditionedReward(FormatReward(".*"), LengthControlled(budget=3), name="conditioned"),
        LengthControlled(budget=3),
        StepReward(ModelReward(arm, tokenizer), " ", name="steps"),
        WeightedReward([ModelReward(arm, tokenizer), FormatReward(".*")]),
    ]
    return {reward.__name__: reward for reward in found}


ASKED = [{"role": "user", "content": "w4 w5"}]
CALL = {"type": "function", "function": {"name": "w20", "arguments": {"w3": 1}}}
TURNS = [
    {"role": "assistant", "content": "w9", "tool_calls": [CALL]},
    {"role": "tool", "content": "w10"},
    {"role": "assistant", "content": "w11 w12"},
]
IMAGE = [{"role": "user", "content": [{"type": "image", "image": "cat.png"}, {"type": "text", "text": "w4"}]}]
READ_COMPLETIONS_ONLY = ("answer", "format", "conditioned", "length_control")

"""Every reward in TRL's trainers, and on the messages that they pass."""

import copy

import pytest
from datasets import Dataset
from tiny import tiny_causal_lm, tiny_tokenizer
from tiny_judges import pair_judge, point_judge
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

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
        GroupwiseReward(lambda requests: ["Ranking: 2 > 1"] * len(requests), tokenizer),
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


@pytest.mark.stack
@pytest.mark.parametrize(("trainer_class", "config_class", "is_chat"), [
    (GRPOTrainer, GRPOConfig, True), (GRPOTrainer, GRPOConfig, False), (RLOOTrainer, RLOOConfig, False),
])  # fmt: skip
def test_each_is_a_reward_of_a_trainer(tmp_path, trainer_class, config_class, is_chat):
    args = config_class(
        str(tmp_path), max_steps=1, per_device_train_batch_size=4, num_generations=4, max_completion_length=4, beta=0.0,
        report_to="none", use_cpu=True, bf16=False, gradient_checkpointing=False, save_strategy="no", disable_tqdm=True,
        logging_steps=1, reward_weights=[0.5] * len(rewards()), log_completions=False,
    )  # fmt: skip
    rows = [{"prompt": ASKED if is_chat else "w4 w5", "answer": answer} for answer in ("w9", None)]
    trainer = trainer_class(
        tiny_causal_lm(seed=1), list(rewards().values()), args, Dataset.from_list(rows),
        processing_class=tiny_tokenizer(),
    )  # fmt: skip
    trainer.train()
    logged = trainer.state.log_history[0]
    for name in rewards():
        assert f"rewards/{name}/mean" in logged, name
        assert f"{name}/answered_rate" in logged or name == "weighted_reward", name
    assert logged["reward_std"] >= 0 and "groupwise/prompt_tokens" in logged and "fast_slow/slow_rate" in logged
    extra = {"groupwise/judgment", "answer/answer", "conditioned/condition"}
    assert extra <= set(trainer._logs["extra"]) and all(len(values) == 4 for values in trainer._logs["extra"].values())


@pytest.mark.parametrize("name", rewards())
def test_tool_and_multi_turn_completions_are_read(name):
    reward, columns = rewards()[name], {"completion_ids": [[5] * 4] * 4, "answer": ["w11"] * 4}
    score = getattr(reward, "score", reward)
    other = copy.deepcopy(TURNS)
    other[0]["tool_calls"][0]["function"]["name"] = "w21"
    found = list(score([ASKED] * 4, [TURNS, other, TURNS, other], **columns))
    assert len(found) == 4 and found[0] == found[2] and found[1] == found[3]
    cut = score([ASKED] * 4, [TURNS[:2]] * 4, **columns) if name in READ_COMPLETIONS_ONLY else None
    if name in ("answer", "format"):
        assert list(cut) == [0.0] * 4  # no answer yet: the last message is the tool's


@pytest.mark.parametrize("name", rewards())
def test_images_are_refused_by_all_that_read_the_prompt(name):
    reward, columns = rewards()[name], {"completion_ids": [[5] * 4] * 4, "answer": ["w11"] * 4}
    score = getattr(reward, "score", reward)
    completions = [[{"role": "assistant", "content": "w11"}]] * 4
    if name in READ_COMPLETIONS_ONLY:
        assert len(score([IMAGE] * 4, completions, images=[["cat.png"]] * 4, **columns)) == 4
        return
    with pytest.raises(ValueError, match=r"prompts\[0\]\[0\].*must hold text parts only, got one of type 'image'"):
        score([IMAGE] * 4, completions, **columns)
    with pytest.raises(ValueError, match="must get text only, got the column 'images'"):
        score([ASKED] * 4, completions, images=[["cat.png"]] * 4, **columns)

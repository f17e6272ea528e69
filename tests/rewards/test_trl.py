"""Every reward in TRL's trainers, and on the messages that they pass."""

import copy
import math

import pytest
from datasets import Dataset
from rewards.shelf import ASKED, IMAGE, READ_COMPLETIONS_ONLY, TURNS, rewards
from tiny import tiny_causal_lm, tiny_tokenizer
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from hf_reward_ext import ELHSRForSequenceClassification, ELHSRModel

TRAINERS = [(GRPOTrainer, GRPOConfig), (RLOOTrainer, RLOOConfig)]
WEIGHTS = [0.5 + number / 8 for number in range(len(rewards()))]


def trainer_of(trainer_class, config_class, folder, reward_funcs, is_chat=True, **kwargs):
    args = config_class(
        str(folder), max_steps=1, per_device_train_batch_size=4, num_generations=4, max_completion_length=4, beta=0.0,
        report_to="none", use_cpu=True, bf16=False, gradient_checkpointing=False, save_strategy="no", disable_tqdm=True,
        logging_steps=1, log_completions=False, **kwargs.pop("config", {}),
    )  # fmt: skip
    rows = [{"prompt": ASKED if is_chat else "w4 w5", "answer": answer} for answer in ("w9", None)]
    return trainer_class(
        tiny_causal_lm(seed=1), reward_funcs, args, Dataset.from_list(rows), processing_class=tiny_tokenizer(), **kwargs
    )


@pytest.mark.stack
@pytest.mark.parametrize(("trainer_class", "config_class"), TRAINERS)
@pytest.mark.parametrize("is_chat", [True, False])
def test_each_is_a_reward_of_a_trainer(tmp_path, trainer_class, config_class, is_chat):
    config = dict(reward_weights=WEIGHTS)
    trainer = trainer_of(trainer_class, config_class, tmp_path, list(rewards().values()), is_chat, config=config)
    trainer.train()
    logged = trainer.state.log_history[0]
    for name in rewards():
        assert f"rewards/{name}/mean" in logged, name
        assert f"{name}/answered_rate" in logged or name == "weighted_reward", name
    assert logged["reward_std"] >= 0 and "groupwise/prompt_tokens" in logged and "fast_slow/slow_rate" in logged
    total = 0.0
    for weight, name in zip(WEIGHTS, rewards(), strict=True):
        mean = logged[f"rewards/{name}/mean"]  # of the completions that have the reward; `None` if none has
        total += weight * (mean or 0.0) * logged.get(f"{name}/answered_rate", 1.0)
    assert logged["reward"] == pytest.approx(total, abs=1e-4)
    extra = {"groupwise/judgment", "answer/answer", "conditioned/condition"}
    assert extra <= set(trainer._logs["extra"]) and all(len(values) == 4 for values in trainer._logs["extra"].values())


@pytest.mark.parametrize(("trainer_class", "config_class"), TRAINERS)
def test_a_model_gets_its_own_processing_class(tmp_path, trainer_class, config_class):
    policy = tiny_causal_lm(seed=2)
    model = ELHSRForSequenceClassification(policy, ELHSRModel.from_policy(policy))
    reversed_side = tiny_tokenizer(padding_side="right")
    function = rewards()["format"]
    trainer = trainer_of(
        trainer_class, config_class, tmp_path, [function, model], reward_processing_classes=[None, reversed_side]
    )
    assert trainer.reward_processing_classes == [None, reversed_side]
    trainer.train()
    assert math.isfinite(trainer.state.log_history[0]["reward"])


@pytest.fixture(scope="module")
def trainers(tmp_path_factory):
    """A trainer of each class with every reward."""
    return [trainer_of(*kind, tmp_path_factory.mktemp("trainer"), list(rewards().values())) for kind in TRAINERS]


@pytest.mark.parametrize("number", range(len(TRAINERS)))
def test_trainers_pass_tool_and_multi_turn_completions(trainers, number):
    trainer, other = trainers[number], copy.deepcopy(TURNS)
    other[0]["tool_calls"][0]["function"]["name"] = "w21"
    completions, columns = [TURNS, other, TURNS, other], {"completion_ids": [[5] * 4] * 4, "answer": ["w11"] * 4}
    found = trainer._calculate_rewards([{"answer": "w11"}] * 4, [ASKED] * 4, completions, [[5] * 4] * 4)
    assert found.shape == (4, len(rewards()))
    for column, reward in zip(found.T.tolist(), trainer.reward_funcs, strict=True):
        wanted = getattr(reward, "score", reward)([ASKED] * 4, completions, **columns)
        assert column == pytest.approx([math.nan if one is None else float(one) for one in wanted], nan_ok=True)


@pytest.mark.parametrize("number", range(len(TRAINERS)))
def test_trainers_get_the_refusal_of_images(trainers, number):
    completions = [[{"role": "assistant", "content": "w11"}]] * 4
    with pytest.raises(ValueError, match="must hold text parts only, got one of type 'image'"):
        trainers[number]._calculate_rewards([{"answer": "w11"}] * 4, [IMAGE] * 4, completions, [[5] * 4] * 4)


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

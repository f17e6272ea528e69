import copy
import random

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from tiny import tiny_causal_lm, tiny_tokenizer
from transformers import AutoModelForSequenceClassification, Trainer

from hf_reward_ext.base.preference.pair_collator import PairCollator
from hf_reward_ext.sla import RewardTransformer, SLAConfig, SLATrainer
from hf_reward_ext.sla.trained_policy import POLICY_FOLDER

LORA = LoraConfig(r=4, target_modules="all-linear")


def pairs(count=48, seed=0):
    """Chosen completions say w11, rejected ones w17."""
    rng = random.Random(seed)
    return Dataset.from_list(
        [
            {
                "prompt": " ".join(f"w{rng.randrange(20)}" for _ in range(rng.randint(2, 5))) + " w5 w6",
                "chosen": " " + " ".join(["w11"] * rng.randint(1, 3)),
                "rejected": " " + " ".join(["w17"] * rng.randint(1, 3)),
            }
            for _ in range(count)
        ]
    )


def trainer_for(model, output_dir, peft_config=None, train_dataset=None, **settings):
    defaults = dict(
        learning_rate=2e-2, num_train_epochs=3, per_device_train_batch_size=8, report_to="none", disable_tqdm=True,
        use_cpu=True, channel_size=8, logging_steps=1, save_strategy="no",
    )  # fmt: skip
    return SLATrainer(
        model, SLAConfig(str(output_dir), **{**defaults, **settings}),
        train_dataset=pairs() if train_dataset is None else train_dataset, eval_dataset=pairs(16, seed=1),
        processing_class=tiny_tokenizer(), peft_config=peft_config,
    )  # fmt: skip


def named_base(tmp_path):
    """A base that can be loaded by its name."""
    base = tiny_causal_lm()
    base.save_pretrained(tmp_path / "base")
    base.config._name_or_path = str(tmp_path / "base")
    return base


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.stack
@pytest.mark.parametrize("loss_type", ["sequence_bt", "token_bt", "sequence_ce", "token_ce"])
def test_every_loss_learns_and_leaves_the_base_alone(tmp_path, loss_type):
    base = tiny_causal_lm()
    before = copy.deepcopy(base.state_dict())
    head_calls = []
    base.lm_head.register_forward_hook(lambda *_: head_calls.append(1))
    trainer = trainer_for(base, tmp_path, loss_type=loss_type)
    trainer.train()
    metrics = trainer.evaluate()
    assert metrics["eval_accuracy"] > 0.95 and metrics["eval_autrc"] > 0.9
    assert {f"eval_{kind}_accuracy_{share}" for kind in ("prefix", "token") for share in (25, 50, 100)} <= set(metrics)
    assert same(before, base.state_dict()) and all(parameter.grad is None for parameter in base.parameters())
    assert not head_calls


def test_cached_states_train_the_same_channel_with_one_pass_of_the_base(tmp_path):
    weights, passes = [], []
    for cached in (False, True):
        base, calls = tiny_causal_lm(), []
        base.model.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        trainer = trainer_for(base, tmp_path, cache_hidden_states=cached)
        trainer.train()
        weights.append(trainer.model.reward_channel.state_dict())
        passes.append(len(calls))
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, atol=1e-4, rtol=1e-4)
    assert passes[0] == 3 * 6 and 6 <= passes[1] < 3 * 6
    before = len(calls)
    trainer.evaluate()
    first = len(calls)
    trainer.evaluate()
    assert first == before + 2 and len(calls) == first


def test_saved_channel_comes_back_with_its_base_and_scores_texts(tmp_path):
    trainer = trainer_for(named_base(tmp_path), tmp_path / "channel")
    trainer.train()
    trainer.save_model()
    trainer.create_model_card()
    assert not (tmp_path / "channel" / POLICY_FOLDER).exists()
    assert "sla_generate" in (tmp_path / "channel" / "README.md").read_text()
    rt = RewardTransformer.from_pretrained(tmp_path / "channel", processing_class=tiny_tokenizer())
    tokenizer = tiny_tokenizer("right")
    assert rt.reward_channel.config.completion_start_ids == tokenizer("w5 w6")["input_ids"]
    texts = ["w1 w2 w5 w6 w11 w11 <eos>", "w1 w2 w5 w6 w17 <eos>"]
    inputs = tokenizer(texts, return_tensors="pt", padding=True, return_token_type_ids=False)
    scorer = AutoModelForSequenceClassification.from_pretrained(tmp_path / "channel", num_labels=1)
    rewards = scorer(**inputs).logits
    assert rewards.shape == (2, 1) and rewards[0] > rewards[1]
    token_rewards = rt(**inputs).token_rewards
    torch.testing.assert_close(rewards[0, 0], token_rewards[0, 4:].mean())
    torch.testing.assert_close(rewards[1, 0], token_rewards[1, 4:6].mean())
    mask = torch.zeros_like(inputs["input_ids"], dtype=torch.bool)
    mask[:, 4] = True
    torch.testing.assert_close(scorer(**inputs, completion_mask=mask).logits[:, 0], token_rewards[:, 4])


def test_an_unfrozen_base_learns_from_the_channel(tmp_path):
    base = tiny_causal_lm()
    before = copy.deepcopy(base.state_dict())
    trainer = trainer_for(base, tmp_path, freeze_base=False, learning_rate=2e-3, num_train_epochs=1)
    trainer.train()
    assert not same(before, base.state_dict())
    assert torch.equal(before["lm_head.weight"], base.state_dict()["lm_head.weight"])  # no logits were computed


@pytest.mark.stack
@pytest.mark.parametrize("policy_loss", ["sft", "simpo", "dpo"])
@pytest.mark.parametrize("adapter", [False, True], ids=["whole", "lora"])
def test_policy_and_channel_learn_together(tmp_path, policy_loss, adapter):
    base = named_base(tmp_path)
    before = copy.deepcopy(base.state_dict())
    trainer = trainer_for(
        base, tmp_path / "out", peft_config=LORA if adapter else None, policy_loss=policy_loss, learning_rate=1e-2,
        num_train_epochs=4,
    )  # fmt: skip
    trainer.train()
    history = [row for row in trainer.state.log_history if "policy_loss" in row]
    assert history[-1]["policy_loss"] < history[0]["policy_loss"]
    assert trainer.evaluate()["eval_accuracy"] > 0.9
    if adapter:
        weights = trainer.model.base.get_base_model().state_dict()
        assert all(torch.equal(value, weights[_inside_lora(name, weights)]) for name, value in before.items())
    trainer.save_model()
    saved = {path.name for path in (tmp_path / "out" / POLICY_FOLDER).iterdir()}
    assert ("adapter_model.safetensors" if adapter else "model.safetensors") in saved
    loaded = RewardTransformer.from_pretrained(tmp_path / "out")
    assert isinstance(loaded.base, PeftModel) == adapter
    trainer.model.eval()
    ids = torch.tensor([[3, 4, 5]])
    for output in ("logits", "token_rewards"):
        expected = getattr(trainer.model(input_ids=ids), output)
        torch.testing.assert_close(getattr(loaded(input_ids=ids), output), expected, atol=1e-5, rtol=1e-5)


def _inside_lora(name, weights):
    *start, last = name.split(".")
    inside = ".".join([*start, "base_layer", last])
    return inside if inside in weights else name


def test_a_frozen_base_shields_the_policy_from_the_channels_loss(tmp_path):
    """With `freeze_base` the policy learns from its own loss only."""
    trained = []
    for weight in (0.0, 5.0):
        base = tiny_causal_lm()
        trainer_for(
            base, tmp_path, policy_loss="sft", channel_loss_weight=weight, num_train_epochs=1, max_grad_norm=0.0,
            learning_rate=1e-3,
        ).train()  # fmt: skip
        trained.append(base.state_dict())
    assert same(*trained)


def test_adapters_train_with_a_frozen_channel_loss_of_their_own(tmp_path):
    base = get_peft_model(tiny_causal_lm(), LORA)
    trainer = trainer_for(RewardTransformer.from_base(base, channel_size=8), tmp_path, policy_loss="simpo")
    names = {name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad}
    assert all("lora_" in name or name.startswith("reward_channel.") for name in names)
    assert any("lora_" in name for name in names)


@pytest.mark.parametrize("kind", ["frozen", "whole", "lora"])
def test_training_resumes_where_it_stopped(tmp_path, kind):
    settings = dict(save_strategy="epoch", num_train_epochs=2, learning_rate=5e-3, lr_scheduler_type="constant")
    if kind != "frozen":
        settings["policy_loss"] = "dpo"
    results = []
    for resume in (False, True):
        trainer = trainer_for(tiny_causal_lm(), tmp_path, LORA if kind == "lora" else None, **settings)
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6") if resume else None)
        results.append({name: value.clone() for name, value in trainer.model.state_dict().items()})
    for name, value in results[0].items():
        torch.testing.assert_close(results[1][name], value, atol=1e-5, rtol=1e-4)


def test_the_best_epoch_is_kept(tmp_path):
    trainer = trainer_for(
        tiny_causal_lm(), tmp_path, save_strategy="epoch", eval_strategy="epoch", load_best_model_at_end=True,
        metric_for_best_model="eval_autrc", greater_is_better=True, policy_loss="sft",
    )  # fmt: skip
    trainer.train()
    scores = [row["eval_autrc"] for row in trainer.state.log_history if "eval_autrc" in row]
    assert trainer.evaluate()["eval_autrc"] == pytest.approx(max(scores), abs=1e-6)


def test_half_precision_base_trains_a_full_precision_channel(tmp_path):
    trainer = trainer_for(tiny_causal_lm(dtype=torch.bfloat16), tmp_path)
    trainer.train()
    assert trainer.model.reward_channel.dtype == torch.float32
    assert trainer.evaluate()["eval_accuracy"] > 0.95


def test_chats_count_the_last_turn_and_its_end():
    rows = Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": "w1 w2"}],
                "chosen": [{"role": "assistant", "content": "w11"}],
                "rejected": [{"role": "assistant", "content": "w17 w17"}],
            }
        ]
    )
    from hf_reward_ext.base.preference.pairs import prepare_preference_dataset

    batch = PairCollator(0)(list(prepare_preference_dataset(rows, tiny_tokenizer())))
    words = [
        tiny_tokenizer().convert_ids_to_tokens(ids[mask].tolist())
        for ids, mask in zip(batch["input_ids"], batch["completion_mask"], strict=True)
    ]
    assert words == [["w11", "<eos>"], ["w17", "w17", "<eos>"]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(cache_hidden_states=True, policy_loss="dpo"), "must be False for a base that is trained"),
        (dict(cache_hidden_states=True, freeze_base=False), "must be False for a base that is trained"),
        (dict(loss_type="bt"), "`loss_type` must be .*got 'bt'"),
        (dict(policy_loss="ppo"), "`policy_loss` must be .*got 'ppo'"),
    ],
)
def test_config_refuses(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        SLAConfig(str(tmp_path), use_cpu=True, **settings)


def test_trainer_refuses(tmp_path):
    with pytest.raises(ValueError, match="The train data must be a `Dataset` or `IterableDataset`, got None"):
        SLATrainer(tiny_causal_lm(), SLAConfig(str(tmp_path), use_cpu=True))
    with pytest.raises(ValueError, match="`cache_hidden_states` must be False for a streaming dataset"):
        trainer_for(
            tiny_causal_lm(), tmp_path, train_dataset=pairs().to_iterable_dataset(), cache_hidden_states=True,
            max_steps=2,
        )  # fmt: skip
    quantized = tiny_causal_lm()
    quantized.is_quantized = True
    with pytest.raises(ValueError, match="The base is quantized.*Pass `peft_config=`"):
        trainer_for(quantized, tmp_path, policy_loss="sft")


def test_streaming_data(tmp_path):
    trainer = trainer_for(tiny_causal_lm(), tmp_path, train_dataset=pairs().to_iterable_dataset(), max_steps=12)
    trainer.train()
    assert trainer.evaluate()["eval_accuracy"] > 0.9


def test_seams_of_the_trainer_exist():
    for name in ("_load_from_checkpoint", "_load_best_model"):
        assert callable(getattr(Trainer, name))

"""Adapters on the policy in the package, which is named in their configs but is on no Hub."""

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model

from hf_reward_ext import FastSlowRewardModel, GenARMConfig, GenARMTrainer
from hf_reward_ext.base.saving.base_model import load_adapter
from hf_reward_ext.demo.policy import NAME, load_policy

TEXT = "6 1 3 3=12|"


@pytest.fixture
def adapter():
    policy, tokenizer = load_policy()
    policy.name_or_path = NAME  # as the commands record it
    torch.manual_seed(0)
    config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"], init_lora_weights=False)
    return get_peft_model(policy, config).eval(), tokenizer


def logits(model, tokenizer):
    with torch.no_grad():
        return model(**tokenizer(TEXT, return_tensors="pt")).logits


def test_an_adapter_is_loaded_with_its_base(adapter, tmp_path):
    model, tokenizer = adapter
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    loaded = load_adapter(tmp_path, dtype=torch.float32).eval()
    torch.testing.assert_close(logits(loaded, tokenizer), logits(model, tokenizer))
    assert loaded.peft_config["default"].base_model_name_or_path == loaded.config._name_or_path == NAME
    assert not any(one.requires_grad for one in loaded.parameters())
    half = load_adapter(tmp_path, dtype=torch.bfloat16, is_trainable=True)
    assert half.get_input_embeddings().weight.dtype == torch.bfloat16
    assert {name.split(".")[-3] for name, one in half.named_parameters() if one.requires_grad} == {"lora_A", "lora_B"}


def test_a_judge_is_loaded_without_its_base(adapter, tmp_path):
    model, tokenizer = adapter
    verdicts = ["0", "1"]
    judge = FastSlowRewardModel(model, tokenizer, verdicts, kind="binary")
    judge.save_pretrained(tmp_path, save_embedding_layers=False)
    loaded = FastSlowRewardModel.from_pretrained(tmp_path, dtype=torch.float32)
    pairs = (["6 1 3 3=12|"], ["6+6=12"])
    assert loaded.score(*pairs, mode="fast").tolist() == pytest.approx(judge.score(*pairs, mode="fast").tolist())


@pytest.mark.parametrize("is_adapter", [True, False])
def test_a_guide_is_trained_by_name(is_adapter, adapter, tmp_path):
    name = str(tmp_path / "first") if is_adapter else NAME
    adapter[0].save_pretrained(tmp_path / "first", save_embedding_layers=False)
    rows = Dataset.from_list([{"prompt": TEXT, "chosen": "6+6=12", "rejected": "3+3=6"}] * 2)
    args = GenARMConfig(str(tmp_path / "second"), report_to="none", max_steps=1, save_strategy="no")
    trainer = GenARMTrainer(name, args, train_dataset=rows)
    trainer.train()
    assert trainer.model.config._name_or_path == NAME

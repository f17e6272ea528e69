"""A guide that is passed as a reward model by path raises: it never gets a random head."""

import pytest
import torch
from datasets import Dataset
from peft import AutoPeftModelForCausalLM, LoraConfig
from tiny import tiny_causal_lm, tiny_tokenizer
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
from trl import GRPOConfig, GRPOTrainer

from hf_reward_ext import GenARMConfig, GenARMRewardModel, GenARMTrainer
from hf_reward_ext.base.scoring.scorer import as_scorer
from hf_reward_ext.cli.models import load_scorer
from hf_reward_ext.cli.options import LoadingOptions

ROWS = Dataset.from_list([{"prompt": f"w{n} w5", "chosen": " w6 w7", "rejected": " w8"} for n in range(4)])
IDS = torch.tensor([[3, 9, 11, 12]])
COMMON = dict(report_to="none", use_cpu=True, bf16=False, disable_tqdm=True, max_steps=1)


def train(model, folder, peft_config=None):
    args = GenARMConfig(str(folder), save_steps=1, **COMMON)
    trainer = GenARMTrainer(model, args, train_dataset=ROWS, processing_class=tiny_tokenizer(), peft_config=peft_config)
    trainer.train()
    trainer.save_model()
    return trainer.model.eval()


@pytest.fixture(scope="module")
def guides(tmp_path_factory):
    """Folder and model of a trained guide of each kind."""
    folder = tmp_path_factory.mktemp("guides")
    tiny_causal_lm().save_pretrained(folder / "base")
    tiny_tokenizer().save_pretrained(folder / "base")
    lora = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=2, init_lora_weights=False)
    return {
        "whole": (folder / "whole", train(str(folder / "base"), folder / "whole")),
        "adapter": (folder / "adapter", train(str(folder / "base"), folder / "adapter", lora)),
    }


@pytest.mark.parametrize("kind", ["whole", "adapter"])
@pytest.mark.parametrize("part", ["", "checkpoint-1"])
def test_a_guide_is_no_sequence_classifier(kind, part, guides):
    with pytest.raises((ValueError, RuntimeError), match="problem_type|ignore_mismatched_sizes"):
        AutoModelForSequenceClassification.from_pretrained(guides[kind][0] / part, num_labels=1)


@pytest.mark.parametrize("kind", ["whole", "adapter"])
def test_grpo_refuses_it_by_path(kind, guides, tmp_path):
    """Contract: TRL loads reward functions by path as sequence classifiers with one label."""
    with pytest.raises((ValueError, RuntimeError), match="problem_type|ignore_mismatched_sizes"):
        GRPOTrainer(
            tiny_causal_lm(), str(guides[kind][0]), GRPOConfig(str(tmp_path), **COMMON), ROWS.select_columns("prompt"),
            processing_class=tiny_tokenizer(),
        )  # fmt: skip


@pytest.mark.parametrize("kind", ["whole", "adapter"])
def test_it_still_guides_scores_and_trains(kind, guides, tmp_path):
    folder, model = guides[kind]
    logits = model(IDS).logits
    loads = [AutoModelForCausalLM] + ([AutoPeftModelForCausalLM] if kind == "adapter" else [])
    for load in loads:
        assert torch.equal(load.from_pretrained(folder).eval()(IDS).logits, logits)
    merged = model.merge_and_unload() if kind == "adapter" else model
    expected = as_scorer(GenARMRewardModel.from_causal_lm(merged), tiny_tokenizer())(["w3"], [" w4 w5"])
    assert load_scorer(str(folder), "--scorer", LoadingOptions(), 4)(["w3"], [" w4 w5"]) == pytest.approx(
        expected, abs=1e-4
    )
    train(str(folder), tmp_path / "again")


def test_the_reward_model_of_it_loads(guides, tmp_path):
    folder, _ = guides["whole"]
    GenARMRewardModel.from_causal_lm(AutoModelForCausalLM.from_pretrained(folder)).save_pretrained(tmp_path / "rm")
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "rm", num_labels=1)
    assert isinstance(loaded, GenARMRewardModel)

"""Checkpoints that are not whole are refused by name, whatever model they are of."""

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from quantized_weight import Quantized
from safetensors.torch import load_file, save_file
from tiny import tiny_causal_lm
from tiny_judges import pair_judge
from transformers import AutoModelForSequenceClassification

from hf_reward_ext import ELHSRModel, FastSlowRewardModel, GenARMRewardModel, RewardTransformer
from hf_reward_ext.base.saving.loading import check_finite

FILE = "model.safetensors"


def save_head(folder):
    ELHSRModel.from_policy(tiny_causal_lm()).save_pretrained(folder)
    return ELHSRModel.from_pretrained, "linear.weight"


def save_channel(folder):
    base = tiny_causal_lm()
    RewardTransformer.from_base(base, channel_size=8).save_pretrained(folder)
    return lambda name: RewardTransformer.from_pretrained(name, base=base), None


def save_guide(folder):
    GenARMRewardModel.from_causal_lm(tiny_causal_lm()).save_pretrained(folder)
    return GenARMRewardModel.from_pretrained, None


def save_judge(folder):
    pair_judge().save_pretrained(folder)
    return FastSlowRewardModel.from_pretrained, "lm_head.weight"


def save_any(folder):
    """As trainers and pipelines load reward models."""
    GenARMRewardModel.from_causal_lm(tiny_causal_lm()).save_pretrained(folder)
    return lambda name: AutoModelForSequenceClassification.from_pretrained(name, num_labels=1), None


KINDS = {
    "head": save_head,
    "channel": save_channel,
    "guide": save_guide,
    "judge": save_judge,
    "by Auto class": save_any,
}


def change(folder, edit, file=FILE):
    weights = load_file(folder / file)
    edit(weights)
    save_file(weights, folder / file, metadata={"format": "pt"})


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_that_is_not_whole(kind, tmp_path):
    load, key = KINDS[kind](tmp_path)
    load(tmp_path)
    whole = load_file(tmp_path / FILE)
    key = key or next(iter(whole))
    refused = rf"The checkpoint '{tmp_path}' must hold every weight of a `\w+`, .*{FILE} "
    for edit, message in (
        (lambda weights: weights.pop(key), rf"lacks \['[\w.]*{key.split('.')[-2]}.*which would be random"),
        (lambda weights: weights.update(other=torch.zeros(2)), r"holds \['other'\] too"),
        (lambda weights: weights[key].view(-1)[0].fill_(torch.nan), r"holds NaN or infinity in \["),
        (lambda weights: weights[key].view(-1)[-1].fill_(torch.inf), r"holds NaN or infinity in \["),
    ):
        change(tmp_path, edit)
        with pytest.raises(ValueError, match=refused + message):
            load(tmp_path)
        save_file(whole, tmp_path / FILE, metadata={"format": "pt"})
    load(tmp_path)
    change(tmp_path, lambda weights: weights.update({key: weights[key][:1].clone()[None]}))
    with pytest.raises((ValueError, RuntimeError), match="shape|size"):
        load(tmp_path)


@pytest.mark.parametrize("kind", ["head", "channel", "guide", "judge"])
def test_a_folder_without_a_configuration_or_without_safetensors(kind, tmp_path):
    load, _ = KINDS[kind](tmp_path)
    torch.save(load_file(tmp_path / FILE), tmp_path / "pytorch_model.bin")
    (tmp_path / FILE).unlink()
    with pytest.raises(OSError, match=FILE):
        load(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match="must hold a saved .*but it has no config.json. Pass the folder"):
        load(tmp_path)


def test_an_adapter_that_is_not_whole(tmp_path):
    lora = LoraConfig(target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    pair_judge(get_peft_model(tiny_causal_lm(), lora)).save_pretrained(tmp_path)
    file = "adapter_model.safetensors"
    whole = load_file(tmp_path / file)
    key = next(iter(whole))

    def load():
        return FastSlowRewardModel.from_pretrained(tmp_path, base=tiny_causal_lm())

    load()
    change(tmp_path, lambda weights: weights.pop(key), file)
    with pytest.raises(ValueError, match=rf"{file} lacks .*lora_A.*which would be random"):
        load()
    save_file(whole, tmp_path / file)
    change(tmp_path, lambda weights: weights[key].fill_(torch.nan), file)
    with pytest.raises(ValueError, match=rf"{file}.* holds NaN or infinity in \['.*lora_A"):
        load()
    (tmp_path / file).unlink()
    with pytest.raises(ValueError, match=f"must hold an adapter, but it has no {file}"):
        load()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("verdicts", ["w10"], "two or more different strings"),
        ("gate", {"threshold": 0.5}, "`gate` must be a dictionary"),
        ("gate", {"temperature": 0}, "`temperature` must be a number above 0"),
        ("template", "{prompt}", "`template` must be a dictionary"),
        ("template", {"user": "{prompt.__class__} {response_a} {response_b}"}, "plain slots"),
        ("max_new_tokens", 0, "`max_new_tokens` must be an integer of at least 1"),
        ("num_votes", "3", "`num_votes` must be an integer"),
    ],
)
def test_the_configuration_of_a_judge_that_was_changed(field, value, message, tmp_path):
    load, _ = save_judge(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, field: value}))
    with pytest.raises((ValueError, TypeError), match=message):
        load(tmp_path)


def test_the_report_is_still_given_and_pickles_are_not_read(tmp_path):
    save_head(tmp_path)
    head, report = ELHSRModel.from_pretrained(tmp_path, output_loading_info=True)
    assert isinstance(head, ELHSRModel) and not report["missing_keys"]
    with pytest.raises(ValueError, match="`use_safetensors` must be one of True"):
        ELHSRModel.from_pretrained(tmp_path, use_safetensors=False)


def test_quantized_weights_are_finite_if_the_tensors_in_them_are():
    model = torch.nn.Linear(3, 2)
    for scale in (0.5, torch.nan, torch.inf):
        weight = Quantized(torch.ones(2, 3, dtype=torch.int8), torch.full((2, 1), scale))
        model.weight = torch.nn.Parameter(weight, requires_grad=False)
        if scale == 0.5:
            check_finite("folder", model)
        else:
            with pytest.raises(ValueError, match=r"holds NaN or infinity in \['weight'\]"):
                check_finite("folder", model)

import importlib.util
import json

import pytest
import torch
from tiny import tiny_causal_lm
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BitsAndBytesConfig,
    QuantoConfig,
    TorchAoConfig,
)

from hf_reward_ext import GenARMRewardModel, GenARMRewardModelConfig

IDS = torch.tensor([[3, 4, 5, 6, 7, 8, 9], [8, 9, 10, 4, 5, 6, 7]])
pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries, about this machine


def torchao():
    from torchao.quantization import Int8WeightOnlyConfig

    return TorchAoConfig(Int8WeightOnlyConfig())


# Library, and the configuration that it is asked for.
WAYS = {
    "bitsandbytes 8 bit": ("bitsandbytes", lambda: BitsAndBytesConfig(load_in_8bit=True)),
    "bitsandbytes 4 bit": ("bitsandbytes", lambda: BitsAndBytesConfig(load_in_4bit=True)),
    "bitsandbytes nf4, doubly": (
        "bitsandbytes",
        lambda: BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True),
    ),
    "bitsandbytes, a layer left out": (
        "bitsandbytes",
        lambda: BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=["lm_head", "down_proj"]),
    ),
    "torchao": ("torchao", torchao),
}


@pytest.fixture
def folder(tmp_path):
    tiny_causal_lm(hidden_size=64, intermediate_size=128).save_pretrained(tmp_path / "plain")
    return tmp_path / "plain"


def quantized(way, folder):
    library, config = WAYS[way]
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    return AutoModelForCausalLM.from_pretrained(folder, quantization_config=config(), dtype=torch.float32)


def saved_and_loaded(model, auto_class, folder):
    model.save_pretrained(folder)
    loaded = auto_class.from_pretrained(folder).eval()
    # After saving, which on a CPU changes layout and values of a 4 bit model, a plain causal LM too.
    torch.testing.assert_close(loaded(IDS).logits, model(IDS).logits)
    return loaded


@pytest.mark.parametrize("way", WAYS)
@torch.no_grad()
def test_a_quantized_model_is_saved_and_comes_back_exactly(way, folder, tmp_path):
    causal_lm = quantized(way, folder)
    model = GenARMRewardModel.from_causal_lm(causal_lm).eval()
    plain = GenARMRewardModel.from_causal_lm(AutoModelForCausalLM.from_pretrained(folder)).eval()
    assert not torch.equal(plain(IDS).logits, model(IDS).logits)
    loaded = saved_and_loaded(model, AutoModelForSequenceClassification, tmp_path / "saved")
    assert loaded.is_quantized and loaded.causal_lm.is_quantized
    # Once more, and the causal LM out of it: neither may lose what quantized it.
    again = saved_and_loaded(loaded, GenARMRewardModel, tmp_path / "again")
    again.causal_lm.save_pretrained(tmp_path / "inner", save_original_format=False)
    inner = GenARMRewardModel.from_causal_lm(AutoModelForCausalLM.from_pretrained(tmp_path / "inner")).eval()
    torch.testing.assert_close(inner(IDS).logits, again(IDS).logits)


@pytest.mark.parametrize("way", WAYS)
@torch.no_grad()
def test_a_plain_reward_model_can_be_quantized_when_it_is_loaded(way, folder, tmp_path):
    expected = GenARMRewardModel.from_causal_lm(quantized(way, folder)).eval()(IDS).logits
    GenARMRewardModel.from_causal_lm(AutoModelForCausalLM.from_pretrained(folder)).save_pretrained(tmp_path / "rm")
    loaded = GenARMRewardModel.from_pretrained(tmp_path / "rm", quantization_config=WAYS[way][1](), dtype=torch.float32)
    torch.testing.assert_close(loaded.eval()(IDS).logits, expected)
    saved_and_loaded(loaded, GenARMRewardModel, tmp_path / "saved")


def test_the_quantization_of_the_causal_lm_becomes_that_of_the_whole(tmp_path):
    inner = tiny_causal_lm().config
    inner.quantization_config = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    for given in (inner, inner.to_dict()):
        config = GenARMRewardModelConfig(causal_lm=given)
        assert config.quantization_config == {"quant_method": "bitsandbytes", "load_in_8bit": True}
        assert not hasattr(config.causal_lm, "quantization_config")
        config.save_pretrained(tmp_path)
        saved = json.loads((tmp_path / "config.json").read_text())
        assert saved["quantization_config"]["load_in_8bit"]
        assert "quantization_config" not in saved["causal_lm"]
    assert inner.quantization_config["load_in_8bit"]  # the given one stays


def test_a_quantization_without_a_file_format_is_refused(tmp_path):
    class Quantizer:
        quantization_config = QuantoConfig()

        def is_serializable(self):
            return False

    causal_lm = tiny_causal_lm()
    causal_lm.hf_quantizer = Quantizer()
    model = GenARMRewardModel.from_causal_lm(causal_lm)
    with pytest.raises(ValueError, match="can be saved, got 'quanto'. Save the reward model around the causal LM bef"):
        model.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_quanto_is_refused_when_it_is_saved(folder, tmp_path):
    pytest.importorskip("optimum.quanto")
    causal_lm = AutoModelForCausalLM.from_pretrained(folder, quantization_config=QuantoConfig(weights="int8"))
    with pytest.raises(ValueError, match="got 'quanto'"):
        GenARMRewardModel.from_causal_lm(causal_lm).save_pretrained(tmp_path / "saved")

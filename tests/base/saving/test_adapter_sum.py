import copy
import dataclasses

import pytest
import torch
from peft import (
    AdaLoraConfig,
    IA3Config,
    LoraConfig,
    PeftModel,
    PrefixTuningConfig,
    VeraConfig,
    get_peft_model,
)
from peft.tuners.lora.config import BdLoraConfig, KasaConfig, MontecloraConfig, VeloraConfig
from tiny import tiny_causal_lm
from transformers import AutoModelForSequenceClassification, GPT2Config, GPT2LMHeadModel, LlamaConfig

from hf_reward_ext import GuidedCausalLM
from hf_reward_ext.base.lm.lora_options import LORA_PRODUCT_FIELDS
from hf_reward_ext.base.saving.adapter_sum import merge_adapters

# Warnings of PEFT: a LoRA bias is taken for an incomplete shard, saved embeddings and absent ties are announced.
pytestmark = pytest.mark.filterwarnings("ignore:.*invalid shape", "ignore:.*embedding_layers", "ignore:.*weight_tying")
IDS = torch.tensor([[4, 5, 6, 7, 8]])


def llama():
    return tiny_causal_lm(attention_bias=True, mlp_bias=True)  # so that a LoRA bias can be merged too


def gpt2():
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=32, n_embd=16, n_layer=2, n_head=2, initializer_range=0.5))


def lora(**options):
    config = {"r": 3, "lora_alpha": 5, "target_modules": ["q_proj", "v_proj", "up_proj"], "task_type": "CAUSAL_LM"}
    return LoraConfig(**{**config, **options})


def adapted(base, *configs):
    """Adapters `a0`, `a1`, ... whose every value is random."""
    model = get_peft_model(base, configs[0], "a0")
    for number, config in enumerate(configs[1:], start=1):
        model.add_adapter(f"a{number}", config)
    torch.manual_seed(0)
    for name, values in model.named_parameters():
        if "lora_" in name:
            values.data = torch.randn_like(values) * 0.3
    return model.eval()


@torch.no_grad()
def logits(model):
    return model.eval()(input_ids=IDS).logits


# Options under which a change of the weights is a product B A, and that of a bias a vector.
EXACT = {
    "plain": {},
    "rsLoRA": {"use_rslora": True},
    "LoRA bias": {"lora_bias": True},
    "LoRA bias, rsLoRA": {"lora_bias": True, "use_rslora": True},
    "ranks by layer": {"rank_pattern": {"q_proj": 2, r"layers\.0\.mlp\.up_proj": 7}},
    "scales by layer": {"alpha_pattern": {"q_proj": 16, r"layers\.1\.mlp\.up_proj": 1}},
    "both, rsLoRA": {"rank_pattern": {"q_proj": 6}, "alpha_pattern": {"v_proj": 2}, "use_rslora": True},
    "some layers": {"layers_to_transform": [1], "layers_pattern": "layers"},
    "all but some": {"target_modules": "all-linear", "exclude_modules": ["down_proj"]},
    "regular expression": {"target_modules": r".*layers\.1\..*(q_proj|up_proj)"},
    "embeddings": {"target_modules": ["embed_tokens", "q_proj"]},
    "head": {"target_modules": ["lm_head", "k_proj"]},
    "dropout": {"lora_dropout": 0.5},
    "gaussian": {"init_lora_weights": "gaussian"},
    "orthogonal": {"init_lora_weights": "orthogonal", "r": 4},
    "for inference": {"inference_mode": True},
}


@pytest.mark.parametrize("options", EXACT.values(), ids=EXACT)
def test_one_adapter_of_weight_one_gives_itself_back_and_is_saved(options, tmp_path):
    model = adapted(llama(), lora(**options))
    alone = logits(model)
    assert (alone - logits(llama())).norm() > 0.1
    assert merge_adapters(model, ["a0"], [1.0]) is model
    assert model.active_adapter == "merged"
    torch.testing.assert_close(logits(model), alone, rtol=1e-5, atol=1e-5)
    model.save_pretrained(tmp_path, selected_adapters=["merged"])
    torch.testing.assert_close(logits(PeftModel.from_pretrained(llama(), tmp_path / "merged")), alone)


@pytest.mark.parametrize("options", EXACT.values(), ids=EXACT)
def test_sums_are_those_of_the_dense_weights(options):
    # Beside one of another rank, scale and set of layers; in both orders, since PEFT copies the first one's options.
    other = {"r": 2, "lora_alpha": 7, "target_modules": ["q_proj", "o_proj"]}
    for configs in ((lora(**options), lora(**other)), (lora(**other), lora(**options))):
        model, weights = adapted(llama(), *configs), [0.7, -0.4]
        expected = llama()
        for number, weight in enumerate(weights):
            dense = copy.deepcopy(model).merge_and_unload(adapter_names=[f"a{number}"]).state_dict()
            before = llama().state_dict()
            for name, values in expected.state_dict().items():
                values.add_(weight * (dense[name] - before[name]))
        merge_adapters(model, ["a0", "a1"], weights)
        torch.testing.assert_close(logits(model), logits(expected), rtol=1e-4, atol=1e-4)


def test_transposed_layers_add_up():
    options = {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True}
    model = adapted(gpt2(), lora(**options), lora(**options, use_rslora=True, r=2))
    deltas = [
        model.get_base_model().transformer.h[0].attn.c_attn.get_delta_weight(name) for name in ("a0", "a1")
    ]  # fmt: skip
    merge_adapters(model, ["a0", "a1"], [0.5, 2.0])
    merged = model.get_base_model().transformer.h[0].attn.c_attn.get_delta_weight("merged")
    torch.testing.assert_close(merged, 0.5 * deltas[0] + 2.0 * deltas[1])


def test_half_precision_adapters_are_summed_in_float32():
    model = get_peft_model(llama().bfloat16(), lora(), "a0", autocast_adapter_dtype=False)
    torch.manual_seed(0)
    layer = model.get_base_model().model.layers[0].self_attn.q_proj
    for part in (layer.lora_A["a0"], layer.lora_B["a0"]):
        part.weight.data.normal_()
    merge_adapters(model, ["a0", "a0"], [0.3, 0.7])
    down, up = (part["a0"].weight.double() for part in (layer.lora_A, layer.lora_B))
    merged = layer.lora_B["merged"].weight.double() @ layer.lora_A["merged"].weight.double()
    torch.testing.assert_close(merged, 5 / 3 * up @ down, rtol=1e-5, atol=1e-5)


def test_the_sum_guides_as_its_parts_do():
    model = adapted(llama(), lora(), lora(use_rslora=True, r=2))
    merge_adapters(model, ["a1"], [1.0])
    sums, parts = (GuidedCausalLM.from_peft(model, adapters=[name])(IDS).logits for name in ("merged", "a1"))
    torch.testing.assert_close(sums, parts, rtol=1e-4, atol=1e-4)


# Options that change more than that: what the refusal names.
REFUSED = {
    "DoRA": ({"use_dora": True}, "use_dora=True"),
    "aLoRA": ({"alora_invocation_tokens": [5]}, "alora_invocation_tokens="),
    "VeLoRA": ({"velora_config": VeloraConfig(num_groups=2)}, "velora_config="),
    "block diagonal": (
        {"use_bdlora": BdLoraConfig(target_modules_bd_a=["q_proj"], nblocks=2, match_strict=False), "r": 4},
        "use_bdlora=",
    ),
    "Monte Carlo": ({"monteclora_config": MontecloraConfig()}, "monteclora_config="),
    "biases of the base": ({"bias": "lora_only"}, "bias='lora_only'"),
    "all biases": ({"bias": "all"}, "bias='all'"),
    "whole modules": ({"modules_to_save": ["lm_head"]}, "modules_to_save="),
    "tokens": ({"trainable_token_indices": [3]}, "trainable_token_indices="),
    "replicated layers": ({"layer_replication": [(0, 2), (1, 3)]}, "layer_replication="),
    "tied": ({"ensure_weight_tying": True}, "ensure_weight_tying=True"),
    "PiSSA": ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa'"),
    "fast PiSSA": ({"init_lora_weights": "pissa_niter_2"}, "init_lora_weights='pissa_niter_2'"),
    "OLoRA": ({"init_lora_weights": "olora"}, "init_lora_weights='olora'"),
    "MiCA": ({"init_lora_weights": "mica"}, "init_lora_weights='mica'"),
}


@pytest.mark.parametrize(("options", "named"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_product_is_refused_by_name_before_anything_changes(options, named):
    model = get_peft_model(llama(), lora(**options), "other")
    adapters = ["other"]
    if "layer_replication" not in options:
        model.add_adapter("plain", lora())
        adapters = ["plain", "other"]
    with pytest.raises(ValueError, match="'other' must change weights by LoRA products only.*merge_models") as error:
        merge_adapters(model, adapters, [1.0] * len(adapters))
    assert named in str(error.value)
    assert "merged" not in model.peft_config


UNBUILT = ["target_parameters", "use_qalora", "arrow_config", "megatron_config"]


def test_every_option_of_peft_is_summed_or_refused():
    tried = {name for options, _ in REFUSED.values() for name in options} | {"init_lora_weights"}
    # Read only beside another option of this list, or by a library that is not installed.
    dependent = {"loftq_config", "corda_config", "lora_ga_config", "qalora_group_size"}
    names = {field.name for field in dataclasses.fields(LoraConfig)}
    assert names == LORA_PRODUCT_FIELDS | tried | dependent | {"kasa_config", *UNBUILT}


@pytest.mark.parametrize("name", [*UNBUILT, "an_option_of_tomorrow"])
def test_options_that_cannot_be_built_here_are_refused_too(name, monkeypatch):
    model = get_peft_model(llama(), lora(), "a0")
    if name == "an_option_of_tomorrow":
        new = dataclasses.make_dataclass("Tomorrow", [(name, bool, False)])
        fields = (*dataclasses.fields(LoraConfig), *dataclasses.fields(new))
        monkeypatch.setattr(dataclasses, "fields", lambda _: fields)
    setattr(model.peft_config["a0"], name, True)
    with pytest.raises(ValueError, match=f"got {name}=True, which do not add up"):
        merge_adapters(model, ["a0"], [1.0])


def test_kasa_is_copied_alone_and_refused_beside_others(tmp_path):
    options = {"kasa_config": KasaConfig(), "rank_pattern": {"q_proj": 2}}
    model = adapted(llama(), lora(**options))
    alone = logits(model)
    merge_adapters(model, ["a0"], [1.0])
    torch.testing.assert_close(logits(model), alone, rtol=1e-4, atol=1e-4)
    model.save_pretrained(tmp_path, selected_adapters=["merged"])
    loaded = PeftModel.from_pretrained(llama(), tmp_path / "merged")
    torch.testing.assert_close(logits(loaded), alone, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="must change weights by LoRA products only, got kasa_config="):
        merge_adapters(model, ["a0", "merged"], [1.0, 1.0], name="both")


@pytest.mark.parametrize(
    "config",
    [
        IA3Config(target_modules=["q_proj", "up_proj"], feedforward_modules=["up_proj"]),
        VeraConfig(target_modules=["o_proj"], r=2),
        PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2),
        AdaLoraConfig(target_modules=["q_proj"], total_step=10),
    ],
    ids=lambda config: config.peft_type.value,
)
def test_other_adapters_are_refused(config):
    model = get_peft_model(llama(), config, "other")
    with pytest.raises(ValueError, match=f"'other' must be a LoRA adapter, got {config.peft_type.value}"):
        merge_adapters(model, ["other"], [1.0])


def test_reward_adapters_with_a_head_of_their_own_are_refused():
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_labels=1
    )
    model = get_peft_model(AutoModelForSequenceClassification.from_config(config), lora(task_type="SEQ_CLS"), "a0")
    with pytest.raises(ValueError, match=r"modules_to_save=\['classifier', 'score'\]"):
        merge_adapters(model, ["a0"], [1.0])


def test_names_and_weights_are_checked():
    def model():
        return adapted(llama(), lora(), lora())

    with pytest.raises(ValueError, match=r"got \['a0', 'b'\] and 'merged' for a model that has \['a0', 'a1'\]"):
        merge_adapters(model(), ["a0", "b"], [0.5, 0.5])
    with pytest.raises(ValueError, match="choose another name"):
        merge_adapters(model(), ["a0", "a1"], [0.5, 0.5], name="a1")
    with pytest.raises(ValueError, match=r"one finite number per adapter \(2\), got \[0.5\]"):
        merge_adapters(model(), ["a0", "a1"], [0.5])
    with pytest.raises(ValueError, match=r"one finite number per adapter \(1\), got \[nan\]"):
        merge_adapters(model(), ["a0"], [float("nan")])
    with pytest.raises(ValueError, match=r"got \[\] and 'merged'"):
        merge_adapters(model(), [], [])
    with pytest.raises(TypeError, match=r"must be a list of names, got 'a0'. Pass `\['a0'\]`"):
        merge_adapters(model(), "a0", [1.0])
    with pytest.raises(TypeError, match="must be a `PeftModel`, got `LlamaForCausalLM`"):
        merge_adapters(llama(), ["a0"], [1.0])


def test_adapters_in_the_base_at_present_are_refused():
    model = adapted(llama(), lora(), lora())
    model.merge_adapter(["a0"])
    with pytest.raises(ValueError, match=r"got \['a0'\]. Call `unmerge_adapter` first"):
        merge_adapters(model, ["a1"], [1.0])
    model.unmerge_adapter()
    merge_adapters(model, ["a1"], [1.0])

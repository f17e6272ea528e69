"""Any damage to a checkpoint: loading gives the weights that its files hold, or an error that names the folder."""

import json
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from damaged_bytes import damage_bytes
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tiny import tiny_causal_lm

from hf_reward_ext import ELHSRModel, GenARMRewardModel, RewardTransformer
from hf_reward_ext.cli.models import load_adapter
from hf_reward_ext.sla import RewardChannel

DAMAGE = st.tuples(
    st.sampled_from(["truncate", "flip", "drop", "rename", "reshape", "nan", "add", "scale"]),
    st.sampled_from(["weights", "config"]),
    st.integers(0, 10**6),
    st.integers(1, 255),
)
VALUES = [None, 0, -1, 3, 2.5, "x", [], {}, True, 10**9]


def save_head(folder):
    ELHSRModel.from_policy(tiny_causal_lm()).save_pretrained(folder)
    return ELHSRModel.from_pretrained


def save_channel(folder):
    RewardTransformer.from_base(tiny_causal_lm(), channel_size=8).save_pretrained(folder)
    return RewardChannel.from_pretrained


def save_guide(folder):
    GenARMRewardModel.from_causal_lm(tiny_causal_lm()).save_pretrained(folder)
    return GenARMRewardModel.from_pretrained


def save_adapter(folder):
    base = tiny_causal_lm()
    lora = LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], r=2, init_lora_weights=False)
    get_peft_model(base, lora).save_pretrained(folder)
    return lambda name: load_adapter(tiny_causal_lm(), str(name))


KINDS = {"head": save_head, "channel": save_channel, "guide": save_guide, "adapter": save_adapter}


@pytest.fixture(scope="module", params=KINDS)
def checkpoint(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "model"
    return folder, KINDS[request.param](folder)


def damage_weights(path, kind, place, bits):
    weights = load_file(path)
    name = sorted(weights)[place % len(weights)]
    if kind == "drop":
        del weights[name]
    elif kind == "rename":
        weights[f"{name}.old"] = weights.pop(name)
    elif kind == "reshape":
        weights[name] = torch.cat([weights[name], weights[name]])
    elif kind == "nan":
        weights[name].view(-1)[place % weights[name].numel()] = torch.nan
    elif kind == "add":
        weights["other"] = torch.zeros(2)
    else:
        weights[name] = weights[name] * bits
    save_file(weights, path, metadata={"format": "pt"})


def damage_config(path, kind, place, bits):
    config = json.loads(path.read_text())
    name = sorted(config)[place % len(config)]
    if kind == "drop":
        del config[name]
    elif kind == "rename":
        config[f"{name}_old"] = config.pop(name)
    else:
        config[name] = VALUES[bits % len(VALUES)]
    path.write_text(json.dumps(config))


def damage(folder, kind, which, place, bits):
    names = {"weights": "*model.safetensors", "config": "*config.json"}
    [path] = (
        folder.glob(names[which])
        if which == "weights"
        else [path for path in folder.glob(names[which]) if path.name in ("config.json", "adapter_config.json")]
    )
    if kind in ("truncate", "flip"):
        damage_bytes(path, kind, place, bits)
    else:
        (damage_weights if which == "weights" else damage_config)(path, kind, place, bits)


@given(how=DAMAGE)
@pytest.mark.filterwarnings("ignore")
def test_damage_is_refused_by_name_or_loads_what_the_file_holds(checkpoint, how):
    whole, load = checkpoint
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "model"
        shutil.copytree(whole, folder)
        kind, which, place, bits = how
        damage(folder, kind, which if not (folder / "adapter_config.json").exists() else "weights", place, bits)
        torch.manual_seed(how[2])  # random weights would differ from those of the file
        try:
            model = load(folder)
        except (ValueError, OSError) as error:
            assert str(folder) in str(error), error
            return
        [path] = folder.glob("*model.safetensors")
        loaded = {name.replace(".default", ""): value for name, value in model.state_dict().items()}
        held = load_file(path)
        for name, value in held.items():
            if "adapter" in path.name and name not in loaded:
                continue  # PEFT ignores what it does not have, and refuses what it lacks
            torch.testing.assert_close(loaded[name].to(value.dtype), value, rtol=0, atol=0)
        if "adapter" not in path.name:
            assert set(held) >= set(loaded) - {"causal_lm.lm_head.weight"}

"""The norm after the last layer, from the files of a model."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import ARCHITECTURES, tiny_causal_lm

from hf_reward_ext.base.lm.final_norm import load_final_norm


@torch.no_grad()
@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("shard", ["1GB", "6KB"])
def test_the_state_before_it_becomes_the_state_after_it(arch, shard, tmp_path):
    model = tiny_causal_lm(arch)
    norms = [module for name, module in model.named_modules() if "norm" in name and "layers" not in name]
    for weight in norms[-1].parameters():
        torch.nn.init.normal_(weight)
    before = []
    norms[-1].register_forward_pre_hook(lambda _, given: before.append(given[0]))
    after = model(torch.tensor([[5, 6, 7]]), output_hidden_states=True).hidden_states[-1]
    model.save_pretrained(tmp_path, max_shard_size=shard)
    torch.testing.assert_close(load_final_norm(str(tmp_path))(before[0]), after)


def test_a_folder_without_its_weights(tmp_path):
    tiny_causal_lm().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    save_file({name: weight for name, weight in load_file(file).items() if name != "model.norm.weight"}, file)
    with pytest.raises(ValueError, match="must have one weight model.norm.weight in safetensors files, got 0"):
        load_final_norm(str(tmp_path))

"""Models that are larger than memory are refused before a weight is read, with an estimate and the remedy."""

import json
import resource
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from huggingface_hub import HfApi
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny import tiny_causal_lm
from transformers import AutoModelForCausalLM

from hf_reward_ext.base.saving.weight_size import weight_bytes
from hf_reward_ext.cli import memory
from hf_reward_ext.cli.main import main

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])  # `serve` binds its port

GIB = 2**30


def size_of(folder):
    """Bytes of the loaded weights."""
    return sum(weight.nbytes for weight in load_file(Path(folder) / "model.safetensors").values())


@pytest.fixture
def available(monkeypatch):
    """Sets the memory of the machine."""

    def set_available(size):
        monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=size))

    return set_available


@pytest.fixture
def no_weight_is_read(monkeypatch):
    """Fails when a weight is read."""

    def refuse(*args, **kwargs):
        raise AssertionError("a weight was read")

    monkeypatch.setattr("transformers.modeling_utils.PreTrainedModel._load_pretrained_model", refuse)
    monkeypatch.setattr("safetensors.torch.load_file", refuse)


def command_lines(folder):
    prompts = ["--prompt", "w3 w5", "--max_new_tokens", "2", "--device", "cpu"]
    pairs = ["--data", f"{folder}/pairs", "--device", "cpu"]
    policy, head = f"{folder}/policy", f"{folder}/head"
    return {
        "generate": (["generate", "--model", policy, *prompts], [policy]),
        "generate guide": (["generate", "--model", policy, "--guide", policy, *prompts], [policy]),
        "bon head": (["bon", "--reward_model", head, *prompts], [head, policy]),
        "bon measure": (["bon", "--reward_model", "confidence", "--model", policy, *prompts], [policy]),
        "bon engine": (
            ["bon", "--engine", "continuous_batching", "--reward_model", head, "--model", policy, *prompts],
            [policy, head],
        ),
        "judge": (["judge", "--model", policy, "--verdicts", "w20", "w21", *pairs], [policy]),
        "evaluate": (["evaluate", "--scorer", head, *pairs], [head, policy]),
        "evaluate measure": (["evaluate", "--scorer", "length", "--policy", policy, *pairs], [policy]),
        "label-steps": (
            ["label-steps", "--model", policy, "--scorer", head, "--data", f"{folder}/steps.jsonl", "--device", "cpu"],
            [policy, head],
        ),
        "serve": (["serve", "--scorer", head, "--port", "0", "--device", "cpu"], [head, policy]),
        "train": (
            ["train", "genarm", "--model_name_or_path", policy, "--dataset_name", f"{folder}/pairs", "--use_cpu",
             "--output_dir", f"{folder}/trained"],
            [policy],
        ),
    }  # fmt: skip


@pytest.fixture
def place(folder, tmp_path):
    (folder / "steps.jsonl").write_text(json.dumps({"prompt": "w3", "completion": " w5\n\n w6"}) + "\n")
    return folder


@pytest.mark.parametrize("name", command_lines(Path()))
def test_every_command_refuses_before_a_weight_is_read(name, place, available, no_weight_is_read, capsys):
    line, models = command_lines(place)[name]
    needed = sum(map(size_of, models))
    available(needed - 1)
    assert main(line) == 1
    error = capsys.readouterr().err
    assert all(model in error for model in models) and "must fit in memory: they need about" in error
    assert f"{needed / GIB:.3g} GiB, but {(needed - 1) / GIB:.3g} GiB are available on 'cpu'" in error
    assert "Load them with `--dtype bfloat16`." in error


def test_models_that_fit_are_loaded(place, available):
    line, models = command_lines(place)["bon head"]
    available(sum(map(size_of, models)))
    assert main(line) == 0
    available(sum(map(size_of, models)) // 2)
    assert main([*line, "--dtype", "bfloat16"]) == 0


@pytest.mark.parametrize(("dtype", "device", "remedy"), [
    ("bfloat16", "cpu", "Use a quantized checkpoint"),
    ("bfloat16", "auto", "available on all devices. Use a quantized checkpoint"),
    ("float32", "cpu", "Load them with `--dtype bfloat16`."),
])  # fmt: skip
def test_the_remedy_is_one_that_helps(dtype, device, remedy, place, available, capsys):
    policy = f"{place}/policy"
    available(size_of(policy) // 2 - (1 if dtype == "bfloat16" else 0))
    assert main(["generate", "--model", policy, "--prompt", "w3", "--dtype", dtype, "--device", device]) == 1
    assert remedy in capsys.readouterr().err


def test_a_device_that_is_too_small_beside_larger_ones(place, available, monkeypatch, capsys):
    """As with a GPU, which this machine may not have."""
    size = size_of(place / "policy") // 2
    gpu = SimpleNamespace(mem_get_info=lambda device: (size - 1, GIB))
    monkeypatch.setattr(torch, "cuda", gpu)
    monkeypatch.setattr(memory, "_default_device", lambda: "cuda")
    monkeypatch.setattr(memory, "get_max_memory", lambda: {0: size - 1, "cpu": 0})
    available(size)
    models = {f"{place}/policy": None}
    with pytest.raises(ValueError, match="available on 'cuda:0'. Distribute them with `--device auto`"):
        memory.check_weights(models, 16, "cuda:0")
    memory.check_weights(models, 16, "auto")
    memory.check_weights(models, 16, "xpu")  # does not exist: loading gives the reason


def test_processes_of_a_machine_share_its_memory(place, available, monkeypatch):
    size = size_of(place / "policy")
    available(2 * size)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    memory.check_weights({f"{place}/policy": None}, None, "cpu")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(ValueError, match="must fit in memory"):
        memory.check_weights({f"{place}/policy": None}, None, "cpu")


@pytest.mark.parametrize("version", [1, 2])
def test_the_share_of_a_control_group(version, tmp_path, monkeypatch):
    """That of the group and of those it is in; pages of files are given back."""
    names = memory._FIRST if version == 1 else memory._SECOND
    root = tmp_path / "memory" if version == 1 else tmp_path
    for folder, limit, used, cached in (("", 9000, 4000, 0), ("job", 1000, 700, 100), ("job/step", 2**62, 300, 0)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name, text in zip(names, (limit, used), strict=False):
            (root / folder / name).write_text(f"{text}\n")
        (root / folder / "memory.stat").write_text(f"anon 5\n{names[2]} {cached}\n")
    if version == 2:
        (root / "job/step" / names[0]).write_text("max\n")
    line = "4:cpu,memory:/job/step" if version == 1 else "0::/job/step"
    (tmp_path / "cgroup").write_text(f"9:name=systemd:/\n{line}\n")
    monkeypatch.setattr(memory, "_GROUPS", tmp_path)
    monkeypatch.setattr(memory, "Path", lambda path: tmp_path / "cgroup")
    assert min(memory._group_limits()) == 1000 - 700 + 100


@pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are read on Linux")
def test_a_limit_of_the_address_space(monkeypatch):
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = psutil.Process().memory_info().vms
    try:
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, limits[1]))
        assert memory.available_bytes("cpu") == pytest.approx(2**30, abs=2**28)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shards", ["5GB", "4KB"])
def test_the_estimate_is_what_is_loaded(dtype, shards, tmp_path):
    tiny_causal_lm(dtype=dtype).save_pretrained(tmp_path, max_shard_size=shards)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shards == "4KB")
    for bits, loaded in ((None, dtype), (32, torch.float32), (16, torch.bfloat16)):
        model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=loaded)
        assert weight_bytes(str(tmp_path), None, bits) == sum(weight.nbytes for weight in model.parameters())


def test_a_quantized_checkpoint_stays_as_it_is(tmp_path):
    save_file({"a": torch.zeros(7, 3), "b": torch.zeros(8, dtype=torch.uint8), "c": torch.zeros(3, dtype=torch.bool)},
              tmp_path / "model.safetensors")  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    assert weight_bytes(str(tmp_path), None, 16) == 42 + 8 + 3
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "x"}}))
    assert weight_bytes(str(tmp_path), None, 16) == 84 + 8 + 3


@pytest.mark.parametrize("is_there", [True, False])
def test_a_model_of_the_hub_is_asked_for_its_headers(is_there, tmp_path, folder, monkeypatch):
    asked = []

    def metadata(self, name, *, revision):
        asked.append((name, revision))
        if not is_there:
            raise OSError("no network")
        return SimpleNamespace(parameter_count={"BF16": 100, "I64": 2})

    shutil.copy(folder / "policy" / "config.json", tmp_path)
    monkeypatch.setattr(
        "hf_reward_ext.base.saving.weight_size.cached_file", lambda name, file, **kwargs: str(tmp_path / file)
    )
    monkeypatch.setattr(HfApi, "get_safetensors_metadata", metadata)
    assert weight_bytes("me/policy", "main", 32) == (416 if is_there else None)
    assert asked == [("me/policy", "main")]


def test_headers_are_read_alone(place, monkeypatch):
    """Of each tensor its shape and type."""
    opened = []

    class Headers:
        def __init__(self, file, framework):
            self.file = safe_open(file, framework)

        def __enter__(self):
            return SimpleNamespace(keys=self.file.keys, get_slice=self.slice)

        def __exit__(self, *_):
            pass

        def slice(self, key):
            opened.append(key)
            found = self.file.get_slice(key)
            return SimpleNamespace(get_shape=found.get_shape, get_dtype=found.get_dtype)

    monkeypatch.setattr("hf_reward_ext.base.saving.weight_size.safe_open", Headers)
    assert weight_bytes(f"{place}/policy") == size_of(place / "policy") and opened

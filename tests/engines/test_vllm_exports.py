"""What the four trainers save, in the real vLLM without this package: `make test-vllm`; table in docs/engines.md."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from method_trainers import trainer_of
from peft import LoraConfig, PeftModel
from tiny import tiny_causal_lm, tiny_tokenizer
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, LlamaForSequenceClassification

from hf_reward_ext import FastSlowRewardModel

VLLM = os.environ.get("VLLM")
pytestmark = [pytest.mark.vllm, pytest.mark.skipif(not VLLM, reason="VLLM is not set")]
IDS = [5, 6, 7, 8]
WIDE = dict(hidden_size=128, intermediate_size=128)  # vLLM has no attention with heads of width 4
PAIRS = Dataset.from_list([{"prompt": "w9 w8 ", "chosen": "w7 w6", "rejected": "w5 w4"}] * 4)
LABELED = Dataset.from_list(
    [{"prompt": "w9 ", "completion": text, "label": label} for text, label in (("w7 w6", 1.0), ("w7", 0.0))] * 2
)


def train(method, folder, rows, **more):
    base = AutoModelForCausalLM.from_pretrained(folder.parent / "base")
    trainer = trainer_of(method, folder, rows, model=base, more=more)
    trainer.train()
    trainer.save_model()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports")
    tiny_causal_lm(**WIDE).save_pretrained(folder / "base")
    tiny_tokenizer().save_pretrained(folder / "base")
    train("GenARM", folder / "arm", PAIRS)
    train("Fast-Slow", folder / "judge", PAIRS)
    for name in ("arm", "judge"):
        method = "GenARM" if name == "arm" else "Fast-Slow"
        config = LoraConfig(target_modules=["q_proj", "v_proj"], r=4, task_type="CAUSAL_LM", init_lora_weights=False)
        train(method, folder / f"{name}-lora", PAIRS, peft_config=config)
    train("ELHSR", folder / "head", LABELED)
    train("SLA", folder / "channel", PAIRS)
    FastSlowRewardModel.from_pretrained(folder / "judge").causal_lm.save_pretrained(folder / "judge-lm")
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder / "base"), folder / "arm-lora")
    adapted.save_pretrained(folder / "arm-lora-plain")
    torch.manual_seed(0)
    config = tiny_causal_lm(**WIDE).config
    config.num_labels = 1
    LlamaForSequenceClassification(config).save_pretrained(folder / "classifier")
    tiny_tokenizer().save_pretrained(folder / "classifier")
    return folder


@pytest.fixture(scope="module")
def answers(folder):
    """Scores, or the error, of every model by name."""
    generating = ("arm", "judge-lm", "judge", "head", "channel")
    asked = [{"folder": str(folder / name), "runner": "generate"} for name in generating]
    asked += [{"folder": str(folder / name), "runner": "pooling"} for name in ("head", "channel", "classifier")]
    asked += [
        {"folder": str(folder / "base"), "runner": "generate", "adapter": str(folder / name)}
        for name in ("arm-lora-plain", "judge-lora", "arm-lora")
    ]
    environment = {
        **os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "PYTHONPATH": "",
    }  # fmt: skip
    script = Path(__file__).parents[1] / "vllm_load.py"
    command = [str(Path(VLLM).with_name("python")), str(script), json.dumps(asked), json.dumps(IDS)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    rows = [json.loads(line) for line in run.stdout.splitlines() if line.startswith('{"folder"')]
    assert len(rows) == len(asked), run.stderr[-4000:]
    return {(Path(row.get("adapter") or row["folder"]).name, row["runner"]): row for row in rows}


def check(answer, logits):
    expected = logits[0, -1].log_softmax(-1)
    assert "error" not in answer, answer["error"]
    assert len(answer["scores"]) == 20
    for token, score in answer["scores"].items():
        assert score == pytest.approx(float(expected[int(token)]), abs=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("name", ["arm", "judge-lm"])
def test_arms_and_the_model_of_a_judge_are_causal_lms_in_vllm(folder, answers, name):
    model = AutoModelForCausalLM.from_pretrained(folder / name).eval()
    check(answers[name, "generate"], model(torch.tensor([IDS])).logits)


@torch.no_grad()
@pytest.mark.parametrize("name", ["arm-lora-plain", "judge-lora"])
def test_adapters_are_lora_requests_in_vllm(folder, answers, name):
    base = AutoModelForCausalLM.from_pretrained(folder / "base")
    plain = base(torch.tensor([IDS])).logits
    adapted = PeftModel.from_pretrained(base, folder / name).eval()(torch.tensor([IDS])).logits
    assert (adapted - plain).abs().max() > 1e-2
    check(answers[name, "generate"], adapted)


def test_what_has_to_be_saved_again_for_vllm(answers):
    """The folder of a judge has its own type; that of an adapter marks that it is no classifier."""
    assert "scores" not in answers["judge", "generate"]
    assert "received ['score']" in answers["arm-lora", "generate"]["error"]


@pytest.mark.parametrize("runner", ["generate", "pooling"])
@pytest.mark.parametrize("name", ["head", "channel"])
def test_heads_and_channels_are_no_models_of_vllm(answers, name, runner):
    """They read hidden states of the engine instead: tests/engines/test_vllm_states.py."""
    assert "scores" not in answers[name, runner]
    assert "model type" in answers[name, runner]["error"] or "architectures" in answers[name, runner]["error"]


@torch.no_grad()
def test_sequence_classifiers_give_their_raw_logit_in_vllm(folder, answers):
    model = AutoModelForSequenceClassification.from_pretrained(folder / "classifier").eval()
    answer = answers["classifier", "pooling"]
    assert answer.get("scores", answer) == {"0": pytest.approx(float(model(torch.tensor([IDS])).logits), abs=1e-4)}

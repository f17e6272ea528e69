import json

import pytest
import torch
from datasets import Dataset
from peft import AutoPeftModelForSequenceClassification, LoraConfig, get_peft_model
from peft.tuners.lora import Linear
from safetensors.torch import load_file, save_file
from tiny import EOS, PAD, VOCAB, tiny_causal_lm, tiny_tokenizer
from tiny_judges import POINTWISE, VERDICTS
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, pipeline
from transformers.modeling_outputs import SequenceClassifierOutput
from trl import RewardConfig, RewardTrainer

from hf_reward_ext import ELHSRModel, GenARMRewardModel
from hf_reward_ext.checks import check_reward_model
from hf_reward_ext.fast_slow import FastSlowRewardModel
from hf_reward_ext.sla import RewardTransformer

ROWS = [
    "w1 w2 w3",
    {"text": "w4 w5 w6 w7 w8"},
    {"prompt": "w1 w2", "chosen": " w9 w4", "rejected": " w8"},
    {"prompt": [{"role": "user", "content": "w3 w4"}], "completion": [{"role": "assistant", "content": "w9"}]},
    {"chosen": "w1 w2 w3 w4", "rejected": "w5 w6"},
]
NUM_TEXTS = 7
CHECKS = ["batch_size", "padding_side", "pad_is_eos", "fresh_head", "unsaved_head", "lora_merge", "sigmoid"]


def causal_lm(folder):
    tiny_causal_lm().save_pretrained(folder / "lm")
    return folder / "lm"


def classifier(place):
    return AutoModelForSequenceClassification.from_pretrained(place, num_labels=1, problem_type="regression").eval()


def sound(folder):
    """As TRL's reward trainer saves it, with the problem type."""
    classifier(causal_lm(folder)).save_pretrained(folder / "rm")
    return classifier(folder / "rm")


def checks(model, **kwargs):
    """Names of the findings; each of them has a remedy."""
    report = check_reward_model(model, tiny_tokenizer(), ROWS, **kwargs)
    assert all(one.found and one.remedy.endswith(".") for one in report.findings)
    return [one.check for one in report.findings]


def remedy(model, check, tokenizer=None):
    report = check_reward_model(model, tokenizer or tiny_tokenizer(), ROWS)
    return next(one.remedy for one in report.findings if one.check == check)


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "mistral", "gemma3_text", "gpt_neox"])
def test_a_sound_reward_model_of_trl_has_no_findings(tmp_path, architecture):
    tiny_causal_lm(architecture).save_pretrained(tmp_path / "lm")
    classifier(tmp_path / "lm").save_pretrained(tmp_path / "rm")
    report = check_reward_model(tmp_path / "rm", tiny_tokenizer(), ROWS)
    assert report.is_sound and report.findings == [] and len(report.rewards) == NUM_TEXTS
    assert set(report.passed) == set(CHECKS) - {"lora_merge"} and report.skipped == {"lora_merge": "no adapter"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_in_half_precision_is_no_finding(tmp_path, dtype):
    model = sound(tmp_path)
    model.score.weight.data *= 0.05  # rewards near zero, which are differences of larger numbers
    assert checks(model.to(dtype)) == []
    config = LoraConfig(task_type="SEQ_CLS", target_modules=["q_proj"], init_lora_weights=False)
    assert checks(get_peft_model(model, config)) == []


def named_base(folder):
    return AutoModelForCausalLM.from_pretrained(causal_lm(folder), attn_implementation="eager").eval()


def elhsr(folder):
    ELHSRModel.from_policy(named_base(folder)).save_pretrained(folder / "rm")


def genarm(folder):
    GenARMRewardModel.from_causal_lm(tiny_causal_lm()).save_pretrained(folder / "rm")


def sla(folder):
    RewardTransformer.from_base(named_base(folder), channel_size=4).save_pretrained(folder / "rm")


def fast_slow(folder):
    judge = FastSlowRewardModel(
        tiny_causal_lm(), tiny_tokenizer(), VERDICTS, kind="binary", template=POINTWISE, max_new_tokens=4
    )
    judge.save_pretrained(folder / "rm")


@pytest.mark.parametrize("method", [elhsr, genarm, sla, fast_slow])
def test_the_four_methods_have_no_findings(tmp_path, method):
    method(tmp_path)
    report = check_reward_model(str(tmp_path / "rm"), tiny_tokenizer(), ROWS)
    assert report.findings == [] and set(report.skipped) == {"lora_merge"}


def test_a_channel_that_its_checkpoint_lacks(tmp_path):
    sla(tmp_path)
    weights = load_file(tmp_path / "rm" / "model.safetensors")
    name = next(name for name in weights if name.startswith("head"))
    del weights[name]
    save_file(weights, tmp_path / "rm" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"lacks .*{name}.*, which would be random"):
        check_reward_model(tmp_path / "rm", tiny_tokenizer(), ROWS)


def test_an_adapter_with_its_head_has_no_findings_in_memory_and_on_disk(tmp_path):
    model = get_peft_model(
        classifier(causal_lm(tmp_path)),
        LoraConfig(task_type="SEQ_CLS", target_modules=["q_proj", "v_proj"], init_lora_weights=False),
    )
    assert checks(model) == []
    model.save_pretrained(tmp_path / "adapter")
    tiny_tokenizer().save_pretrained(tmp_path / "adapter")
    loaded = AutoPeftModelForSequenceClassification.from_pretrained(
        tmp_path / "adapter", num_labels=1, problem_type="regression"
    )
    report = check_reward_model(loaded, tiny_tokenizer(), ROWS, saved_to=tmp_path / "adapter")
    assert report.findings == [] and report.passed == CHECKS


def test_what_trl_has_trained_is_not_fresh(tmp_path):
    model = classifier(causal_lm(tmp_path))
    assert checks(model) == ["fresh_head"]
    model.config.pad_token_id = PAD
    pairs = Dataset.from_list([{"chosen": "w1 w2 w3", "rejected": "w4 w5"}] * 4)
    args = RewardConfig(
        str(tmp_path), max_steps=1, report_to="none", use_cpu=True, bf16=False, disable_tqdm=True, save_strategy="no"
    )
    RewardTrainer(model, args, train_dataset=pairs, processing_class=tiny_tokenizer()).train()
    assert checks(model) == []


class MeanFree(torch.nn.Module):
    """Subtracts the mean of its batch from every score."""

    def __init__(self, score):
        super().__init__()
        self.weight = score.weight

    def forward(self, hidden):
        scores = hidden @ self.weight.T
        return scores - scores.mean(0, keepdim=True) if len(scores) > 1 else scores


def test_texts_that_see_their_batch(tmp_path):
    model = sound(tmp_path)
    model.score = MeanFree(model.score)
    assert "batch_size" in checks(model)
    assert "mean that is subtracted" in remedy(model, "batch_size")


@pytest.mark.parametrize("own", [None, 5])
def test_scores_that_change_with_the_batch_by_its_padding(tmp_path, own):
    model = sound(tmp_path)
    model.config.pad_token_id = own
    assert "batch_size" in checks(model)
    assert f"config.pad_token_id = {PAD}`, the tokenizer's (it is {own})" in remedy(model, "batch_size")


def pool_at(choose):
    """A forward that scores the states at `choose(attention_mask)`."""

    def forward(self, input_ids, attention_mask, **kwargs):
        states = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        rows = torch.arange(len(input_ids))
        return SequenceClassifierOutput(logits=self.score(states[rows, choose(attention_mask)]))

    return forward


@pytest.mark.parametrize(
    ("choose", "expected", "side"),
    [
        (lambda mask: mask.sum(-1) - 1, ["padding_side"], "right"),
        (lambda mask: torch.full((len(mask),), -1), ["batch_size", "padding_side"], "left"),
    ],
    ids=["as if padded on the right", "at the last column"],
)
def test_scores_that_change_with_the_side_of_the_padding(tmp_path, monkeypatch, choose, expected, side):
    model = sound(tmp_path)
    monkeypatch.setattr(type(model), "forward", pool_at(choose))
    assert checks(model) == expected
    assert f"tokenizer.padding_side = '{side}'" in remedy(model, "padding_side")


def test_padding_with_the_end_of_text(tmp_path):
    model, tokenizer = sound(tmp_path), tiny_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = EOS
    report = check_reward_model(model, tokenizer, ROWS)
    assert [one.check for one in report.findings] == ["pad_is_eos"]
    assert "takes the end of a text for padding" in report.findings[0].found
    assert "add_special_tokens" in report.findings[0].remedy
    by_mask = GenARMRewardModel.from_causal_lm(tiny_causal_lm())
    assert "still reads the end of a text" in check_reward_model(by_mask, tokenizer, ROWS).findings[0].found


def test_no_padding_token_at_all(tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = None
    report = check_reward_model(sound(tmp_path), tokenizer, ROWS)
    assert [one.check for one in report.findings] == ["batch_size"] and "no padding token" in report.findings[0].found
    assert "padding_side" in report.skipped


def test_a_head_that_is_not_in_the_checkpoint(tmp_path):
    model = classifier(causal_lm(tmp_path))
    assert checks(model) == ["fresh_head"]
    assert "LlamaForCausalLM" in check_reward_model(model, tiny_tokenizer(), ROWS).findings[0].found
    assert checks(str(tmp_path / "lm")) == ["fresh_head", "sigmoid"]


def test_a_frozen_body_under_a_head_that_learns_is_given_the_benefit_of_the_doubt(tmp_path):
    model = classifier(causal_lm(tmp_path))
    model.model.requires_grad_(False)
    assert checks(model) == []


def test_an_adapter_that_does_not_save_its_head(tmp_path):
    model = get_peft_model(
        classifier(causal_lm(tmp_path)), LoraConfig(target_modules="all-linear", init_lora_weights=False)
    )
    assert checks(model) == ["unsaved_head"]
    assert "modules_to_save=['score']" in remedy(model, "unsaved_head")
    of_a_reward_model = get_peft_model(sound(tmp_path), LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
    assert checks(of_a_reward_model) == []


def test_an_untrained_adapter_on_a_fresh_head(tmp_path):
    model = get_peft_model(classifier(causal_lm(tmp_path)), LoraConfig(task_type="SEQ_CLS", target_modules=["q_proj"]))
    assert checks(model) == ["fresh_head"]


@pytest.mark.parametrize("is_sharded", [False, True])
def test_a_reward_model_that_was_saved_without_its_head(tmp_path, is_sharded):
    sound(tmp_path)
    folder = tmp_path / "rm"
    weights = load_file(folder / "model.safetensors")
    del weights["score.weight"]
    (folder / "model.safetensors").unlink()
    if is_sharded:
        halves = [dict(list(weights.items())[::2]), dict(list(weights.items())[1::2])]
        names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
        for name, half in zip(names, halves, strict=True):
            save_file(half, folder / name, metadata={"format": "pt"})
        index = {key: name for name, half in zip(names, halves, strict=True) for key in half}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    else:
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert checks(folder) == ["unsaved_head"]


def test_a_folder_that_does_not_hold_what_was_trained(tmp_path):
    model = sound(tmp_path)
    assert checks(model, saved_to=tmp_path / "rm") == []
    torch.nn.init.normal_(model.score.weight)
    assert checks(model, saved_to=tmp_path / "rm") == ["unsaved_head"]


def coarse(delta_weight):
    """What rounding to few bits leaves of an adapter."""
    return lambda self, adapter: (delta_weight(self, adapter) / 4).round() * 4


def test_a_merge_that_loses_the_adapter(tmp_path, monkeypatch):
    config = LoraConfig(task_type="SEQ_CLS", target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    model = get_peft_model(sound(tmp_path), config)
    assert checks(model) == []
    monkeypatch.setattr(Linear, "get_delta_weight", coarse(Linear.get_delta_weight))
    report = check_reward_model(model, tiny_tokenizer(), ROWS)
    assert [one.check for one in report.findings] == ["lora_merge"]
    assert "merged weights are float32" in report.findings[0].found and "unmerged" in report.findings[0].remedy
    assert any("lora_" in name for name, _ in model.named_parameters())  # a copy was merged


def test_the_tolerance_can_be_set(tmp_path):
    model = sound(tmp_path)
    assert checks(model, tolerance=0.0) == ["batch_size", "padding_side"]  # rounding
    model.config.pad_token_id = 5
    assert checks(model, tolerance=100.0) == []


def test_a_sigmoid_after_the_rewards(tmp_path):
    model = sound(tmp_path)
    model.config.problem_type = None
    report = check_reward_model(model, tiny_tokenizer(), ["w1 w2 w3"])
    assert [one.check for one in report.findings] == ["sigmoid"]
    pipe = pipeline("text-classification", model=model, tokenizer=tiny_tokenizer(), device="cpu")
    squashed = pipe("w1 w2 w3")[0]["score"]
    assert squashed == pytest.approx(torch.tensor(report.rewards[0]).sigmoid().item(), abs=1e-5)
    assert f"{squashed:.4g}" in report.findings[0].found
    model.config.problem_type = "regression"
    assert pipe("w1 w2 w3")[0]["score"] == pytest.approx(report.rewards[0], abs=1e-5)


def test_all_faults_at_once_and_the_report(tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForSequenceClassification.from_pretrained(causal_lm(tmp_path), num_labels=1)
    report = check_reward_model(model, tokenizer, ROWS)
    assert [one.check for one in report.findings] == [
        "batch_size",
        "padding_side",
        "pad_is_eos",
        "fresh_head",
        "sigmoid",
    ]
    text = str(report)
    assert text == repr(report) and text.startswith("LlamaForSequenceClassification, 7 texts, rewards ")
    assert "5 findings" in text and "    -> " in text and "skipped: lora_merge (no adapter)" in text
    values = json.loads(json.dumps(report.to_dict()))
    assert values["is_sound"] is False and values["findings"][2]["check"] == "pad_is_eos"
    assert set(values) == {"model", "is_sound", "findings", "passed", "skipped", "rewards"}


def test_nothing_about_the_model_changes(tmp_path):
    model = sound(tmp_path).train()
    model.model.layers[0].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    checks(model)
    assert model.training and not model.model.layers[0].training and model.model.layers[1].training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_what_is_no_reward_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"shape \(1, 3, 32\).*one per text.*num_labels=1"):
        check_reward_model(tiny_causal_lm(), tiny_tokenizer(), ROWS)
    with pytest.raises(ValueError, match="`rows` must not be empty"):
        check_reward_model(sound(tmp_path), tiny_tokenizer(), [])
    with pytest.raises(ValueError, match=r"A row must have .*`completion`.*got \['question'\]"):
        check_reward_model(sound(tmp_path), tiny_tokenizer(), [{"question": "w1"}])
    with pytest.raises(ValueError, match="'w1' has 1 token"):
        check_reward_model(sound(tmp_path), tiny_tokenizer(), ["w1"])
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"pad_token": "<new>"})
    with pytest.raises(ValueError, match=f"pad_token_id` is {VOCAB}.*resize_token_embeddings"):
        check_reward_model(sound(tmp_path), tokenizer, ROWS)

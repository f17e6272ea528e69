"""Every artifact is uploaded whole, with a card whose snippet runs on what was uploaded."""

import pytest
import torch
from datasets import Dataset
from fake_hub import hub, named_policy, run_card, snippet_of, tokenizer_of_texts  # noqa: F401
from huggingface_hub import EvalResult, ModelCard
from peft import LoraConfig, get_peft_model
from tiny import tiny_causal_lm
from tiny_judges import POINTWISE, TEMPLATE, VERDICTS

from hf_reward_ext import (
    ELHSRConfig,
    ELHSRForSequenceClassification,
    ELHSRModel,
    ELHSRTrainer,
    GenARMConfig,
    GenARMRewardModel,
    GenARMTrainer,
)
from hf_reward_ext.evaluation import add_to_model_card
from hf_reward_ext.fast_slow import FastSlowConfig, FastSlowRewardModel, FastSlowTrainer
from hf_reward_ext.hub import GenARMCustomGenerate, SLACustomGenerate, push_folder
from hf_reward_ext.sla import (
    RewardTransformer,
    RewardTransformerForSequenceClassification,
    SLAConfig,
    SLATrainer,
)

LORA = LoraConfig(target_modules=["q_proj", "up_proj"], init_lora_weights=False, task_type="CAUSAL_LM")


def head(policy):
    return ELHSRModel.from_policy(policy, layers=[-1])


def text_scorer(policy):
    return ELHSRForSequenceClassification(policy, head(policy))


def reward_model(policy):
    return GenARMRewardModel.from_causal_lm(policy)


def channel(policy):
    return RewardTransformer.from_base(policy, channel_size=4)


def channel_scorer(policy):
    return RewardTransformerForSequenceClassification(channel(policy))


def channel_with_its_policy(policy):
    rt = RewardTransformer.from_base(policy, channel_size=4, policy_folder="policy", base_model_name_or_path=None)
    policy.lm_head.weight.data += 1
    return rt


def channel_with_its_adapter(policy):
    adapted = get_peft_model(policy, LORA, adapter_name="sla")
    return RewardTransformer.from_base(adapted, channel_size=4, policy_folder="policy/sla")


def judge(policy):
    settings = dict(template=TEMPLATE, max_new_tokens=8)
    return FastSlowRewardModel(policy, tokenizer_of_texts(), VERDICTS, **settings)


def pointwise_judge(policy):
    settings = dict(template=POINTWISE, kind="binary", max_new_tokens=8)
    return FastSlowRewardModel(policy, tokenizer_of_texts(), VERDICTS, **settings)


def guided_decoding(policy):
    return GenARMCustomGenerate(tiny_causal_lm(seed=1), alpha=0.5, policy="me/policy")


def guided_decoding_by_adapter(policy):
    return GenARMCustomGenerate(get_peft_model(policy, LORA, adapter_name="arm"), policy="me/policy")


def look_ahead(policy):
    return SLACustomGenerate(channel(policy), step=4)


ALONE = {"README.md", "config.json", "model.safetensors"}
TOKENIZER = {"chat_template.jinja", "tokenizer.json", "tokenizer_config.json"}
DECODING = {"README.md", "custom_generate/generate.py", "custom_generate/requirements.txt"}


def whole(folder):
    return {f"{folder}/{name}" for name in ("config.json", "generation_config.json", "model.safetensors")}


ARTIFACTS = {
    head: ALONE,
    text_scorer: ALONE,
    reward_model: ALONE,
    channel: ALONE,
    channel_scorer: ALONE,
    channel_with_its_policy: ALONE | whole("policy"),
    channel_with_its_adapter: ALONE
    | {"policy/README.md", "policy/sla/adapter_config.json", "policy/sla/adapter_model.safetensors"},
    judge: ALONE | TOKENIZER | {"generation_config.json"},
    pointwise_judge: ALONE | TOKENIZER | {"generation_config.json"},
    guided_decoding: DECODING | whole("guide_0"),
    guided_decoding_by_adapter: DECODING
    | {f"adapter_0/{name}" for name in ("README.md", "arm/adapter_config.json", "arm/adapter_model.safetensors")},
    look_ahead: DECODING | {"reward_channel/config.json", "reward_channel/model.safetensors"},
}  # fmt: skip


@pytest.mark.stack
@pytest.mark.parametrize("artifact", ARTIFACTS, ids=lambda artifact: artifact.__name__)
def test_what_is_uploaded_is_whole_and_its_card_runs(hub, artifact, tmp_path, capsys):  # noqa: F811
    policy = named_policy()
    made = artifact(policy)
    tokenizer = {"processing_class": tokenizer_of_texts()} if artifact is channel_with_its_policy else {}
    made.push_to_hub("me/artifact", private=True, commit_message="First", **tokenizer)
    assert set(hub.files("me/artifact")) == ARTIFACTS[artifact] | (TOKENIZER if tokenizer else set())
    assert hub.calls == [
        ("create_repo", "me/artifact", {"private": True, "exist_ok": True}),
        ("create_commit", "me/artifact", {"commit_message": "First", "revision": None, "create_pr": False}),
    ]
    text = "".join(path.read_text() for path in (tmp_path / "me/artifact").rglob("*") if path.suffix in (".md", ".py"))
    assert "'me/artifact'" in text and "/tmp" not in text
    card = ModelCard.load("me/artifact/README.md")
    assert {"hf-reward-ext"} <= set(card.data.tags) and card.data.library_name == "hf_reward_ext"
    assert text.count("huggingface.co/papers/") == 1 and card.content.count("# artifact\n") == 1
    run_card("me/artifact")
    assert capsys.readouterr().out


@pytest.mark.parametrize("artifact", [head, reward_model, channel, judge, guided_decoding, look_ahead],
                         ids=lambda artifact: artifact.__name__)  # fmt: skip
def test_the_card_of_a_local_folder_runs_and_stays_when_it_is_saved_again(hub, artifact, tmp_path, capsys):  # noqa: F811
    made = artifact(named_policy())
    made.save_pretrained(tmp_path / "saved")
    run_card(tmp_path / "saved")
    assert capsys.readouterr().out and not hub.calls
    (tmp_path / "saved" / "README.md").write_text("# Mine")
    made.save_pretrained(tmp_path / "saved")
    assert (tmp_path / "saved" / "README.md").read_text() == "# Mine"
    made.push_to_hub("me/there")
    (tmp_path / "me/there/README.md").write_text("# Theirs")
    made.push_to_hub("me/there")
    assert (tmp_path / "me/there/README.md").read_text() == "# Theirs"


def test_a_saved_folder_is_uploaded_as_it_is_and_points_to_the_hub(hub, tmp_path, capsys):  # noqa: F811
    head(named_policy()).save_pretrained(tmp_path / "saved")
    before = (tmp_path / "saved" / "README.md").read_text()
    for name in ("checkpoint-3/model.safetensors", "training_args.bin", ".cache/x", "runs/events", "optimizer.pt"):
        (tmp_path / "saved" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "saved" / name).write_text("left here")
    push_folder(tmp_path / "saved", "head", revision="v1", create_pr=True)
    assert set(hub.files("me/head")) == ALONE
    assert [call[0] for call in hub.calls] == ["create_repo", "create_branch", "create_commit"]
    assert "from_pretrained('me/head')" in snippet_of("me/head")
    assert (tmp_path / "saved" / "README.md").read_text() == before
    run_card("me/head")
    with pytest.raises(ValueError, match="'empty' holds no files.*Save the model there"):
        push_folder("empty", "me/head")


def test_results_in_a_card_reach_the_hub(hub, tmp_path):  # noqa: F811
    head(named_policy()).save_pretrained(tmp_path / "saved")
    result = EvalResult(
        task_type="text-classification", dataset_type="me/pairs", dataset_name="Pairs", metric_type="accuracy",
        metric_value=0.75,
    )  # fmt: skip
    add_to_model_card(tmp_path / "saved", [result])
    push_folder(tmp_path / "saved", "me/head")
    assert [one.metric_value for one in ModelCard.load("me/head/README.md").data.eval_results] == [0.75]


def test_saving_can_upload_at_once(hub, tmp_path):  # noqa: F811
    policy = named_policy()
    for made in (head(policy), channel(policy), judge(policy)):
        made.save_pretrained(tmp_path / "saved", push_to_hub=True, repo_id="me/other")
        made.save_pretrained(tmp_path / "saved", push_to_hub=True)
    assert {call[1] for call in hub.calls if call[0] == "create_commit"} == {"me/other", "me/saved"}


def test_a_base_without_a_name_is_asked_for(tmp_path):
    head(tiny_causal_lm()).save_pretrained(tmp_path / "head")
    channel(tiny_causal_lm()).save_pretrained(tmp_path / "channel")
    for name in ("head", "channel"):
        assert "from_pretrained('the base model')" in snippet_of(tmp_path / name)


PAIRS = [
    {"prompt": "w1 w2", "chosen": " w9 w4", "rejected": " w8"},
    {"prompt": "w3", "chosen": " w9", "rejected": " w5"},
]
LABELED = [
    {"prompt": prompt, "completion": completion, "label": label}
    for prompt in ("w1 w2", "w3", "w4 w5", "w6")
    for completion, label in ((" w9 w4", 1.0), (" w8", 0.0))
]
ARGUMENTS = dict(
    max_steps=1, report_to="none", use_cpu=True, disable_tqdm=True, hub_model_id="me/trained", save_strategy="no"
)


def train_guide(policy, folder):
    args = GenARMConfig(str(folder), **ARGUMENTS)
    return GenARMTrainer(policy, args, train_dataset=Dataset.from_list(PAIRS), processing_class=tokenizer_of_texts())


def train_guide_as_adapter(policy, folder):
    return GenARMTrainer(
        policy, GenARMConfig(str(folder), **ARGUMENTS), train_dataset=Dataset.from_list(PAIRS),
        processing_class=tokenizer_of_texts(), peft_config=LORA,
    )  # fmt: skip


def train_channel(policy, folder):
    args = SLAConfig(str(folder), channel_size=4, **ARGUMENTS)
    return SLATrainer(policy, args, train_dataset=Dataset.from_list(PAIRS), processing_class=tokenizer_of_texts())


def train_channel_and_policy(policy, folder):
    args = SLAConfig(str(folder), channel_size=4, policy_loss="sft", **ARGUMENTS)
    return SLATrainer(policy, args, train_dataset=Dataset.from_list(PAIRS), processing_class=tokenizer_of_texts())


def train_judge(policy, folder):
    args = FastSlowConfig(str(folder), verdicts=VERDICTS, **ARGUMENTS)
    return FastSlowTrainer(
        policy, args, train_dataset=Dataset.from_list(PAIRS), processing_class=tokenizer_of_texts(), template=TEMPLATE
    )


def train_head(policy, folder):
    args = ELHSRConfig(
        str(folder), validation_fraction=0.0, eval_strategy="no", load_best_model_at_end=False, **ARGUMENTS
    )
    return ELHSRTrainer(policy, args, train_dataset=Dataset.from_list(LABELED), processing_class=tokenizer_of_texts())


TRAINERS = [train_guide, train_guide_as_adapter, train_channel, train_channel_and_policy, train_judge, train_head]


@pytest.mark.stack
@pytest.mark.parametrize("train", TRAINERS, ids=lambda train: train.__name__)
def test_what_a_trainer_uploads_has_a_card_that_runs(hub, train, tmp_path, capsys):  # noqa: F811
    trainer = train(named_policy(), tmp_path / "out")
    trainer.train()
    trainer.push_to_hub(dataset_name="me/pairs")
    capsys.readouterr()
    files = hub.files("me/trained")
    assert {"README.md", "tokenizer.json"} <= set(files) and any(name.endswith(".safetensors") for name in files)
    card = ModelCard.load("me/trained/README.md")
    assert card.data.datasets == ["me/pairs"] and "trl" in card.data.tags
    assert "| learning_rate | " in card.content and f"`{type(trainer).__name__}` of `hf_reward_ext`" in card.content
    names = run_card("me/trained")
    assert capsys.readouterr().out
    if train is train_guide:
        ids = torch.tensor([[4, 5, 6]])
        assert not torch.equal(names["policy"](ids).logits, names["guide"](ids).logits)
    if train is train_guide_as_adapter:
        assert not hasattr(names["policy"], "peft_config") and card.data.base_model is None

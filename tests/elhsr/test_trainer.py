import numpy as np
import pytest
import torch
from datasets import Dataset
from elhsr_trainers import labeled_rows, trainer_for
from tiny import tiny_causal_lm, tiny_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from hf_reward_ext.base.training.token_rewards import masked_sum
from hf_reward_ext.elhsr import ELHSRConfig, ELHSRModel, ELHSRTrainer
from hf_reward_ext.elhsr.feature_cache import FeatureCache
from hf_reward_ext.elhsr.groups import check_labels, group_by_prompt


@pytest.fixture(scope="module")
def policy():
    return tiny_causal_lm()


@pytest.mark.stack
@pytest.mark.parametrize("loss_type", ["bce", "hinge", "pairwise", "infonca", "nca"])
def test_every_loss_learns(policy, tmp_path, loss_type):
    trainer = trainer_for(policy, tmp_path, loss_type=loss_type)
    trainer.train()
    evaluations = [row for row in trainer.state.log_history if "eval_auc" in row]
    assert evaluations[-1]["eval_auc"] > 0.95
    assert set(evaluations[-1]) >= {"eval_loss", "eval_accuracy", "eval_best_of_n", "eval_pass_at_1"}


def test_saved_head_is_folded_calibrated_and_scores_like_the_trainer(policy, tmp_path):
    trainer = trainer_for(policy, tmp_path)
    trainer.train()
    trainer.save_model()
    head = ELHSRModel.from_pretrained(tmp_path)
    assert not head.config.standardize and set(head.state_dict()) == {"linear.weight", "linear.bias"}
    tokenizer = tiny_tokenizer()
    probabilities = []
    for word in ("w11", "w17"):
        prompt, completion = tokenizer("w1 w2 w3")["input_ids"], tokenizer(f"{word} <eos>")["input_ids"]
        out = policy(torch.tensor([prompt + completion]), output_hidden_states=True)
        mask = torch.tensor([[False] * 3 + [True] * 2])
        probabilities.append(head.probability(head(out.hidden_states, mask)).item())
    assert probabilities[0] > 0.9 and probabilities[1] < 0.1
    assert (tmp_path / "README.md").read_text().count("reward-bon") == 1


def test_policy_is_left_as_it_was(tmp_path):
    policy = tiny_causal_lm().train()
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    trainer_for(policy, tmp_path, num_train_epochs=1).train()
    assert policy.training and all(parameter.requires_grad for parameter in policy.parameters())
    assert all(torch.equal(value, before[name]) for name, value in policy.state_dict().items())


@pytest.mark.parametrize("feature_cache", ["memory", "disk", "none"])
def test_policy_reads_each_completion_once_unless_uncached(policy, tmp_path, feature_cache):
    read = []
    handle = policy.register_forward_pre_hook(
        lambda _, args, kwargs: read.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    settings = dict(feature_cache=feature_cache, num_train_epochs=3, early_stopping_patience=None)
    trainer_for(policy, tmp_path, standardize=False, **settings).train()
    handle.remove()
    completions = len(labeled_rows())
    assert sum(read) == completions if feature_cache != "none" else sum(read) > 2 * completions


def test_cached_and_recomputed_features_train_the_same_head(policy, tmp_path):
    weights = {}
    for feature_cache in ("memory", "none"):
        trainer = trainer_for(policy, tmp_path / feature_cache, feature_cache=feature_cache, standardize=False)
        trainer.train()
        weights[feature_cache] = trainer._head.linear.weight.detach().clone()
    torch.testing.assert_close(weights["memory"], weights["none"], atol=1e-4, rtol=1e-3)


def test_an_interrupted_disk_cache_resumes(policy, tmp_path, monkeypatch):
    groups = group_by_prompt(Dataset.from_list(labeled_rows()), tiny_tokenizer())
    config = ELHSRModel.from_policy(policy).config
    monkeypatch.setattr("hf_reward_ext.elhsr.feature_cache._SAVE_EVERY", 1)
    broken = FeatureCache(groups, config, policy, tmp_path)
    fill, calls = broken._fill_batch, []

    def fail_at_third(batch):
        calls.append(batch)
        if len(calls) == 3:
            raise KeyboardInterrupt
        fill(batch)

    broken._fill_batch = fail_at_third
    with pytest.raises(KeyboardInterrupt):
        broken.fill(batch_size=8, show_progress=False)
    resumed = FeatureCache(groups, config, policy, tmp_path)
    read = []
    fill_rest = resumed._fill_batch
    resumed._fill_batch = lambda batch: (read.extend(batch), fill_rest(batch))
    resumed.fill(batch_size=8, show_progress=False)
    assert len(read) == len(labeled_rows()) - 16
    whole = FeatureCache(groups, config, policy)
    whole.fill(batch_size=8, show_progress=False)
    torch.testing.assert_close(resumed.features.float(), whole.features, atol=1e-2, rtol=1e-2)


def test_finetuned_policy_of_the_same_name_gets_its_own_disk_cache(policy, tmp_path):
    groups = group_by_prompt(Dataset.from_list(labeled_rows()), tiny_tokenizer())
    other = tiny_causal_lm(seed=1)
    for model in (policy, other):
        FeatureCache(groups, ELHSRModel.from_policy(model).config, model, tmp_path)
    assert len(list(tmp_path.glob("*.bin"))) == 2


def test_best_epoch_is_kept_not_the_last(policy, tmp_path):
    """The authors' code returns the last epoch (an alias); here training is made to get worse after the first."""

    class Spoil(TrainerCallback):
        def on_epoch_begin(self, args, state, control, model, **kwargs):
            if state.epoch and state.epoch > 1.5:
                with torch.no_grad():
                    model.linear.weight.zero_()
                    model.linear.bias.fill_(20.0)

    args = ELHSRConfig(
        str(tmp_path), learning_rate=1e-2, num_train_epochs=10, early_stopping_patience=2, report_to="none",
        disable_tqdm=True, use_cpu=True, standardize=True, per_device_train_batch_size=4,
    )  # fmt: skip
    trainer = ELHSRTrainer(
        policy, args, train_dataset=Dataset.from_list(labeled_rows()), processing_class=tiny_tokenizer(),
        callbacks=[Spoil()],
    )  # fmt: skip
    trainer.train()
    losses = [row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row]
    assert len(losses) < 10 and losses[-1] > min(losses)
    trainer.args.load_best_model_at_end = False
    assert trainer.evaluate()["eval_loss"] == pytest.approx(min(losses), rel=1e-3)


def test_candidates_of_a_prompt_never_fall_on_both_sides(policy, tmp_path):
    trainer = trainer_for(policy, tmp_path, feature_cache="none", standardize=False)
    prompts = [{tuple(row["prompt_ids"]) for row in data} for data in (trainer.train_dataset, trainer.eval_dataset)]
    assert not prompts[0] & prompts[1] and len(prompts[1]) == pytest.approx(0.2 * 24, abs=1)


def test_resumes_from_a_checkpoint(policy, tmp_path):
    settings = dict(num_train_epochs=4, early_stopping_patience=None, save_total_limit=None)
    whole = trainer_for(policy, tmp_path / "whole", **settings)
    whole.train()
    checkpoint = sorted((tmp_path / "whole").glob("checkpoint-*"), key=lambda path: int(path.name[11:]))[1]
    resumed = trainer_for(policy, tmp_path / "whole", **settings)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    torch.testing.assert_close(resumed._head.linear.weight, whole._head.linear.weight, atol=1e-5, rtol=1e-5)


def test_formats_give_the_same_groups():
    tokenizer = tiny_tokenizer()
    single = [
        {"prompt": "w1 w2", "completion": " w3", "label": 1},
        {"prompt": "w1 w2", "completion": " w4 w5", "label": 0},
    ]
    together = [{"prompt": "w1 w2", "completions": [" w3", " w4 w5"], "labels": [1, 0]}]
    pairs = [{"prompt": "w1 w2", "chosen": " w3", "rejected": " w4 w5"}]
    implicit = [{"chosen": "w1 w2 w3", "rejected": "w1 w2 w4 w5"}]
    expected = {"prompt_ids": [9, 10], "completion_ids": [[11, 2], [12, 13, 2]], "labels": [1.0, 0.0]}
    for rows in (together, pairs, implicit):
        assert group_by_prompt(Dataset.from_list(rows), tokenizer)[:] == {k: [v] for k, v in expected.items()}
    # Text is tokenized word by word here, so the space before EOS is needed only by this tokenizer.
    assert group_by_prompt(Dataset.from_list(single), tokenizer)[:] == {k: [v] for k, v in expected.items()}


def test_chat_rows():
    row = {
        "prompt": [{"role": "user", "content": "w1"}],
        "completion": [{"role": "assistant", "content": "w2"}],
        "label": 1.0,
    }
    groups = group_by_prompt(Dataset.from_list([row]), tiny_tokenizer())
    # user : w1 assistant : | w2 <eos>
    assert groups[0] == {"prompt_ids": [4, 7, 9, 5, 7], "completion_ids": [[10, 2]], "labels": [1.0]}


def test_streaming_data(policy, tmp_path):
    stream = Dataset.from_list(labeled_rows()).to_iterable_dataset()
    trainer = trainer_for(
        policy, tmp_path, rows=stream, max_steps=5, standardize=False, feature_cache=None, logging_steps=1
    )
    trainer.train()
    assert trainer.state.global_step == 5
    with pytest.raises(ValueError, match="must be used with `feature_cache='none'`"):
        trainer_for(policy, tmp_path, rows=stream, max_steps=5, loss_type="pairwise", standardize=False)


def test_policy_by_name(policy, tmp_path):
    policy.save_pretrained(tmp_path / "policy")
    tiny_tokenizer().save_pretrained(tmp_path / "policy")
    trainer = ELHSRTrainer(
        str(tmp_path / "policy"),
        ELHSRConfig(
            str(tmp_path / "out"), num_train_epochs=1, report_to="none", disable_tqdm=True, use_cpu=True, layers=[-1]
        ),
        train_dataset=Dataset.from_list(labeled_rows()),
    )
    trainer.train()
    trainer.save_model()
    head = ELHSRModel.from_pretrained(tmp_path / "out")
    assert head.config.layers == [3]
    head.check_policy(
        AutoModelForCausalLM.from_pretrained(tmp_path / "policy"), AutoTokenizer.from_pretrained(tmp_path / "policy")
    )


@pytest.mark.stack
def test_lora_policy_and_logits(tmp_path):
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    policy = get_peft_model(tiny_causal_lm(), lora)
    trainer = trainer_for(policy, tmp_path, features="logits", top_logprobs=6, num_train_epochs=1)
    trainer.train()
    assert trainer._head.config.adapter == "default" and trainer._head.linear.in_features == 6


def refused(policy, tmp_path, message, rows, **settings):
    with pytest.raises(ValueError, match=message):
        trainer_for(policy, tmp_path, rows=rows, **settings)


def test_refusals(policy, tmp_path):
    rows = labeled_rows()
    refused(policy, tmp_path, r"columns \['text'\].*ELHSR needs", Dataset.from_list([{"text": "w1"}]))
    for value in (0.0, 1.0):
        same = Dataset.from_list([{**row, "label": value} for row in rows])
        refused(policy, tmp_path, f"labels are {value}.*correct and wrong", same)
    refused(policy, tmp_path, "An empty prompt", Dataset.from_list([{**rows[0], "prompt": ""}] + rows))
    refused(policy, tmp_path, "longer than `max_length=2`", Dataset.from_list(rows), max_length=2)
    with pytest.raises(ValueError, match="no prompt has both"):
        check_labels(Dataset.from_list([{"labels": [1.0, 1.0]}, {"labels": [0.0, 0.0]}]), loss_type="pairwise")
    broken = tiny_causal_lm()
    broken.model.norm.weight.data[0] = torch.nan
    refused(broken, tmp_path, "hold NaN or infinity", Dataset.from_list(rows))
    with pytest.raises(ValueError, match="`validation_fraction` must be .*got 1.5"):
        ELHSRConfig(str(tmp_path), validation_fraction=1.5, use_cpu=True)
    with pytest.raises(ValueError, match="`standardize` must be False with"):
        ELHSRConfig(str(tmp_path), standardize=True, feature_cache="none", use_cpu=True)
    with pytest.raises(ValueError, match="`center_rewards_coefficient` must be None for ELHSR, got 0.1"):
        ELHSRConfig(str(tmp_path), center_rewards_coefficient=0.1, use_cpu=True)


def test_calibration_by_hand():
    from hf_reward_ext.elhsr.metrics import fit_calibration, group_metrics

    rng = np.random.default_rng(0)
    rewards = rng.standard_normal(4000)
    labels = rng.random(4000) < 1 / (1 + np.exp(-(1.5 * rewards - 0.5)))
    slope, intercept = fit_calibration(rewards, labels.astype(float))
    assert slope == pytest.approx(1.5, abs=0.15) and intercept == pytest.approx(-0.5, abs=0.15)
    assert fit_calibration(rewards, np.ones(4000)) is None
    metrics = group_metrics([np.array([1.0, -1.0]), np.array([0.5])], [np.array([1.0, 0.0]), np.array([0.0])])
    assert metrics == {"accuracy": pytest.approx(2 / 3), "auc": 1.0, "best_of_n": 1.0, "pass_at_1": 0.5}


def test_masked_sum_ignores_nan():
    assert masked_sum(torch.tensor([[1.0, torch.nan]]), torch.tensor([[True, False]])).item() == 1.0

import json

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from tiny import VOCAB, tiny_causal_lm, tiny_tokenizer
from transformers import AutoModelForCausalLM

from hf_reward_ext.base.training.losses import bradley_terry_loss, hinge_pair_loss
from hf_reward_ext.genarm import GenARMConfig, GenARMTrainer

PAIRS = [
    {"prompt": f"w{n} w5 ", "chosen": "w10 w11 w12", "rejected": f"w13 w{n}"} for n in range(2, 10)
]  # a rule that a tiny model learns


def config(folder, **kwargs):
    defaults = dict(
        per_device_train_batch_size=4, per_device_eval_batch_size=4, report_to="none", use_cpu=True,
        learning_rate=1e-2, max_steps=3, logging_steps=1, disable_tqdm=True, save_strategy="no", beta=0.1,
    )  # fmt: skip
    return GenARMConfig(str(folder), **{**defaults, **kwargs})


def trainer(folder, model=None, rows=PAIRS, **kwargs):
    own = {name: kwargs.pop(name) for name in ("eval_dataset", "peft_config") if name in kwargs}
    return GenARMTrainer(
        model or tiny_causal_lm(),
        config(folder, **kwargs),
        train_dataset=Dataset.from_list(rows) if isinstance(rows, list) else rows,
        processing_class=tiny_tokenizer(),
        **own,
    )


def batch_of(trainer):
    return next(iter(trainer.get_eval_dataloader(trainer.train_dataset)))


def summed_logps(model, batch):
    logps = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1].log_softmax(-1)
    token = logps.gather(-1, batch["input_ids"][:, 1:, None])[..., 0]
    return (token * batch["completion_mask"][:, 1:]).sum(-1)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"gamma": 0.5, "label_smoothing": 0.1},
        {"loss_type": "hinge"},
        {"length_normalization": True, "beta": 2.0},
    ],
)
def test_loss_and_gradient_equal_a_calculation_on_full_logits(tmp_path, settings):
    ours = trainer(tmp_path, **settings)
    batch = batch_of(ours)
    ours.model.train()
    loss = ours.compute_loss(ours.model, batch)
    loss.backward()
    reference = tiny_causal_lm()
    logps = summed_logps(reference, batch)
    if settings.get("length_normalization"):
        logps = logps / batch["completion_mask"].sum(-1)
    chosen, rejected = logps.chunk(2)
    beta, gamma, smooth = (
        settings.get(name, default) for name, default in (("beta", 0.1), ("gamma", 0.0), ("label_smoothing", 0.0))
    )
    h = beta * (chosen - rejected) - gamma
    sigmoid = torch.sigmoid
    expected = (
        (1 - h).clamp(min=0)
        if settings.get("loss_type") == "hinge"
        else -(1 - smooth) * sigmoid(h).log() - smooth * sigmoid(-h).log()
    ).mean()
    expected.backward()
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    for (name, own), other in zip(ours.model.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad, atol=1e-5, rtol=1e-4, msg=name)


def test_losses_equal_the_authors(fixtures_dir):
    values = json.loads((fixtures_dir / "genarm.json").read_text())
    chosen, rejected = (torch.tensor(values[f"{side}_logps"], dtype=torch.float64) for side in ("chosen", "rejected"))
    for row in values["rows"]:
        if row["loss_type"] == "hinge":
            loss = hinge_pair_loss(chosen, rejected, beta=row["beta"])
        else:
            loss = bradley_terry_loss(
                chosen, rejected, beta=row["beta"], gamma=row["gamma"], label_smoothing=row["label_smoothing"]
            )
        torch.testing.assert_close(loss, torch.tensor(row["losses"], dtype=torch.float64), atol=1e-6, rtol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_the_loss_is_that_of_trls_cpo_without_its_other_terms(tmp_path):
    from trl.experimental.cpo import CPOConfig, CPOTrainer  # warns on import

    ours = trainer(tmp_path / "ours", beta=0.3)
    ours.model.eval()
    rows = [{**row, "prompt": row["prompt"].strip()} for row in PAIRS]
    theirs = CPOTrainer(
        tiny_causal_lm(),
        CPOConfig(
            str(tmp_path / "theirs"), loss_type="sigmoid", cpo_alpha=0.0, beta=0.3, report_to="none", use_cpu=True,
            per_device_train_batch_size=8, per_device_eval_batch_size=8, gradient_checkpointing=False,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tiny_tokenizer(),
    )  # fmt: skip
    batch = next(iter(theirs.get_eval_dataloader(theirs.train_dataset)))
    expected, _ = theirs.get_batch_loss_metrics(theirs.model, batch, "eval")
    both = {
        "input_ids": torch.nn.utils.rnn.pad_sequence(
            [row for side in ("chosen", "rejected") for row in batch[f"{side}_input_ids"]], batch_first=True
        )
    }
    both["attention_mask"] = torch.nn.utils.rnn.pad_sequence(
        [row for side in ("chosen", "rejected") for row in batch[f"{side}_attention_mask"]], batch_first=True
    )
    both["completion_mask"] = torch.nn.utils.rnn.pad_sequence(
        [row != -100 for side in ("chosen", "rejected") for row in batch[f"{side}_labels"]], batch_first=True
    )
    torch.testing.assert_close(ours.compute_loss(ours.model, both), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.stack
def test_training_learns_logs_and_saves_a_plain_causal_lm(tmp_path):
    ours = trainer(tmp_path, max_steps=20, eval_dataset=Dataset.from_list(PAIRS), eval_strategy="steps", eval_steps=10)
    ours.train()
    last = ours.evaluate()
    assert last["eval_accuracy"] == 1.0 and last["eval_margin"] > 0
    assert last["eval_rewards/chosen"] > last["eval_rewards/rejected"]
    assert last["eval_logps_drift"] == pytest.approx(
        last["eval_logps/chosen"]
        - next(row["eval_logps/chosen"] for row in ours.state.log_history if "eval_logps/chosen" in row)
    )
    assert {"accuracy", "margin", "rewards/chosen", "rewards/rejected", "logps/chosen"} <= set(
        ours.state.log_history[0]
    )
    ours.save_model()
    ours.create_model_card()
    saved = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert saved.config.num_labels == tiny_causal_lm().config.num_labels
    ids = torch.randint(3, VOCAB, (1, 4))
    torch.testing.assert_close(saved.eval()(ids).logits, ours.model.eval()(ids).logits)
    assert "GenARMLogitsProcessor" in (tmp_path / "README.md").read_text()


def test_a_small_last_batch_weighs_no_more_than_its_pairs(tmp_path):
    rows = Dataset.from_list(PAIRS[:5])  # batches of 4 and of 1
    ours = trainer(tmp_path, rows=rows)
    metrics = ours.evaluate(rows)
    logps = torch.cat(
        [summed_logps(ours.model, ours.data_collator([row])).view(2, 1) for row in ours._prepare_dataset(
            rows, ours.processing_class, ours.args, "eval")], dim=1,
    ).detach()  # fmt: skip
    assert metrics["eval_logps/chosen"] == pytest.approx(float(logps[0].mean()), rel=1e-4)
    assert metrics["eval_accuracy"] == float((logps[0] > logps[1]).float().mean())


def test_several_evaluation_sets_have_their_own_metrics(tmp_path):
    swapped = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in PAIRS]
    sets = {name: Dataset.from_list(rows) for name, rows in (("same", PAIRS), ("swapped", swapped))}
    ours = trainer(tmp_path, max_steps=20, eval_dataset=sets, eval_strategy="steps", eval_steps=10)
    ours.train()
    metrics = ours.evaluate()
    assert metrics["eval_same_accuracy"] == 1.0 and metrics["eval_swapped_accuracy"] == 0.0
    first = [row for row in ours.state.log_history if "eval_same_logps_drift" in row][0]
    assert first["eval_same_logps_drift"] == 0.0 and metrics["eval_same_logps_drift"] != 0.0
    assert not any("eval_accuracy" in row for row in ours.state.log_history)


def test_accumulated_steps_equal_one_large_step(tmp_path):
    models = []
    for size, steps in ((8, 1), (2, 4)):
        own = trainer(tmp_path, per_device_train_batch_size=size, gradient_accumulation_steps=steps, max_steps=2)
        own.train()
        models.append(own.model)
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_models_by_name_are_trained_in_float32(tmp_path):
    tiny_causal_lm().to(torch.bfloat16).save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    options = {"attn_implementation": "eager"}
    args = config(tmp_path / "arm", model_init_kwargs=options, pad_to_multiple_of=8)
    ours = GenARMTrainer(str(tmp_path / "base"), args, train_dataset=Dataset.from_list(PAIRS))
    assert ours.model.dtype == torch.float32 and ours.args.model_init_kwargs == options
    assert ours.model.config._attn_implementation == "eager"
    assert batch_of(ours)["input_ids"].shape[1] == 8
    ours.train()


@pytest.mark.stack
def test_lora_saves_an_adapter(tmp_path):
    ours = trainer(tmp_path, peft_config=LoraConfig(target_modules="all-linear", r=4, task_type="CAUSAL_LM"))
    before = tiny_causal_lm().model.layers[0].mlp.up_proj.weight.clone()
    ours.train()
    ours.save_model()
    loaded = PeftModel.from_pretrained(tiny_causal_lm(), tmp_path)
    ids = torch.randint(3, VOCAB, (1, 4))
    torch.testing.assert_close(loaded.eval()(ids).logits, ours.model.eval()(ids).logits)
    assert torch.equal(loaded.get_base_model().model.layers[0].mlp.up_proj.base_layer.weight, before)


def test_resuming_equals_never_having_stopped(tmp_path):
    whole = trainer(tmp_path / "whole", max_steps=4)
    whole.train()
    half = trainer(tmp_path / "half", max_steps=4, save_strategy="steps", save_steps=2)
    half.train()
    again = trainer(tmp_path / "half", max_steps=4, save_strategy="no")
    again.train(resume_from_checkpoint=str(tmp_path / "half" / "checkpoint-2"))
    for own, other in zip(again.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(own, other)


def test_streams_train(tmp_path):
    ours = trainer(tmp_path, rows=Dataset.from_list(PAIRS).to_iterable_dataset())
    ours.train()
    assert ours.state.global_step == 3


def test_a_margin_column_shifts_the_loss(tmp_path):
    plain, shifted = (trainer(tmp_path, rows=[{**row, **extra} for row in PAIRS]) for extra in ({}, {"margin": 2.0}))
    batch, wide = batch_of(plain), batch_of(shifted)
    assert wide["margin"].tolist() == [2.0] * 4
    h = 0.1 * (torch.tensor([1.0, -1.0]) @ summed_logps(plain.model, batch).view(2, -1))
    expected = -torch.nn.functional.logsigmoid(h - 2.0).mean()
    torch.testing.assert_close(shifted.compute_loss(shifted.model.eval(), wide), expected, atol=1e-5, rtol=1e-5)


def test_only_the_completion_counts_and_eos_is_part_of_it(tmp_path):
    ours = trainer(tmp_path)
    batch = batch_of(ours)
    tokenizer = tiny_tokenizer()
    counted = batch["input_ids"][0][batch["completion_mask"][0]].tolist()
    assert tokenizer.decode(counted).split() == ["w10", "w11", "w12", "<eos>"]


def test_last_or_all_turns_of_a_chat(tmp_path):
    def turns(*texts):
        return [
            {"role": "user" if index % 2 == 0 else "assistant", "content": text} for index, text in enumerate(texts)
        ]

    rows = [{"prompt": turns("w1", "w2", "w3"), "chosen": [{"role": "assistant", "content": "w4"}],
             "rejected": [{"role": "assistant", "content": "w5"}]}] * 4  # fmt: skip
    tokenizer = tiny_tokenizer()
    shown = {}
    for which in ("last", "all"):
        batch = batch_of(trainer(tmp_path, rows=rows, turns=which))
        shown[which] = tokenizer.decode(batch["input_ids"][0][batch["completion_mask"][0]]).split()
    assert shown["last"] == ["w4", "<eos>"]
    assert shown["all"] == ["w2", "<eos>", "w4", "<eos>"]


def test_long_pairs_are_left_out_by_tokens_and_counted(tmp_path, caplog):
    long = [{"prompt": "w1 ", "chosen": " ".join(["w2"] * 30), "rejected": "w3"}]
    with caplog.at_level("INFO", logger="hf_reward_ext"):
        ours = trainer(tmp_path, rows=PAIRS + long, max_length=12)
    assert len(ours.train_dataset) == len(PAIRS)
    assert "1 of 9 train pairs have more than 12 tokens" in caplog.text
    assert ours.num_filtered == {"train": 1}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beta": 0.0}, "`beta` must be .*got 0.0"),
        ({"label_smoothing": 0.5}, "`label_smoothing` must be .*got 0.5"),
        ({"loss_type": "hinge", "gamma": 1.0}, "hinge"),
        ({"center_rewards_coefficient": 0.1}, "log-probabilities"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        config(tmp_path, **settings)


def test_a_model_without_a_head_is_refused(tmp_path):
    with pytest.raises(TypeError, match="causal LM, got a `LlamaModel`"):
        trainer(tmp_path, model=tiny_causal_lm().model)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task_type": "SEQ_CLS", "target_modules": "all-linear"}, "causal LM, got .*SEQ_CLS"),
    ],
)
def test_adapters_that_cannot_guide_are_refused(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, peft_config=LoraConfig(**settings))

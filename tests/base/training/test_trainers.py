"""Every trainer in the situations in which users put TRL's."""

import inspect

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from tiny import tiny_causal_lm, tiny_tokenizer
from trainer_methods import CHATS, METHODS, TEXTS, TOKENIZED
from trl import RewardTrainer

from hf_reward_ext.base.training.trainer import BaseRewardTrainer

LORA = dict(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
ALL = pytest.mark.parametrize("method", METHODS)


@pytest.fixture(scope="module")
def folder_in_bfloat16(tmp_path_factory):
    """Name of a causal LM with its tokenizer, saved in bfloat16."""
    folder = tmp_path_factory.mktemp("base")
    tiny_causal_lm().to(torch.bfloat16).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def weights(trainer):
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}


def moved(trainer, before):
    return [name for name, value in weights(trainer).items() if not torch.equal(value, before[name])]


@pytest.mark.parametrize("stream", [False, True], ids=["map", "stream"])
@pytest.mark.parametrize("rows", [TEXTS, CHATS, TOKENIZED], ids=["text", "chat", "tokenized"])
@pytest.mark.parametrize("kind", ["name", "model", "peft"])
@ALL
def test_every_model_trains_on_every_form_of_data(method, kind, rows, stream, tmp_path, folder_in_bfloat16):
    if method == "fast-slow" and rows is TOKENIZED:
        pytest.skip("a judge reads texts, not token ids")
    model = folder_in_bfloat16 if kind == "name" else tiny_causal_lm()
    if kind == "peft":
        model = get_peft_model(model, LoraConfig(**LORA))
    data = Dataset.from_list(rows)
    trainer = METHODS[method].build(
        tmp_path, model, data.to_iterable_dataset() if stream else data,
        processing_class=None if kind == "name" else tiny_tokenizer(), eval_dataset=data,
    )  # fmt: skip
    before = weights(trainer)
    assert {value.dtype for value in before.values()} == {torch.float32}
    trainer.train()
    assert moved(trainer, before)
    assert torch.isfinite(torch.tensor(trainer.evaluate()["eval_loss"]))


@ALL
def test_constructors_have_the_order_of_trls(method):
    trls = list(inspect.signature(RewardTrainer.__init__).parameters)
    ours = inspect.signature(METHODS[method].trainer.__init__).parameters
    assert list(ours)[: len(trls)] == trls
    assert all(ours[name].kind is inspect.Parameter.KEYWORD_ONLY for name in list(ours)[len(trls) :])
    assert METHODS[method].trainer.__bases__ == (BaseRewardTrainer,)


@ALL
def test_rows_by_position(method, tmp_path):
    one = METHODS[method]
    data = Dataset.from_list(TEXTS)
    trainer = one.trainer(tiny_causal_lm(), one.args(tmp_path), None, data, data, tiny_tokenizer(), **one.arguments)
    trainer.train()


@ALL
def test_several_evaluation_sets_have_metrics_of_their_own(method, tmp_path):
    data = Dataset.from_list(TEXTS)
    trainer = METHODS[method].build(
        tmp_path,
        eval_dataset={"math": data.select(range(4)), "code": data.select(range(4, 8)).to_iterable_dataset()},
        settings=dict(
            eval_strategy="steps", eval_steps=1, save_strategy="steps", save_steps=1, load_best_model_at_end=True,
            metric_for_best_model="eval_code_accuracy", greater_is_better=True,
        ),
    )  # fmt: skip
    trainer.train()
    names = {name for row in trainer.state.log_history for name in row if name.startswith("eval_")}
    assert {"eval_math_accuracy", "eval_code_accuracy", "eval_math_loss"} <= names
    assert all(name.startswith(("eval_math_", "eval_code_")) for name in names)
    assert trainer.state.best_metric is not None


@ALL
def test_what_is_prepared_is_not_prepared_again(method, tmp_path):
    data = Dataset.from_list(TEXTS)
    trainer = METHODS[method].build(tmp_path, eval_dataset=data)
    expected = trainer.evaluate()["eval_loss"]
    for again in (trainer.train_dataset, trainer.eval_dataset, data):
        assert trainer.evaluate(again)["eval_loss"] == pytest.approx(expected, abs=1e-6)
    for sets in ({"a": data}, {"a": trainer.train_dataset}, {"a": data.to_iterable_dataset()}):
        assert trainer.evaluate(sets)["eval_a_loss"] == pytest.approx(expected, abs=1e-6)


@ALL
def test_predictions_have_a_row_for_each_pair(method, tmp_path):
    seen = []
    trainer = METHODS[method].build(
        tmp_path, settings=dict(per_device_eval_batch_size=2),
        compute_metrics=lambda found: seen.append(found.predictions) or {"mine": 1.0, "accuracy": -1.0},
    )  # fmt: skip
    data = Dataset.from_list(TEXTS[:5])
    predictions = trainer.predict(trainer._prepare_dataset(data, trainer.processing_class, trainer.args, "eval"))
    assert predictions.predictions.shape == (5, 2)
    assert predictions.metrics["test_mine"] == 1.0
    metrics = trainer.evaluate(data)
    assert metrics["eval_mine"] == 1.0 and metrics["eval_accuracy"] == -1.0
    rewards = torch.tensor(seen[0])
    alone = METHODS[method].build(tmp_path).evaluate(data)["eval_accuracy"]
    assert (rewards[:, 0] > rewards[:, 1]).float().mean().item() == pytest.approx(alone)


@ALL
def test_accumulation_and_batch_size_change_nothing(method, tmp_path):
    """Nine pairs in batches that do not divide them, of completions of different lengths."""
    rows = [
        {**row, "chosen": row["chosen"] + " w14" * (n % 4)}
        for n, row in enumerate([*TEXTS, {**TEXTS[0], "prompt": "w20 w5 "}])
    ]
    found = []
    for size, steps in ((9, 1), (4, 3), (2, 5)):
        trainer = METHODS[method].build(
            tmp_path, rows=rows, eval_dataset=Dataset.from_list(rows),
            settings=dict(
                per_device_train_batch_size=size, gradient_accumulation_steps=steps, per_device_eval_batch_size=size,
                max_steps=2, optim="sgd", learning_rate=1e-1,
            ),
        )  # fmt: skip
        before = trainer.evaluate()
        stream = trainer.evaluate(Dataset.from_list(rows).to_iterable_dataset())
        trainer.train()
        found.append((before, stream, weights(trainer), trainer.state.log_history[1]["loss"]))
    for before, stream, trained, loss in found[1:]:
        for name, value in found[0][0].items():
            if name.startswith("eval_") and "second" not in name and "runtime" not in name and "time" not in name:
                assert before[name] == pytest.approx(value, abs=1e-5), name
                assert stream[name] == pytest.approx(value, abs=1e-5), name
        assert loss == pytest.approx(found[0][3], abs=1e-4)
        for name, value in trained.items():
            torch.testing.assert_close(value, found[0][2][name], atol=1e-5, rtol=1e-4)

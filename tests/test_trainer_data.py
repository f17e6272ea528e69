"""Every form of data that the four trainers take, and results that do not depend on how rows are split into batches."""

import math

import numpy as np
import pytest
import torch
from datasets import Dataset
from malformed_rows import CALL, CHAT, assistant, user
from method_trainers import CLASSES, trainer_of
from tiny import tiny_tokenizer

ROWS = [
    {"prompt": f"w{n} w{n + 1}", "chosen": " w3 w5" + " w6" * (n % 3), "rejected": " w9" + " w4" * (n % 2)}
    for n in range(1, 13)
]
CHATS = [
    {"prompt": [user(f"w{n}")], "chosen": [assistant("w3 w5")], "rejected": [assistant(f"w9 w{n}")]}
    for n in range(1, 9)
]
WHOLE = [{side: row["prompt"] + row[side] for side in ("chosen", "rejected")} for row in CHATS]
FORMS = {
    "text": ROWS,
    "implicit text": [{side: row["prompt"] + row[side] for side in ("chosen", "rejected")} for row in ROWS],
    "chats": CHATS,
    "implicit chats": WHOLE,
    "UltraFeedback": [{"prompt": one["prompt"][0]["content"], **two} for one, two in zip(CHATS, WHOLE, strict=True)],
    "texts after a chat": [{**row, "chosen": row["chosen"][0]["content"], "rejected": row["rejected"][0]["content"]}
                           for row in CHATS],
    "text parts": [{**row, "prompt": [user([{"type": "text", "text": row["prompt"][0]["content"]}])]} for row in CHATS],
}  # fmt: skip
SAME = {"implicit text": "text", **{name: "chats" for name in list(FORMS)[3:]}}


def ready(method, folder, data, tokenizer=None, **settings):
    """Prepared rows, without the columns that they were made of."""
    streaming = not isinstance(data, Dataset)
    if method == "ELHSR":
        settings = {"feature_cache": "none", **settings}
    trainer = trainer_of(method, folder, data, tokenizer=tokenizer, max_steps=1, **settings)
    rows = [{name: row[name] for name in trainer._columns if name in row} for row in trainer.train_dataset]
    if streaming and method == "ELHSR":
        rows = [{**row, "width": 2} for row in rows]
    return rows


@pytest.mark.parametrize("method", CLASSES)
@pytest.mark.parametrize("name", SAME)
def test_one_pair_in_any_form_is_one_row(method, name, tmp_path):
    plain = ready(method, tmp_path, Dataset.from_list(FORMS[SAME[name]]))
    assert ready(method, tmp_path, Dataset.from_list(FORMS[name])) == plain


@pytest.mark.parametrize("method", CLASSES)
def test_formats_transforms_and_streams_are_the_same_rows(method, tmp_path):
    rows = Dataset.from_list(ROWS)
    plain = ready(method, tmp_path, rows)
    for data in (rows.with_format("torch"), rows.with_format("numpy"), rows.to_iterable_dataset(),
                 rows.to_iterable_dataset().with_format("torch"),
                 rows.with_transform(lambda batch: {**batch, "prompt": list(batch["prompt"])})):  # fmt: skip
        assert ready(method, tmp_path, data) == plain


@pytest.mark.parametrize("method", CLASSES)
def test_streams_of_formatted_rows_train(method, tmp_path):
    settings = {"feature_cache": "none"} if method == "ELHSR" else {}
    data = Dataset.from_list(ROWS).to_iterable_dataset().with_format("torch")
    trainer = trainer_of(method, tmp_path, data, **settings)
    trainer.train()
    assert math.isfinite(trainer.state.log_history[-1]["train_loss"])


@pytest.mark.parametrize("method", ["GenARM", "SLA", "ELHSR"])
@pytest.mark.parametrize("form", [None, "torch", "stream"])
def test_tokenized_rows_are_the_rows_of_their_text(method, form, tmp_path):
    tokenizer = tiny_tokenizer()
    texts, plain = Dataset.from_list(ROWS), ready(method, tmp_path, Dataset.from_list(ROWS))
    prompts = [tokenizer(row["prompt"])["input_ids"] for row in ROWS]
    sides = {side: [tokenizer(row[side] + " <eos>")["input_ids"] for row in ROWS] for side in ("chosen", "rejected")}
    joined = {side: [p + ids for p, ids in zip(prompts, sides[side], strict=True)] for side in sides}
    for columns in (
        {"prompt_ids": prompts, **{f"{side}_ids": sides[side] for side in sides}},
        {"prompt": texts["prompt"][:], **{f"{side}_ids": joined[side] for side in sides}},
        {f"{side}_input_ids": joined[side] for side in sides},
    ):
        data = Dataset.from_dict(columns)
        data = data.to_iterable_dataset() if form == "stream" else data.with_format(form)
        assert ready(method, tmp_path, data) == plain


@pytest.mark.parametrize("method", ["GenARM", "SLA", "ELHSR"])
def test_template_arguments_of_the_row_and_of_the_configuration(method, tmp_path):
    def prompts(rows, **settings):
        tokenizer = tiny_tokenizer()
        tokenizer.chat_template = (
            "{% if tools %}{{ 'w20 ' }}{% endif %}{% if deep %}{{ deep + ' ' }}{% endif %}" + tokenizer.chat_template
        )
        found = ready(method, tmp_path, Dataset.from_list(rows), tokenizer, **settings)
        return {tokenizer.decode(row["prompt_ids"]).split(" user")[0] for row in found}

    tools = '[{"type": "function", "function": {"name": "f"}}]'
    deep = [{**row, "chat_template_kwargs": {"deep": "w21"}} for row in CHATS]
    assert prompts([{**row, "tools": tools} for row in CHATS]) == {"w20"}
    assert prompts(deep) == {"w21"}
    assert prompts(CHATS, chat_template_kwargs={"deep": "w22"}) == {"w22"}
    assert prompts(deep, chat_template_kwargs='{"deep": "w22"}') == {"w21"}


@pytest.mark.parametrize("method", CLASSES)
def test_tool_calls_are_part_of_what_is_learned(method, tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "message['content'] + ' '",
        "(message['content'] or '') + ' ' }}{% for call in message['tool_calls'] or [] %}"
        "{{ 'w21 ' + call['function']['arguments']['a'] | string + ' ' }}{% endfor %}{{ ''",
    )
    called = [{**CALL[0], "function": {"name": "f", "arguments": {"a": "w22"}}}]
    rows = [{**CHAT, "prompt": [user(f"w{n}")], "chosen": [assistant(None, tool_calls=called)]} for n in range(1, 9)]
    found = ready(method, tmp_path, Dataset.from_list(rows), tokenizer)
    column = {"ELHSR": "completion_ids", "Fast-Slow": "chosen_prompt_ids"}.get(method, "chosen_ids")
    ids = found[0][column][0] if method == "ELHSR" else found[0][column]
    # A judge reads the call as JSON, of which this tokenizer has no words.
    assert tokenizer.unk_token_id in ids if method == "Fast-Slow" else "w21 w22" in tokenizer.decode(ids)


def weights(trainer):
    return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])


def judged(rows):
    """Some pairs with one, two or no written judgments."""
    written = [{"about": "chosen", "first_verdict": "w10", "text": " w20 w21", "verdict": "w10"},
               {"about": "rejected", "first_verdict": "w10", "text": " w22", "verdict": "w11"}]  # fmt: skip
    return [{**row, "judgments": written[: number % 3]} for number, row in enumerate(rows)]


def data_of(method, rows=ROWS):
    return Dataset.from_list(judged(rows) if method == "Fast-Slow" else rows)


SETTINGS = {"ELHSR": [{}, {"loss_type": "nca"}, {"loss_type": "pairwise"}], "SLA": [{}, {"loss_type": "token_bt"}]}


@pytest.mark.parametrize(("method", "own"), [(name, own) for name in CLASSES for own in SETTINGS.get(name, [{}])])
def test_small_batches_and_accumulation_are_one_large_batch(method, own, tmp_path):
    trained = []
    for size, steps in ((8, 1), (2, 4)):
        trainer = trainer_of(
            method, tmp_path, data_of(method), max_steps=2, per_device_train_batch_size=size,
            gradient_accumulation_steps=steps, learning_rate=0.1, optim="sgd", **own,
        )  # fmt: skip
        trainer.train()
        trained.append(weights(trainer))
    torch.testing.assert_close(*trained, atol=1e-5, rtol=1e-4)
    assert not torch.equal(trained[0], weights(trainer_of(method, tmp_path, data_of(method), **own)))


@pytest.mark.parametrize(("method", "own"), [(name, own) for name in CLASSES for own in SETTINGS.get(name, [{}])])
def test_an_evaluation_does_not_depend_on_its_batches(method, own, tmp_path):
    found = []
    for size in (1, 5, 12):
        trainer = trainer_of(method, tmp_path, data_of(method), data_of(method), per_device_eval_batch_size=size, **own)
        metrics = trainer.evaluate()
        found.append({name: value for name, value in metrics.items() if "second" not in name and "time" not in name})
    for metrics in found[1:]:
        assert metrics == pytest.approx(found[0], rel=1e-4, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("method", CLASSES)
@pytest.mark.parametrize("size", [1, 2, 5])
def test_predictions_have_one_row_for_each_pair(method, size, tmp_path):
    seen = {}

    def compute_metrics(given):
        seen["predictions"], seen["labels"] = given.predictions, given.label_ids
        return {"share": float((given.predictions[:, 0] > given.predictions[:, 1]).mean())}

    trainer = trainer_of(
        method, tmp_path, data_of(method), data_of(method, ROWS[:5]), per_device_eval_batch_size=size,
        more={"compute_metrics": compute_metrics},
    )  # fmt: skip
    for data in (trainer.eval_dataset, data_of(method, ROWS[:5])):
        assert trainer.predict(data).predictions.shape == (5, 2)
    metrics = trainer.evaluate()
    if method == "ELHSR":
        assert seen["labels"].tolist() == [[1.0, 0.0]] * 5
    else:
        assert metrics["eval_share"] == pytest.approx(metrics["eval_accuracy"])
    assert metrics["eval_share"] == float((seen["predictions"][:, 0] > seen["predictions"][:, 1]).mean())


@pytest.mark.parametrize("method", CLASSES)
def test_every_evaluation_set_has_its_own_metrics(method, tmp_path):
    sets = {"math": data_of(method, ROWS[:4]), "code": data_of(method, ROWS[4:9])}
    trainer = trainer_of(
        method, tmp_path, data_of(method), sets, eval_strategy="steps", eval_steps=1, save_strategy="steps",
        save_steps=1, load_best_model_at_end=True, metric_for_best_model="eval_code_accuracy", greater_is_better=True,
    )  # fmt: skip
    trainer.train()
    assert trainer.state.best_metric is not None
    alone = {name: trainer.evaluate(data, metric_key_prefix="eval") for name, data in sets.items()}
    together = trainer.evaluate()
    for name, metrics in alone.items():
        for key in ("loss", "accuracy"):
            assert together[f"eval_{name}_{key}"] == pytest.approx(metrics[f"eval_{key}"], rel=1e-5)
    raw = trainer.evaluate({"again": sets["math"].with_format("torch")})
    assert raw["eval_again_loss"] == pytest.approx(alone["math"]["eval_loss"], rel=1e-5)
    assert trainer.evaluate(trainer.train_dataset)["eval_loss"] > 0
    with pytest.raises(ValueError, match="`metric_for_best_model` must be a metric of one.*eval_math_loss"):
        trainer_of(method, tmp_path, data_of(method), sets, eval_strategy="epoch", save_strategy="epoch",
                   load_best_model_at_end=True)  # fmt: skip


@pytest.mark.parametrize("method", CLASSES)
def test_padded_lengths_are_multiples(method, tmp_path):
    trainer = trainer_of(method, tmp_path, data_of(method), pad_to_multiple_of=16)
    batch = next(iter(trainer.get_train_dataloader()))
    tensor = batch["features"] if method == "ELHSR" else batch["input_ids"]
    assert tensor.shape[1] % 16 == 0
    plain = trainer_of(method, tmp_path, data_of(method), data_of(method)).evaluate()["eval_loss"]
    padded = trainer_of(method, tmp_path, data_of(method), data_of(method), pad_to_multiple_of=16).evaluate()
    assert padded["eval_loss"] == pytest.approx(plain, rel=1e-4)


def test_groups_of_different_sizes_are_predicted_side_by_side(tmp_path):
    texts, numbers = [" w3", " w5 w6", " w9"], [1.0, 0.0, 0.5]
    groups = [
        {"prompt": f"w{n}", "completions": texts[: n % 3 + 1], "labels": numbers[: n % 3 + 1]} for n in range(1, 8)
    ]
    for cache in ("memory", "none"):
        trainer = trainer_of(
            "ELHSR", tmp_path, Dataset.from_list(groups), Dataset.from_list(groups), per_device_eval_batch_size=2,
            feature_cache=cache,
        )  # fmt: skip
        found = trainer.predict(trainer.eval_dataset)
        assert found.predictions.shape == found.label_ids.shape == (7, 3)
        for row, labels, group in zip(found.predictions, found.label_ids, groups, strict=True):
            assert np.array_equal(np.isnan(row), np.isnan(labels))
            assert labels[~np.isnan(labels)].tolist() == group["labels"]

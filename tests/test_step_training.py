"""Labels of steps in the trainers of head and channel."""

import math

import pytest
import torch
from datasets import Dataset
from malformed_rows import user
from method_trainers import trainer_of
from tiny import EOS, tiny_causal_lm, tiny_tokenizer

from hf_reward_ext import ELHSRConfig, ELHSRTrainer, SLAConfig, SLATrainer
from hf_reward_ext.sla import RewardTransformer

METHODS = ["ELHSR", "SLA"]
STEPS = {"loss_type": "step_bce", "step_separator": " "}
ROWS = [
    {"prompt": "w3 w4 ", "completions": ["w5 w6", "w7", "w8 w9"], "labels": [1.0, 0.25, 0.0]},
    {"prompt": "w10 ", "completions": ["w5", "w11 w6 w3"], "labels": [1.0, 0.0]},
]
# Tokens of prompt and response, and the number of them up to the end of each step; the last step ends with EOS.
PLACES = [
    ("w3 w4 w5 w6 w7 w8 w9", 2, [4, 5, 8]),
    ("w10 w5 w11 w6 w3", 1, [2, 6]),
]


def steps_trainer(method, folder, rows=ROWS, evaluation=None, **settings):
    data = Dataset.from_list(rows) if isinstance(rows, list) else rows
    return trainer_of(method, folder, data, evaluation, **{**STEPS, **settings})


def reward_of_prefix(trainer, method, ids, start):
    """The reward of a response that ends here, by a forward of its own."""
    text = torch.tensor([ids])
    mask = torch.arange(len(ids))[None] >= start
    with torch.no_grad():
        if method == "SLA":
            return float(trainer.model(text, use_cache=False).token_rewards[mask].mean())
        states = trainer.policy(text, output_hidden_states=True).hidden_states
        return float(trainer.model(states, mask))


@pytest.mark.parametrize("method", METHODS)
def test_the_loss_by_hand(method, tmp_path):
    trainer = steps_trainer(method, tmp_path, evaluation=Dataset.from_list(ROWS), per_device_eval_batch_size=2)
    losses, rewards = [], []
    for row, (text, start, ends) in zip(ROWS, PLACES, strict=True):
        ids = [*tiny_tokenizer()(text)["input_ids"], EOS]
        for end, label in zip(ends, row["labels"], strict=True):
            rewards.append(reward_of_prefix(trainer, method, ids[:end], start))
            right = 1 / (1 + math.exp(-rewards[-1]))
            losses.append(-label * math.log(right) - (1 - label) * math.log(1 - right))
    metrics = trainer.evaluate()
    assert metrics["eval_loss"] == pytest.approx(sum(losses) / 5, rel=1e-4)
    labels = [label for row in ROWS for label in row["labels"]]
    right = sum((reward > 0) == (label > 0.5) for reward, label in zip(rewards, labels, strict=True))
    assert metrics["eval_accuracy"] == pytest.approx(right / 5) and "eval_best_of_n" not in metrics
    predicted = trainer.predict(Dataset.from_list(ROWS)).predictions
    assert predicted.shape == (2, 3) and math.isnan(predicted[1, 2])
    assert predicted[~torch.tensor(predicted).isnan().numpy()].tolist() == pytest.approx(rewards, abs=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_batches_and_accumulation_do_not_change_the_training(method, tmp_path):
    rows = [{**row, "prompt": f"w{n} {row['prompt']}"} for n in range(4) for row in ROWS]
    trained = []
    for size, steps in ((8, 1), (2, 4)):
        trainer = steps_trainer(
            method, tmp_path, rows, per_device_train_batch_size=size, gradient_accumulation_steps=steps,
            learning_rate=0.1, optim="sgd",
        )  # fmt: skip
        trainer.train()
        trained.append(torch.cat([one.detach().flatten() for one in trainer.model.parameters() if one.requires_grad]))
    torch.testing.assert_close(*trained, atol=1e-5, rtol=1e-4)


def good_and_bad(count, seed):
    """Responses whose steps are right until one has the word w20."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(count):
        words = torch.randint(3, 19, (4,), generator=generator).tolist()
        wrong_from = int(torch.randint(0, 4, (), generator=generator))
        steps = [f"w{word} w20" if number == wrong_from else f"w{word} w21" for number, word in enumerate(words[1:])]
        rows.append({"prompt": f"w{words[0]} ", "completions": steps, "labels": [n < wrong_from for n in range(3)]})
    return rows


@pytest.mark.parametrize(("method", "learning_rate"), [("ELHSR", 0.1), ("SLA", 0.02)])
def test_a_small_training_separates_right_from_wrong_steps(method, learning_rate, tmp_path):
    data, held_out = (Dataset.from_list(good_and_bad(count, seed=count)) for count in (64, 32))
    trainer = steps_trainer(
        method, tmp_path, data, held_out, per_device_train_batch_size=16, learning_rate=learning_rate, max_steps=40
    )
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    assert after["eval_loss"] < 0.6 * before["eval_loss"]
    assert after["eval_accuracy"] > 0.8 > 0.65 > before["eval_accuracy"]


@pytest.mark.parametrize("method", METHODS)
def test_a_stream_is_trained_on_as_its_rows(method, tmp_path):
    losses = []
    rows = Dataset.from_list(good_and_bad(4, seed=0))
    for data in (rows, rows.to_iterable_dataset()):
        own = {"feature_cache": "none"} if method == "ELHSR" else {}
        trainer = steps_trainer(method, tmp_path, data, max_steps=1, **own)
        trainer.train()
        losses.append(trainer.state.log_history[-1]["train_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_chats_of_label_steps_are_trained_on(method, tmp_path):
    chats = [{**row, "prompt": [user(row["prompt"].strip())]} for row in ROWS]
    rows = [{**row, "completions": [f"{step} " for step in row["completions"]]} for row in chats]
    trainer = steps_trainer(method, tmp_path, rows, step_separator="")
    [first, _] = [row for row in trainer._prepare_dataset(Dataset.from_list(rows), tiny_tokenizer(), trainer.args, "x")]
    if method == "SLA":
        assert tiny_tokenizer().decode(first["prompt_ids"]) == "user : w3 w4 assistant :"
        assert tiny_tokenizer().decode(first["completion_ids"]) == "w5 w6 w7 w8 w9 <eos>"
        assert first["step_ends"] == [1, 2, 5]
    trainer.train()
    assert math.isfinite(trainer.state.log_history[-1]["train_loss"])


def test_responses_of_one_prompt_are_never_on_both_sides(tmp_path):
    rows = [{**ROWS[0], "prompt": f"w{n % 5} "} for n in range(20)]
    trainer = steps_trainer("ELHSR", tmp_path, rows, validation_fraction=0.2, feature_cache="none")
    sides = [{tuple(row["prompt_ids"]) for row in side} for side in (trainer.train_dataset, trainer.eval_dataset)]
    assert [len(side) for side in sides] == [4, 1] and not sides[0] & sides[1]
    assert (len(trainer.train_dataset), len(trainer.eval_dataset)) == (16, 4)


@pytest.mark.parametrize("method", METHODS)
def test_a_long_response_is_dropped(method, tmp_path):
    rows = [*ROWS, {"prompt": "w3 ", "completions": ["w4 " * 40], "labels": [0.0]}]
    own = {"feature_cache": "none"} if method == "ELHSR" else {}
    assert len(steps_trainer(method, tmp_path, rows, max_length=20, **own).train_dataset) == 2
    with pytest.raises(ValueError, match="All 1 responses of the train data have more than `max_length=20` tokens"):
        steps_trainer(method, tmp_path, rows[2:], max_length=20, **own)


BAD = {
    "lengths differ": ({"labels": [1.0, 0.0]}, r"`labels` must be a list of 3 labels, one for each step, got"),
    "no labels": ({"labels": []}, "`labels` must be a list of 3 labels"),
    "labels of another kind": ({"labels": None}, "`labels` must be a list of 3 labels.*got None"),
    "a label above 1": ({"labels": [1.0, 2.0, 0.0]}, r"`labels\[1\]` must be from 0 \(wrong\) to 1 \(right\), got 2.0"),
    "a label below 0": ({"labels": [1.0, 0.0, -1.0]}, r"`labels\[2\]` must be from 0 .* to 1 .*, got -1.0"),
    "a label that is no number": ({"labels": [1.0, float("nan"), 0.0]}, r"`labels\[1\]` must be from 0"),
    "a label that is missing": ({"labels": [1.0, None, 0.0]}, r"`labels\[1\]` must be a `bool` or a number"),
    "no steps": ({"completions": []}, "`completions` must be a list of at least one step"),
    "a text": ({"completions": "w5 w6"}, "`completions` must be a list of at least one step, got 'w5 w6'"),
    "an empty step": ({"completions": ["w5", "", "w6"]}, r"`completions\[1\]` must have text, got ''"),
    "a step of whitespace": ({"completions": ["w5", "w6", " \n"]}, r"`completions\[2\]` must have text"),
    "a step that is missing": ({"completions": ["w5", None, "w6"]}, r"`completions\[1\]` must be the text of a step"),
    "an empty prompt": ({"prompt": ""}, "`prompt` must have text"),
    "a margin": ({"margin": 1.0}, "`margin` must not be given for steps"),
}  # fmt: skip
WORDS = {
    "labels in words": ({"labels": ["yes", "no", "no"]}, r"`labels\[0\]` must be a `bool` or a number.*got 'yes'"),
    "numbers as text": ({"labels": ["1", "0", "0"]}, r"`labels\[0\]` must be a `bool` or a number.*got '1'"),
    "messages": ({"completions": [{"role": "assistant", "content": "w5"}] * 3},
                 r"`completions\[0\]` must be the text of a step, got a `dict`"),
    "no column of labels": ({"labels": ...}, "needs 'prompt', 'completions' .* and 'labels'; 'labels' missing"),
}  # fmt: skip
TRAINERS = {"ELHSR": (ELHSRTrainer, ELHSRConfig), "SLA": (SLATrainer, SLAConfig)}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", [*BAD, *WORDS])
@pytest.mark.parametrize("is_stream", [False, True])
def test_a_malformed_row_is_named_before_a_model_is_loaded(method, name, is_stream, tmp_path):
    change, message = {**BAD, **WORDS}[name]
    changed = {key: value for key, value in {**ROWS[0], **change}.items() if value is not ...}
    # Arrow tables have one type per column.
    rows = [changed] if name in WORDS or name == "a text" or is_stream else [ROWS[0], changed]
    if "margin" in change:
        rows = [{**row, "margin": row.get("margin")} for row in rows]
    kind, config = TRAINERS[method]
    args = config(str(tmp_path), report_to="none", max_steps=1, **STEPS)
    data = Dataset.from_list(rows)
    with pytest.raises(ValueError, match=message) as error:
        kind("no/such/model", args, train_dataset=data.to_iterable_dataset() if is_stream else data)
    assert name == "no column of labels" or f"Row {len(rows) - 1} of the train data: " in str(error.value)


@pytest.mark.parametrize("method", METHODS)
def test_a_malformed_row_later_in_a_stream_is_named(method, tmp_path):
    rows = Dataset.from_list([ROWS[0], {**ROWS[0], "labels": [1.0, 3.0, 0.0]}]).to_iterable_dataset()
    own = {"feature_cache": "none"} if method == "ELHSR" else {}
    with pytest.raises(ValueError, match=r"Row 1 of the train data: `labels\[1\]` must be from 0"):
        steps_trainer(method, tmp_path, rows, per_device_train_batch_size=2, **own).train()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss_type": "step_bce"}, "`step_separator` must be the text between steps with `loss_type='step_bce'`"),
        ({"step_separator": "\n"}, "`step_separator` must be None with `loss_type="),
    ],
)
def test_the_separator_goes_with_steps(method, settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        TRAINERS[method][1](str(tmp_path), **settings)


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        (ELHSRConfig, {"max_candidates_per_prompt": 2}, "`max_candidates_per_prompt` must be None"),
        (SLAConfig, {"policy_loss": "sft"}, "`policy_loss` must be None with `loss_type='step_bce'`"),
        (SLAConfig, {"center_rewards_coefficient": 0.1}, "`center_rewards_coefficient` must be None"),
        (SLAConfig, {"cache_hidden_states": True}, "`cache_hidden_states` must be False"),
        (SLAConfig, {"turns": "all"}, "`turns` must be 'last'"),
    ],
)
def test_options_of_other_rows_are_refused(config, settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        config(str(tmp_path), **STEPS, **settings)


@pytest.mark.parametrize("method", METHODS)
def test_labels_that_are_all_equal_are_refused(method, tmp_path):
    rows = [{**row, "labels": [1.0] * len(row["labels"])} for row in ROWS]
    with pytest.raises(ValueError, match="All 5 labels of steps are 1, but right and wrong steps are needed"):
        steps_trainer(method, tmp_path, rows)


def test_labels_of_steps_that_are_all_above_one_half_have_no_calibration(tmp_path):
    rows = [{**ROWS[0], "prompt": f"w{n} ", "labels": [1.0, 0.75, 0.6]} for n in range(5)]
    trainer = steps_trainer("ELHSR", tmp_path, rows, validation_fraction=0.4)
    trainer.train()
    assert trainer.model.config.calibration is None and "eval_auc" not in trainer.evaluate()


def test_a_trained_base_is_read_too(tmp_path):
    transformer = RewardTransformer.from_base(tiny_causal_lm(), channel_size=8)
    trainer = trainer_of("SLA", tmp_path, Dataset.from_list(ROWS), model=transformer, freeze_base=False, **STEPS)
    before = transformer.base.get_input_embeddings().weight.clone()
    trainer.train()
    assert not torch.equal(before, transformer.base.get_input_embeddings().weight)

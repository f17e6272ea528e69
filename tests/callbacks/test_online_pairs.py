import json
from contextlib import nullcontext

import pytest
import torch
from cli_files import read_rows
from datasets import Dataset
from peft import LoraConfig
from tiny import tiny_causal_lm, tiny_tokenizer
from transformers import Trainer, TrainerCallback, TrainingArguments
from trl import DPOConfig, DPOTrainer

from hf_reward_ext.callbacks import OnlinePairsCallback
from hf_reward_ext.callbacks.epoch_rows import EpochRows
from hf_reward_ext.cli.main import main

FIRST = [{"prompt": f"w{n} w{n + 1}", "chosen": f" w{n + 2}", "rejected": f" w{n + 3}"} for n in range(3, 10)]
PROMPTS = [f"w{n} w{n + 2}" for n in range(3, 12)]
SAMPLING = dict(num_candidates=4, max_new_tokens=5, temperature=1.0, top_k=0)


def variety(prompts, completions):
    """Different words, so that ties give some prompts no pair."""
    texts = [one if isinstance(one, str) else one[0]["content"] for one in completions]
    return [float(len(set(text.split()))) for text in texts]


class FailingAt:
    """The same, but an error at one of the calls."""

    def __init__(self, call):
        self.calls_left = call
        self.__name__ = "variety"

    def __call__(self, prompts, completions):
        self.calls_left -= 1
        if self.calls_left == 0:
            raise KeyboardInterrupt
        return variety(prompts, completions)


def trainer_of(folder, reward=variety, prompts=PROMPTS, peft=None, policy=None, callback=None, **kwargs):
    shared = dict(
        num_train_epochs=3, per_device_train_batch_size=2, gradient_accumulation_steps=3, learning_rate=1e-2,
        save_strategy="steps", save_steps=1, report_to="none", bf16=False, use_cpu=True, disable_tqdm=True,
        logging_strategy="no",
    )  # fmt: skip
    trainer = DPOTrainer(
        policy or tiny_causal_lm(initializer_range=0.1),
        None if peft else tiny_causal_lm(initializer_range=0.1),
        args=DPOConfig(str(folder / "dpo"), **{**shared, **kwargs}),
        train_dataset=Dataset.from_list(FIRST),
        processing_class=tiny_tokenizer(),
        peft_config=peft,
    )
    settings = {**SAMPLING, "seed": 5, "batch_size": 2, **(callback or {})}
    trainer.add_callback(OnlinePairsCallback(trainer, prompts, reward, folder / "pairs", **settings))
    return trainer


def read_batches(trainer):
    """The rows of each epoch, as the trainer reads them."""
    seen, step = [], trainer.training_step

    def training_step(model, inputs, *rest):
        epoch = trainer.state.global_step // 2  # 7 rows in batches of 2, 3 at a time: 2 steps
        seen.extend((epoch, tuple(row.tolist())) for row in inputs["input_ids"])
        return step(model, inputs, *rest)

    trainer.training_step = training_step
    return seen


def texts_of(rows, tokenizer):
    eos = tokenizer.eos_token
    return {f"{row['prompt']}{row[side]}{eos}" for row in rows for side in ("chosen", "rejected")}


@pytest.mark.stack
def test_an_epoch_trains_on_the_pairs_that_bon_samples_from_its_policy(tmp_path, monkeypatch):
    trainer = trainer_of(tmp_path)
    seen = read_batches(trainer)
    trainer.train()
    tokenizer = tiny_tokenizer()
    pad = tokenizer.pad_token_id
    read = [
        {tokenizer.decode([token for token in ids if token != pad]) for epoch, ids in seen if epoch == number}
        for number in range(3)
    ]
    pairs = [FIRST, *(read_rows(tmp_path / "pairs" / f"pairs-{epoch}.jsonl") for epoch in (1, 2))]
    for rows, texts in zip(pairs, read, strict=True):
        wanted = {tokenizer.decode(tokenizer(text)["input_ids"]) for text in texts_of(rows, tokenizer)}
        assert texts <= wanted and len(texts) >= min(len(wanted), 2 * len(FIRST)) - 2
    assert pairs[1] != pairs[2] and all(row["margin"] > 0 for rows in pairs[1:] for row in rows)
    logged = [row for row in trainer.state.log_history if "pairs/num_pairs" in row]
    assert [row["pairs/num_pairs"] for row in logged] == [len(rows) for rows in pairs[1:]]

    (tmp_path / "rewards_of_pairs.py").write_text(
        "def variety(prompts, completions):\n    return [float(len(set(text.split()))) for text in completions]\n"
    )
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"prompt": one}) + "\n" for one in PROMPTS))
    monkeypatch.chdir(tmp_path)
    policy = tmp_path / "dpo" / "checkpoint-2"  # that of the end of the first epoch
    arguments = f"bon --model {policy} --reward_model rewards_of_pairs:variety --data prompts.jsonl --as preference"
    arguments += " --output bon.jsonl --num_candidates 4 --max_new_tokens 5 --temperature 1 --top_k 0 --no_chat"
    assert main([*arguments.split(), "--seed", "6", "--batch_size", "2"]) == 0
    assert read_rows(tmp_path / "bon.jsonl") == pairs[1]


def weights_of(trainer):
    return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == self.step


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Folder and weights of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    trainer = trainer_of(folder)
    trainer.train()
    return folder, weights_of(trainer)


@pytest.mark.parametrize("step", [2, 3, None])
def test_a_resumed_run_has_the_pairs_and_weights_of_an_uninterrupted_one(whole, tmp_path, step):
    begun = trainer_of(tmp_path, variety if step else FailingAt(6))  # or killed in its third batch
    begun.add_callback(StopAt(step))
    with pytest.raises(KeyboardInterrupt) if step is None else nullcontext():
        begun.train()
    parts = list((tmp_path / "pairs" / "pairs-1.jsonl.parts").glob("part-*"))
    assert len(parts) == (2 if step is None else 0)
    resumed = trainer_of(tmp_path)
    resumed.train(resume_from_checkpoint=True)
    for epoch in (1, 2):
        first, second = ((run / "pairs" / f"pairs-{epoch}.jsonl").read_text() for run in (whole[0], tmp_path))
        assert first == second
    assert torch.equal(whole[1], weights_of(resumed)) and resumed.state.global_step == 6


def test_pairs_other_than_those_of_the_checkpoint_are_refused(tmp_path):
    begun = trainer_of(tmp_path)
    begun.add_callback(StopAt(3))
    begun.train()
    (tmp_path / "pairs" / "pairs-1.jsonl").write_text("")
    with pytest.raises(ValueError, match="checkpoint of step 3 needs the pairs of epoch 1 .* is missing or has others"):
        trainer_of(tmp_path).train(resume_from_checkpoint=True)


def test_pairs_of_another_run_in_the_folder_are_replaced(tmp_path):
    trainer_of(tmp_path, num_train_epochs=2).train()
    before = read_rows(tmp_path / "pairs" / "pairs-1.jsonl")
    again = trainer_of(tmp_path, num_train_epochs=2, learning_rate=3e-2)
    again.train()
    assert read_rows(tmp_path / "pairs" / "pairs-1.jsonl") != before


def test_adapters_sample_and_messages_are_paired(tmp_path):
    prompts = [[{"role": "user", "content": text}] for text in PROMPTS[:3]]
    lora = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    trainer = trainer_of(tmp_path, prompts=prompts, peft=lora, num_train_epochs=2)
    alone = trainer.callback_handler.callbacks[-1].refresh(trainer.model, trainer.args, 7).rows
    with trainer.model.disable_adapter():
        base = trainer.callback_handler.callbacks[-1].refresh(trainer.model, trainer.args, 8).rows
    assert alone != base
    trainer.train()
    rows = read_rows(tmp_path / "pairs" / "pairs-1.jsonl")
    assert rows and all(row["chosen"][0]["role"] == "assistant" for row in rows)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(precompute_ref_log_probs=True), ValueError, "`precompute_ref_log_probs` must be False"),
        (
            dict(dataloader_persistent_workers=True, dataloader_num_workers=1),
            ValueError, "`dataloader_persistent_workers` must be False",
        ),
        (dict(prompts=[]), ValueError, "Prompts must be given"),
        (dict(prompts="w3"), ValueError, "`prompts` must be a list of prompts, got the text"),
        (dict(reward=3), TypeError, "must score text"),
        (dict(callback=dict(batch_size=0)), ValueError, "`batch_size` must be"),
        (dict(callback=dict(num_candidates=0)), ValueError, "`num_candidates` must be"),
        (dict(callback=dict(max_new_token=3)), TypeError, "got `max_new_token`"),
        (dict(callback=dict(return_all=False)), TypeError, "multiple values for keyword argument 'return_all'"),
        (dict(num_train_epochs=1), ValueError, "`num_train_epochs` must be at least 2"),
        (dict(reward=lambda prompts, completions: [0.0] * len(prompts)), ValueError, "nothing to write"),
    ],
)  # fmt: skip
def test_what_it_cannot_refresh_is_refused(tmp_path, change, error, message):
    with pytest.raises(error, match=message):
        trainer_of(tmp_path, **{"save_strategy": "no", **change}).train()


def test_a_second_callback_is_refused(tmp_path):
    with pytest.raises(ValueError, match="got a `EpochRows`. Pass the trainer a `Dataset`, and add one callback"):
        OnlinePairsCallback(trainer_of(tmp_path), PROMPTS, variety, tmp_path)


def test_another_trainer_is_refused(tmp_path):
    trainer = Trainer(tiny_causal_lm(), TrainingArguments(str(tmp_path), use_cpu=True, report_to="none"))
    with pytest.raises(TypeError, match="must be a `DPOTrainer` of TRL, got a `Trainer`"):
        OnlinePairsCallback(trainer, PROMPTS, variety, tmp_path)


def test_the_length_stays_that_of_the_first_rows():
    rows = EpochRows([{"row": number} for number in range(4)])
    rows.use([{"row": 7}, {"row": 8}, {"row": 9}])
    assert [rows[index]["row"] for index in range(len(rows))] == [7, 8, 9, 7]
    many = [{"row": number} for number in range(100)]
    parts = []
    for seed in (0, 0, 1):
        rows.use(many, seed)
        parts.append({rows[index]["row"] for index in range(len(rows))})
    assert len(parts[0]) == 4 and parts[0] == parts[1] != parts[2]

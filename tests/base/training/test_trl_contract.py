"""What we override or read of the private side of TRL's and transformers' trainers: each seam is called, not read."""

import pytest
import torch
from datasets import Dataset
from tiny import tiny_causal_lm, tiny_tokenizer
from transformers import AutoModelForSequenceClassification
from trl import RewardConfig, RewardTrainer

ROWS = Dataset.from_list([{"chosen": f"w{n} w5", "rejected": f"w{n} w9"} for n in range(2, 8)])
pytestmark = pytest.mark.stack


class Recorder(RewardTrainer):
    """TRL's own trainer; every seam that we use records its calls."""

    def __init__(self, *args, **kwargs):
        self.calls = []
        super().__init__(*args, **kwargs)

    def _prepare_dataset(self, dataset, processing_class, args, dataset_name):
        self.calls.append(("prepare", dataset_name))
        return super()._prepare_dataset(dataset, processing_class, args, dataset_name)

    def _set_signature_columns_if_needed(self):
        self._signature_columns = ["chosen_ids", "rejected_ids"]

    def _get_num_items_in_batch(self, batch_samples, device):
        self.calls.append(("count", len(batch_samples)))
        return {"pairs": sum(len(batch["input_ids"]) // 2 for batch in batch_samples)}

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        self.calls.append(("loss", num_items_in_batch, sorted(inputs)))
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def training_step(self, *args, **kwargs):
        loss = super().training_step(*args, **kwargs)
        self.calls.append(("step", loss.item()))
        return loss

    def evaluation_loop(self, *args, **kwargs):
        output = super().evaluation_loop(*args, **kwargs)
        output.metrics[f"{kwargs['metric_key_prefix']}_mine"] = 1.0
        return output

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        self.calls.append(("resume", resume_from_checkpoint))
        return super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self):
        self.calls.append(("best", self.state.best_model_checkpoint))
        return super()._load_best_model()

    def create_model_card(self, model_name=None, dataset_name=None, tags=None):
        self.calls.append(("card", model_name))
        return super().create_model_card(model_name, dataset_name, tags)

    def of(self, kind):
        return [call[1] for call in self.calls if call[0] == kind]


def recorder(folder, kind=Recorder, **settings):
    config = tiny_causal_lm().config
    config.num_labels = 1
    shared = dict(
        max_steps=2, per_device_train_batch_size=2, gradient_accumulation_steps=2, report_to="none", use_cpu=True,
        bf16=False, disable_tqdm=True, activation_checkpointing=False, gradient_checkpointing=None, logging_steps=1,
        eval_strategy="steps", eval_steps=1, save_strategy="steps", save_steps=1, load_best_model_at_end=True,
        metric_for_best_model="eval_a_loss",
    )  # fmt: skip
    torch.manual_seed(0)
    return kind(
        AutoModelForSequenceClassification.from_config(config),
        RewardConfig(str(folder), **{**shared, **settings}),
        train_dataset=ROWS,
        eval_dataset={"a": ROWS, "b": ROWS},
        processing_class=tiny_tokenizer(),
    )


def test_the_seams_are_called(tmp_path):
    trainer = recorder(tmp_path)
    assert trainer.of("prepare") == ["train", "a", "b"]
    trainer.train()
    # Six pairs: two batches of two are one step, the last is a step of its own; each evaluation is one batch of a set.
    assert trainer.of("count") == [2, 1, 1, 1, 1, 1]
    assert trainer.of("loss")[0] == {"pairs": 4}  # reaches the loss as it is
    assert all(call[2] == ["attention_mask", "input_ids"] for call in trainer.calls if call[0] == "loss")
    assert trainer.of("best") and trainer.of("card")
    assert {"eval_a_mine", "eval_b_mine"} <= {name for row in trainer.state.log_history for name in row}
    again = recorder(tmp_path)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert again.of("resume") == [str(tmp_path / "checkpoint-1")]


def test_a_loss_that_is_scaled_is_not_divided_again(tmp_path):
    class Scaled(Recorder):
        loss_is_scaled_for_ga = True

    steps = [recorder(tmp_path, kind, save_strategy="no", load_best_model_at_end=False) for kind in (Recorder, Scaled)]
    for trainer in steps:
        trainer.train()
    divided, whole = (trainer.of("step")[0] for trainer in steps)
    assert whole == pytest.approx(2 * divided)


def test_metrics_that_wait_are_averaged_into_the_log(tmp_path):
    trainer = recorder(tmp_path)
    trainer.model.train()
    trainer._metrics["train"]["mine"] = [1.0, 3.0]
    trainer.log({"loss": 0.0})
    assert trainer.state.log_history[-1]["mine"] == 2.0 and not trainer._metrics["train"]


def test_names_that_a_card_is_made_of():
    for name in ("_tag_names", "_name", "_paper"):
        assert hasattr(RewardTrainer, name)

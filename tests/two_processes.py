"""Run by `accelerate launch`: all four trainers on 12 rows, of which the last batch of an epoch has half."""

import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from datasets import Dataset
from method_trainers import CLASSES, trainer_of
from safetensors.torch import load_file
from transformers import Trainer

ROWS = [
    {"prompt": f"w{n} w{n + 1}", "chosen": " w3 w5" + " w6" * (n % 3), "rejected": " w9" + " w4" * (n % 2)}
    for n in range(1, 13)
]
SHARDED = ("GenARM", "SLA", "Fast-Slow")
CAN_SHARD = hasattr(torch.cpu.Stream, "record_event")  # torch 2.6 cannot on CPUs
SHARDS = dict(fsdp=True, fsdp_config={"transformer_layer_cls_to_wrap": "LlamaDecoderLayer"})


def train(method: str, folder: Path, batch: int, resumed: str | None = None, **settings) -> dict:
    """Saved weights, metrics and calibration after two epochs, the logged training loss among them."""
    rows = Dataset.from_list(ROWS)
    trainer = trainer_of(
        method, folder / method, rows, rows.select(range(5)), max_steps=-1, num_train_epochs=2,
        per_device_train_batch_size=batch, per_device_eval_batch_size=batch, learning_rate=0.1, optim="sgd",
        lr_scheduler_type="constant", logging_strategy="epoch", max_grad_norm=0.0, **settings,
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=resumed)
    trainer.save_model()
    trainer.accelerator.wait_for_everyone()
    saved = load_file(folder / method / "model.safetensors")
    weights = [value for name in sorted(saved) for value in saved[name].flatten().tolist()]
    logged = [row for row in trainer.state.log_history if "accuracy" in row]
    metrics = trainer.evaluate()
    # Tokens are counted as they were read, those of repeated rows too.
    names = [name for name in metrics if not any(word in name for word in ("second", "time", "num_tokens"))]
    return {
        "weights": weights[:200] + weights[-200:],
        "metrics": {name: metrics[name] for name in names},
        "logged": [{name: row[name] for name in ("accuracy", "loss")} for row in logged],
        "calibration": getattr(trainer.model.config, "calibration", None) if method == "ELHSR" else None,
        "processes": trainer.args.world_size,
        "kind": type(trainer.model_wrapped).__name__,
    }


@contextmanager
def sharding_on_cpus():
    """Let accelerate shard weights on CPUs, which it does on GPUs only."""
    plain = Trainer.create_accelerator_and_postprocess

    def create(trainer):
        AcceleratorState._reset_state()
        PartialState().distributed_type = DistributedType.MULTI_XPU  # one of those that it shards on
        plain(trainer)

    Trainer.create_accelerator_and_postprocess = create
    try:
        yield
    finally:
        Trainer.create_accelerator_and_postprocess = plain


def refused(method: str, folder: Path, **settings) -> str:
    """Message of a trainer that is refused."""
    try:
        trainer_of(method, folder, Dataset.from_list(ROWS), **settings, **SHARDS)
    except ValueError as error:
        return str(error)
    return "accepted"


if __name__ == "__main__":
    place = Path(sys.argv[1])
    found = {method: train(method, place, batch=4) for method in CLASSES}
    steps = dict(save_strategy="steps", save_steps=1)
    train("ELHSR", place / "whole", batch=4, **steps)
    third = f"{place}/whole/ELHSR/checkpoint-3"  # before the last batch of an epoch, which is not full
    found["resumed"] = train("ELHSR", place / "again", batch=4, resumed=third, **steps)
    with sharding_on_cpus():
        methods = SHARDED if CAN_SHARD else ()
        found["sharded"] = {method: train(method, place / "sharded", batch=4, **SHARDS) for method in methods}
    found["refused"] = refused("GenARM", place)
    (place / f"rank-{os.environ['RANK']}.json").write_text(json.dumps(found))
    os._exit(0)  # torch's threads abort one exit in thirty, when all is written

"""Run by `accelerate launch`: all four trainers on 12 rows, of which the last batch of an epoch has half."""

import json
import os
import sys
from pathlib import Path

from datasets import Dataset
from method_trainers import CLASSES, trainer_of

ROWS = [
    {"prompt": f"w{n} w{n + 1}", "chosen": " w3 w5" + " w6" * (n % 3), "rejected": " w9" + " w4" * (n % 2)}
    for n in range(1, 13)
]


def train(method: str, folder: Path, batch: int) -> dict:
    """Weights, metrics and calibration after two epochs, the logged training loss among them."""
    rows = Dataset.from_list(ROWS)
    trainer = trainer_of(
        method, folder / method, rows, rows.select(range(5)), max_steps=-1, num_train_epochs=2,
        per_device_train_batch_size=batch, per_device_eval_batch_size=batch, learning_rate=0.1, optim="sgd",
        lr_scheduler_type="constant", logging_strategy="epoch", max_grad_norm=0.0,
    )  # fmt: skip
    trainer.train()
    weights = [value for parameter in trainer.model.parameters() for value in parameter.detach().flatten().tolist()]
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
    }


if __name__ == "__main__":
    place = Path(sys.argv[1])
    found = {method: train(method, place, batch=4) for method in CLASSES}
    (place / f"rank-{os.environ['RANK']}.json").write_text(json.dumps(found))
    os._exit(0)  # torch's threads abort one exit in thirty, when all is written

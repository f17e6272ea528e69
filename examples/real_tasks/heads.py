"""Heads beside the linear one on the constraint task: kinds of heads and numbers of labels, on the same candidates."""

from pathlib import Path

import numpy as np

from examples.real_tasks.best_of_n import COUNT, layers_of, some_of, train_head
from examples.real_tasks.pool import Pool, features_of, rewards_of
from examples.real_tasks.sizes import Size, result

KINDS = {
    "linear": {},
    "centroids": {"loss_type": "centroids"},
    "hidden layer of 64": {"mlp_size": 64},
    "attention": {"attention": True},
}


def compare(policy, tokenizer, pool: Pool, folder: Path, size: Size) -> dict:
    """Compare best-of-N by every kind of head, after training on every number of labels."""
    groups = pool.groups["test"]
    count = min(COUNT, size.num_candidates)
    right = np.array([[float(one.is_right) for one in group[:count]] for group in groups])
    rows, cache = [], None
    for kind, settings in KINDS.items():
        for labels in size.num_labels:
            chosen, seconds, bytes_ = [], [], 0
            for seed in size.seeds:
                name = "hidden_states" if kind == "linear" else kind  # the linear heads of the first table
                place = folder / f"head-{name}-{labels}-{seed}"
                head = train_head(
                    policy,
                    tokenizer,
                    some_of(pool.groups["train"], labels, seed),
                    pool.groups["validation"],
                    place,
                    seed,
                    layers=layers_of(policy),
                    num_epochs=size.head_epochs,
                    **settings,
                )
                cache = cache or features_of(policy, head, groups, folder / "features")
                scores = np.array([rewards_of(head, cache, row, count) for row in range(len(groups))])
                chosen.append(right[np.arange(len(right)), scores.argmax(1)])
                seconds.append(float((place / "seconds").read_text()))
                bytes_ = (place / "model.safetensors").stat().st_size
            rows.append(
                result(kind, f"{labels} labels", chosen, seconds=round(float(np.mean(seconds)), 2), bytes=bytes_)
            )
    return {"rows": rows}

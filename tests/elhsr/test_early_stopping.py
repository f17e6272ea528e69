from datasets import Dataset
from method_trainers import trainer_of

# Labels that nothing can predict, at a learning rate that makes the evaluation worse from an early epoch on.
ROWS = [
    {
        "prompt": f"w{n % 20 + 3}",
        "completions": [f" w{n % 9 + 3} w7", f" w{n % 5 + 3}"],
        "labels": [n % 2, 1 - n % 3 % 2],
    }
    for n in range(24)
]
SETTINGS = dict(
    max_steps=-1, num_train_epochs=20, learning_rate=0.5, validation_fraction=0.3, early_stopping_patience=2,
    eval_strategy="epoch", save_strategy="epoch", save_total_limit=None, load_best_model_at_end=True,
)  # fmt: skip


def ended(folder, **options):
    trainer = trainer_of("ELHSR", folder, Dataset.from_list(ROWS), **SETTINGS)
    trainer.train(**options)
    return trainer, {name: weight.clone() for name, weight in trainer.model.state_dict().items()}


def test_a_resumed_training_stops_where_it_would_have_stopped(tmp_path):
    whole, expected = ended(tmp_path)
    steps = sorted(int(path.name.removeprefix("checkpoint-")) for path in tmp_path.glob("checkpoint-*"))
    assert 2 < len(steps) < 20
    for step in steps[-3:]:  # the best epoch or a later one, up to the last
        resumed, found = ended(tmp_path, resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
        assert resumed.state.global_step == whole.state.global_step
        assert all((found[name] == weight).all() for name, weight in expected.items())

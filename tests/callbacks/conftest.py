import pytest
from datasets import Dataset
from tiny import tiny_causal_lm, tiny_tokenizer
from trl import DPOTrainer


@pytest.fixture
def tiny_dpo():
    """Makes a `DPOTrainer` of a tiny policy with some callbacks."""
    rows = [{"prompt": f"w{n} w{n + 1}", "chosen": f" w{n + 2}", "rejected": f" w{n + 3}"} for n in range(3, 11)]

    def tiny_dpo(args, *callbacks, eval_dataset=None, policy=None):
        args.disable_tqdm = True
        return DPOTrainer(
            policy or tiny_causal_lm(initializer_range=0.1),
            tiny_causal_lm(initializer_range=0.1),
            args=args,
            train_dataset=Dataset.from_list(rows),
            eval_dataset=eval_dataset or Dataset.from_list(rows[:3]),
            processing_class=tiny_tokenizer(padding_side="right"),
            callbacks=list(callbacks),
        )

    return tiny_dpo

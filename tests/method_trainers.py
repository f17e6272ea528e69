"""The four trainers on tiny models, built alike."""

from tiny import tiny_causal_lm, tiny_tokenizer
from tiny_judges import TEMPLATE, VERDICTS

from hf_reward_ext import (
    ELHSRConfig,
    ELHSRTrainer,
    FastSlowConfig,
    FastSlowTrainer,
    GenARMConfig,
    GenARMTrainer,
    SLAConfig,
    SLATrainer,
)

CLASSES = {
    "GenARM": (GenARMTrainer, GenARMConfig),
    "SLA": (SLATrainer, SLAConfig),
    "Fast-Slow": (FastSlowTrainer, FastSlowConfig),
    "ELHSR": (ELHSRTrainer, ELHSRConfig),
}
_OWN = {
    "SLA": {"channel_size": 8},
    "Fast-Slow": {"verdicts": list(VERDICTS)},
    "ELHSR": {"validation_fraction": 0.0, "load_best_model_at_end": False},
}


def trainer_of(method, folder, train, evaluation=None, model=None, tokenizer=None, more=None, **settings):
    """A trainer of a method; `settings` are those of its configuration, `more` arguments of the trainer."""
    kind, config = CLASSES[method]
    common = dict(
        max_steps=2, per_device_train_batch_size=4, report_to="none", use_cpu=True, disable_tqdm=True,
        save_strategy="no", eval_strategy="no", logging_strategy="no", activation_checkpointing=False,
    )  # fmt: skip
    args = config(str(folder), **{**common, **_OWN.get(method, {}), **settings})
    own = {"template": TEMPLATE} if method == "Fast-Slow" else {}
    return kind(
        tiny_causal_lm() if model is None else model, args, train_dataset=train, eval_dataset=evaluation,
        processing_class=tokenizer or tiny_tokenizer(), **own, **(more or {}),
    )  # fmt: skip

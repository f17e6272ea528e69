"""Methods of `hf-reward-ext train`."""

import importlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Method:
    """
    Method with names of its classes, which are loaded lazily.

    Args:
        text (`str`): Description of the model and the data.
        config, trainer (`str`): Names of training arguments and trainer in `hf_reward_ext`.
        use (`str`): Command line that uses the trained model in `{folder}`.
    """

    text: str
    config: str
    trainer: str
    use: str

    def load(self, name: str) -> Any:
        """Load a class by its name in `hf_reward_ext`."""
        return getattr(importlib.import_module("hf_reward_ext"), name)


METHODS = {
    "genarm": Method(
        "an autoregressive reward model that guides another model, from preference pairs",
        "GenARMConfig",
        "GenARMTrainer",
        "generate --guide {folder} --prompt ...",
    ),
    "sla": Method(
        "a reward channel next to a frozen model, for look-ahead search, from preference pairs",
        "SLAConfig",
        "SLATrainer",
        "generate --channel {folder} --prompt ...",
    ),
    "fast-slow": Method(
        "a judge that answers in one token or with a written judgment, from preference pairs with or without judgments",
        "FastSlowConfig",
        "FastSlowTrainer",
        "judge --model {folder} --data ...",
    ),
    "elhsr": Method(
        "a linear head on the policy's hidden states, from labeled completions or pairs",
        "ELHSRConfig",
        "ELHSRTrainer",
        "bon --reward_model {folder} --prompt ...",
    ),
}

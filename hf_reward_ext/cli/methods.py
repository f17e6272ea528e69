"""What `hf-reward-ext train` can train."""

import importlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Method:
    """
    A method, by names that load nothing.

    Args:
        text (`str`): What is trained, and from what.
        config, trainer (`str`): Names of its training arguments and its trainer in `hf_reward_ext`.
        use (`str`): Command line that uses what was trained; `{folder}` stands for it.
    """

    text: str
    config: str
    trainer: str
    use: str

    def load(self, name: str) -> Any:
        """Return a class by its name in `hf_reward_ext`."""
        return getattr(importlib.import_module("hf_reward_ext"), name)


METHODS = {
    "genarm": Method(
        "an autoregressive reward model that guides another model, from preference pairs",
        "GenARMConfig",
        "GenARMTrainer",
        "generate --guide {folder} --prompt ...",
    ),
    "sla": Method(
        "a reward channel beside a frozen model, for look-ahead search, from preference pairs",
        "SLAConfig",
        "SLATrainer",
        "generate --channel {folder} --prompt ...",
    ),
    "fast-slow": Method(
        "a judge that answers in one token or in writing, from preference pairs with or without judgments",
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

"""The library behind the commands, imported when one of them runs."""

import sys


def load_library() -> None:
    """Registers our models and pipelines, where `hf_reward_ext_cli` has only kept the package's place."""
    package = sys.modules["hf_reward_ext"]
    if not hasattr(package, "__version__"):
        package.__spec__.loader.exec_module(package)  # pyright: ignore[reportOptionalMemberAccess]

"""
Starts `hf-reward-ext` before the library is imported: that brings torch, which `--help` does not need.

It stands beside the package because Python imports a package before any module in it.
"""

import sys
import warnings
from importlib.util import find_spec, module_from_spec


def main() -> int:
    """Puts the package in its place unread, so that `hf_reward_ext.cli` loads alone; commands read the rest."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # what our dependencies say about one another
    spec = find_spec("hf_reward_ext")
    if spec is None:
        raise ModuleNotFoundError("`hf_reward_ext` is not installed. Install it with `pip install hf_reward_ext`.")
    sys.modules["hf_reward_ext"] = module_from_spec(spec)
    from hf_reward_ext.cli.main import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())

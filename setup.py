"""Description for the package index: the README, with links that also work on its page."""

import re
from pathlib import Path

from setuptools import setup

REPOSITORY = "https://github.com/hf-reward-ext/hf_reward_ext"
TARGETS = {"": f"{REPOSITORY}/blob/main/", "!": f"{REPOSITORY}/raw/main/"}

readme = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
setup(
    long_description=re.sub(
        r"(!?)(\[[^\]]*\]\()(?!https?://|#)", lambda found: found[1] + found[2] + TARGETS[found[1]], readme
    ),
    long_description_content_type="text/markdown",
)

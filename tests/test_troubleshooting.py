"""Messages that docs/troubleshooting.md lists are raised somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
CELLS = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
MESSAGES = {message for cell in CELLS for message in re.findall(r"`([^`]+)`", cell)}
FOREIGN = {"Unknown task reward-bon", "past_key_values is deprecated", "Retrying in 8s [Retry n/5]"}  # of transformers


def plain(source: str) -> str:
    """Source without code marks and values, and with the pieces of a message joined."""
    joined = re.sub(r'"\s*\n\s*f?"', "", source)
    return re.sub(r"\{[^}]*\}|[`'*]", "", joined)


SOURCES = "\n".join(plain(path.read_text()) for path in sorted((ROOT / "hf_reward_ext").rglob("*.py")))


@pytest.mark.parametrize("message", sorted(MESSAGES - FOREIGN))
def test_a_listed_message_exists(message):
    assert len(MESSAGES) > 10 and message in SOURCES

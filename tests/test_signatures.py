"""Public signatures change only on purpose."""

import json
import re

from signatures import FILE, signatures

HOW = "If this is meant, run `make signatures` and write a line into docs/changelog.md."


def test_public_signatures_are_those_on_record():
    recorded, found = json.loads(FILE.read_text()), signatures()
    gone = sorted(recorded.keys() - found.keys())
    new = sorted(found.keys() - recorded.keys())
    changed = [f"{name}: {recorded[name]} -> {found[name]}" for name in sorted(recorded.keys() & found.keys())
               if recorded[name] != found[name]]  # fmt: skip
    assert not (gone or new or changed), f"gone: {gone}\nnew: {new}\nchanged: {changed}\n{HOW}"


def test_the_record_holds_names_order_and_defaults_and_nothing_that_changes_by_itself():
    recorded = json.loads(FILE.read_text())
    assert len(recorded) > 200
    assert not re.search(r" at 0x|/\w+/\w+/", "".join(recorded.values()))
    assert recorded["hf_reward_ext.GenARMLogitsProcessor"].startswith("(self, guides, alpha=1.0, *, prompt_ids=None")

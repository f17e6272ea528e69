"""
Calls from 2 and 8 threads at once, on one object and on one model; each must give what it gives alone.

    python tests/robustness/threads.py [--calls N] [--output FILE]
"""

import argparse
import json
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from objects import NUM_PROMPTS, SUBJECTS, Subject  # noqa: E402

PLAIN_EVERY = 5
# A meter is entered, like a file: a second thread is refused by name before it generates.
EXPLAINED = ("must have one open `HiddenStateReward`",)


def count(subject: Subject, num_calls: int, num_threads: int) -> dict[str, int]:
    """
    Runs calls in threads, every fifth of them a plain one of the same policy.

    Args:
        subject ([`Subject`]): What is called.
        num_calls, num_threads (`int`): How often, and from how many threads.

    Returns:
        `dict`: How many calls were right, wrong, refused by name, and ended in another error.
    """
    calls = [subject.plain if number % PLAIN_EVERY == 0 else subject.call for number in range(num_calls)]
    period = NUM_PROMPTS * PLAIN_EVERY
    alone = [calls[number](number) for number in range(min(period, num_calls))]
    errors: set[str] = set()

    def run(number: int) -> str:
        try:
            return "right" if calls[number](number) == alone[number % period] else "wrong"
        except Exception as error:
            if any(text in str(error) for text in EXPLAINED):
                return "refused"
            errors.add(f"{type(error).__name__}: {error}"[:200])
            return "error"

    with ThreadPoolExecutor(num_threads) as pool:
        found = Counter(pool.map(run, range(num_calls)))
    for error in errors:
        print(error, file=sys.stderr)
    return {kind: found[kind] for kind in ("right", "wrong", "refused", "error")}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--output", type=Path, default=Path("outputs/robustness/threads.json"))
    arguments = parser.parse_args()
    results = []
    for name, make in SUBJECTS.items():
        for shared in (True, False):
            for num_threads in (2, 8):
                started = time.monotonic()
                row = {"what": name, "one": "object" if shared else "model", "threads": num_threads}
                results.append(row | count(make(shared), arguments.calls, num_threads))
                print(results[-1], f"{time.monotonic() - started:.0f} s", flush=True)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text("[\n" + ",\n".join(map(json.dumps, results)) + "\n]\n")
    sys.exit(any(row["wrong"] or row["error"] for row in results))

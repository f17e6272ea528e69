"""
Table of architectures: `make architectures`.

Every type of causal LM is tested in a separate process. Rows are stored, so that an interrupted sweep resumes, until
the package or the sweep changes. The page is written from the rows of all versions of transformers.
"""

import argparse
import contextlib
import hashlib
import json
import logging
import multiprocessing
import os
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import torch
import transformers

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from architectures.build import MODEL_TYPES  # noqa: E402
from architectures.sweep import row  # noqa: E402
from architectures.table import count, page  # noqa: E402


def sources() -> str:
    """Return the digest of the files that the rows depend on."""
    files = [*(ROOT / "hf_reward_ext").rglob("*.py"), *(ROOT / "tests" / "architectures").glob("*.py")]
    digest = hashlib.sha256()
    for file in sorted(set(files) - set(ROOT.glob("tests/architectures/test_*.py"))):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def sweep_one(model_type: str, place: Path) -> None:
    """Write the row of a type, in a child process."""
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    started = time.monotonic()
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # some models print
        result = row(model_type)
    place.write_text(json.dumps({**result, "seconds": round(time.monotonic() - started, 1)}))


def run(model_type: str, folder: Path, timeout: float) -> None:
    """Run a type in a child process; a process without an answer gives a row too."""
    place = folder / f"{model_type}.json"
    if place.exists():
        return
    child = multiprocessing.get_context("fork").Process(target=sweep_one, args=(model_type, place))
    child.start()
    child.join(timeout)
    if child.is_alive():
        child.kill()
        child.join()
    if not place.exists():
        place.write_text(json.dumps({"unbuilt": f"no answer within {timeout:.0f} seconds", "is_new": True}))
    print(model_type, json.loads(place.read_text()).get("seconds", ""), file=sys.stderr, flush=True)


def read(folder: Path) -> dict:
    rows = {}
    for file in sorted(folder.glob("*.json")):
        rows[file.stem] = json.loads(file.read_text())
    return {"title": (folder / "title").read_text(), "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--types", nargs="+", default=list(MODEL_TYPES), choices=MODEL_TYPES, metavar="TYPE")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=300, help="seconds for one type")
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "architectures")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "architectures.md")
    args = parser.parse_args()
    together = args.output / sources()
    folder = together / transformers.__version__
    folder.mkdir(parents=True, exist_ok=True)
    title = f"transformers {transformers.__version__}, torch {torch.__version__}, {date.today()}"
    (folder / "title").write_text(title)  # the page is also written by runs with other versions
    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(lambda model_type: run(model_type, folder, args.timeout), args.types))
    sweeps = [read(part) for part in sorted(together.iterdir())]
    args.page.write_text(page(sweeps))
    faults = 0
    for sweep in sweeps:
        print(sweep["title"])
        for use, found in count(sweep["rows"]).items():
            print(f"  {use}: {dict(found)}")
            faults += found["wrong"] + found["crash"]
        faults += sum(one.get("is_new", False) for one in sweep["rows"].values())
    if faults:
        raise SystemExit(f"{faults} cells or types are faults: see {args.page}")


if __name__ == "__main__":
    main()

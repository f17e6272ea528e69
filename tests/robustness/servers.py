"""
Kills the client and the server of `bon --engine` at random moments, gives the same command again until it is done, and
compares its file with that of an undisturbed run. The server is `transformers serve` with any model.

    python tests/robustness/servers.py [--model FOLDER] [--kills N] [--output FILE]
"""

import argparse
import json
import os
import random
import shutil
import socket
import sys
import tempfile
import time
import urllib.request
from functools import partial
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from forked import Forked, contents, finish  # noqa: E402
from malformed_cases import FUNCTIONS, write  # noqa: E402
from tiny import tiny_causal_lm, tiny_tokenizer  # noqa: E402

ROWS = 12


class Server:
    """`transformers serve` in a process of its own, at the same port each time."""

    def __init__(self, model: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.model = model
        self.start()

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        self._process = Forked(self._serve, self.model)
        while not self._answers():
            if self._process.has_ended():
                raise RuntimeError(f"The server must start: {self._process.error()}")
            time.sleep(0.02)

    def kill(self) -> None:
        """Kills it."""
        self._process.kill()

    def _serve(self, folder: Path) -> None:
        from transformers.cli.serve import Serve

        Serve(force_model=str(self.model), host="127.0.0.1", port=self.port, log_level="error")

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False


def make_inputs(folder: Path, model: Path | None = None, rows: int = ROWS) -> None:
    """Prompts, a reward and a model that samples, a tiny one by default."""
    write(folder / "prompts.jsonl", [{"prompt": f"w{n % 20 + 3} w{n % 7 + 3}"} for n in range(rows)])
    (folder / "functions.py").write_text(FUNCTIONS)
    copy = folder / "model"
    if model is None:
        tiny_causal_lm().save_pretrained(copy)
        tiny_tokenizer().save_pretrained(copy)
    else:
        shutil.copytree(model, copy)
    settings = copy / "generation_config.json"  # the server samples only if this file asks for it
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "do_sample": True}))


def check(folder: Path, model: Path, kills: int, tokens: int = 8) -> dict:
    """
    Kills client and server in turns at random moments.

    Args:
        folder (`Path`): Inputs; `out` in it is written to.
        model (`Path`): Folder of the model.
        kills (`int`): Number of kills of each.
        tokens (`int`, *optional*, defaults to 8): Number of tokens of a candidate.

    Returns:
        `dict`: Kills of each, runs to the end, files that differ, and the error of a run that did not end well.
    """
    server, out, rng = Server(model), folder / "out", random.Random(0)
    line = (
        f"bon --engine http://127.0.0.1:{server.port}/v1 --served_model {model} --reward_model functions:length "
        f"--data prompts.jsonl --num_candidates 3 --max_new_tokens {tokens} --batch_size 1 --concurrency 1 "
        "--output out/rows.jsonl"
    )
    started = time.monotonic()
    whole_run = Forked(line, folder)
    whole_run.wait()
    if whole_run.code != 0:
        server.kill()
        return {"refused": whole_run.error()}
    seconds, whole = time.monotonic() - started, contents(out)
    shutil.rmtree(out)
    done, ends, differing = {"client": 0, "server": 0}, 0, set()
    while True:
        victim = next((name for name in ("client", "server") if done[name] < kills), None)
        client = Forked(line, folder)
        client.wait(600 if victim is None else rng.uniform(0, seconds))
        if victim == "client" and client.kill():
            done["client"] += 1
            continue
        if victim == "server" and not client.has_ended():
            server.kill()
            done["server"] += 1
            server.start()  # the client repeats its request meanwhile, and ends if that takes too long
            client.wait()
            if client.code != 0 and "attempts failed" in client.error():
                continue
        if client.code != 0:
            server.kill()
            return {**done, "ends": ends, "refused": client.error()}
        found = contents(out)
        differing |= {key for key in {**whole, **found} if whole.get(key) != found.get(key)}
        shutil.rmtree(out)
        ends += 1
        if victim is None:
            server.kill()
            return {**done, "ends": ends, "differing": sorted(differing), "seconds_of_a_run": round(seconds, 1)}


def describe(result: dict) -> str:
    """One line on what became of it."""
    verdict = result.get("refused") or (f"DIFFERS in {result['differing']}" if result["differing"] else "equal bytes")
    counts = f"{result.get('client')} kills of the client, {result.get('server')} of the server"
    return f"{'bon --engine':30} {counts}  {verdict}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="folder of a model; default: a tiny one")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--output", type=Path, default=Path("outputs/robustness/servers.json"))
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    results = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    title = "tiny" if arguments.model is None else arguments.model.name
    if title not in results:
        os.environ["HF_HUB_OFFLINE"] = "1"
        with tempfile.TemporaryDirectory() as place:
            finish(partial(make_inputs, model=arguments.model), Path(place))
            results[title] = check(Path(place), Path(place) / "model", arguments.kills, arguments.tokens)
        arguments.output.write_text(json.dumps(results, indent=1))
    print(describe(results[title]))
    sys.exit(bool(results[title].get("refused") or results[title]["differing"]))

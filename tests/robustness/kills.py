"""
Kills every command and every training at random moments, gives the same command again until it is done, and compares
what it wrote with an undisturbed run, byte by byte. Run by `make robustness`; continues where it stopped.
With several processes a random one is killed, and then the others, as by the launcher.

    python tests/robustness/kills.py [--kills N] [--processes N] [--only NAME] [--output FILE]
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from forked import Forked, ForkedRanks, contents, finish, start  # noqa: E402
from malformed_cases import METHODS, make_inputs, train_line, write  # noqa: E402

from hf_reward_ext.cli.checkpoints import find_flaw  # noqa: E402

ROWS = 24
_SAMPLING = "--model policy --data prompts.jsonl --max_new_tokens 8 --batch_size 2"
COMMANDS = {
    "generate jsonl": f"generate {_SAMPLING} --temperature 1 --output out/rows.jsonl",
    "generate arrow": f"generate {_SAMPLING} --temperature 1 --output out/rows.arrow",
    "bon": f"bon --reward_model head {_SAMPLING} --num_candidates 4 --output out/rows.jsonl",
    "bon preference": f"bon --reward_model head {_SAMPLING} --num_candidates 4 --as preference --output out/rows.arrow",
    "label-steps": "label-steps --model policy --scorer functions:length --threshold -40 --data steps.jsonl "
    "--max_new_tokens 8 --batch_size 2 --num_rollouts 3 --temperature 1 --output out/rows.jsonl",
    "judge": "judge --model judge --data pairs.jsonl --mode slow --votes 2 --batch_size 2 --output out/rows.arrow",
    "evaluate": "evaluate --scorer classifier --data pairs.jsonl --batch_size 2 --output out/a.json --rows out/r.jsonl "
    "--markdown out/t.md --plot out/p.png",
    "demo": "demo --write_data out --num_train 12 --num_test 6",
}


def training_line(method: str) -> str:
    """A training that saves after every step."""
    line = train_line(method).replace("--max_steps 1", "--max_steps 8").replace("--save_strategy no", "")
    line += " --dataset_name pairs.jsonl --save_strategy steps --save_steps 1 --save_total_limit 3 --seed 3"
    return line + " --disable_tqdm true --per_device_train_batch_size 4 --learning_rate 0.01"


TRAININGS = {f"train {method}": training_line(method) for method in METHODS}
TRAININGS["train elhsr, cache"] = f"{training_line('elhsr')} --feature_cache disk"
LINES = {**COMMANDS, **TRAININGS}
ATTEMPTS = 5  # of each kill: a run may end before it


def make_kill_inputs(folder: Path) -> None:
    """Models and rows, enough of them for several batches."""
    make_inputs(folder)
    write(folder / "prompts.jsonl", [{"prompt": f"w{n % 20 + 3} w{n % 7 + 3}"} for n in range(ROWS)])
    pairs = [{"prompt": f"w{n % 20 + 3}", "chosen": f" w{n % 9 + 3} w7", "rejected": " w8"} for n in range(ROWS)]
    write(folder / "pairs.jsonl", pairs)
    steps = [{"prompt": f"w{n % 20 + 3}", "completion": f" w{n % 9 + 3}\n\n w7"} for n in range(ROWS)]
    write(folder / "steps.jsonl", steps)


def check(name: str, folder: Path, kills: int, processes: int = 1) -> dict:
    """
    Kills a command or a training some times; each time that it ends, what it wrote is compared.

    Args:
        name (`str`): Of `COMMANDS` or `TRAININGS`.
        folder (`Path`): Inputs, see [`make_kill_inputs`]; `out` in it is written to.
        kills (`int`): Number of them.
        processes (`int`, *optional*, defaults to 1): Number of processes of the command.

    Returns:
        `dict`: Kills, ends, files that differ, and the error of a run that did not end well.
    """
    out = folder / "out"
    line = LINES[name]
    shutil.rmtree(out, ignore_errors=True)
    seconds = finish(line, folder, processes)
    whole = compared(name, out)
    shutil.rmtree(out)
    rng, done, ends, differing = random.Random(name), 0, 0, set()
    for _ in range(kills * ATTEMPTS):
        is_last = done >= kills
        forked = start(resumed(name, line, out), folder, processes)
        if not is_last and name in TRAININGS and rng.random() < 0.5:
            _kill_at_checkpoint(forked, out, rng)
        else:
            forked.wait(600 if is_last else rng.uniform(0, seconds))
        if not is_last and forked.kill(rng):
            done += 1
            continue
        if forked.code != 0:
            return {"kills": done, "ends": ends, "refused": forked.error()}
        found = compared(name, out)
        differing |= {key for key in {**whole, **found} if whole.get(key) != found.get(key)}
        shutil.rmtree(out)
        ends += 1
        if is_last:
            break
    return {"kills": done, "ends": ends, "differing": sorted(differing)}


def resumed(name: str, line: str, out: Path) -> str:
    """The same command; of a training that has a whole checkpoint, resumed."""
    has_checkpoint = name in TRAININGS and any(find_flaw(path) is None for path in out.glob("checkpoint-*"))
    return line + (" --resume_from_checkpoint last" if has_checkpoint else "")


def _kill_at_checkpoint(forked: Forked | ForkedRanks, out: Path, rng: random.Random) -> None:
    seen, number = set(out.glob("checkpoint-*")), rng.randint(1, 3)
    forked.wait(60, until=lambda: len(set(out.glob("checkpoint-*")) - seen) >= number)
    time.sleep(rng.choice([0, 0, 0.003, 0.01, 0.05]))


def compared(name: str, out: Path) -> dict[str, bytes]:
    """What must be equal: every file of a command; weights and optimizer of a training."""
    files = contents(out)
    if name not in TRAININGS:
        return files
    last = max(out.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2])).name
    return {key: data for key, data in files.items() if key in ("model.safetensors", f"{last}/model.safetensors")}


def describe(name: str, result: dict) -> str:
    """One line on what became of it."""
    verdict = result.get("refused") or (f"DIFFERS in {result['differing']}" if result["differing"] else "equal bytes")
    return f"{name:30} {result['kills']:3} kills, {result['ends']} ends  {verdict}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--processes", type=int, default=1, help="processes of each command")
    parser.add_argument("--only", default="", help="names that contain this")
    parser.add_argument("--output", type=Path, default=Path("outputs/robustness/kills.json"))
    arguments = parser.parse_args()
    results = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        finish(make_kill_inputs, Path(place))
        for name in LINES:
            title = name if arguments.processes == 1 else f"{name}, {arguments.processes} processes"
            is_alone = arguments.processes > 1 and name == "demo"  # runs in the first process, whatever their number
            if arguments.only in title and title not in results and not is_alone:
                results[title] = check(name, Path(place), arguments.kills, arguments.processes)
                arguments.output.write_text(json.dumps(results, indent=1))
            if title in results:
                print(describe(title, results[title]), flush=True)
    sys.exit(any(result.get("refused") or result["differing"] for result in results.values()))

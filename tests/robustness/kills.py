"""
Kills every command and every training at random moments, gives the same command again until it is done, and compares
what it wrote with an undisturbed run, byte by byte. Run by `make robustness`.

    python tests/robustness/kills.py [--kills N] [--only NAME]
"""

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from malformed_cases import METHODS, make_inputs, train_line, write  # noqa: E402

ROWS = 60
COMMANDS = {
    "generate jsonl": "generate --model policy --data prompts.jsonl --max_new_tokens 8 --temperature 1 --batch_size 2 "
    "--output out/rows.jsonl",
    "generate arrow": "generate --model policy --data prompts.jsonl --max_new_tokens 8 --temperature 1 --batch_size 2 "
    "--output out/rows.arrow",
    "bon": "bon --model policy --reward_model head --data prompts.jsonl --max_new_tokens 8 --num_candidates 4 "
    "--batch_size 2 --output out/rows.jsonl",
    "judge": "judge --model judge --data pairs.jsonl --mode slow --votes 2 --batch_size 2 --output out/rows.arrow",
    "evaluate": "evaluate --scorer classifier --data pairs.jsonl --batch_size 2 --output out/a.json --rows out/r.jsonl "
    "--markdown out/t.md --plot out/p.png",
    "demo": "demo --write_data out --num_train 30 --num_test 10",
}
STARTED = 3.0  # seconds before which a process is still importing


def start(line: str, folder: Path) -> subprocess.Popen:
    """The command in a process of its own."""
    words = [sys.executable, "-W", "ignore", "-m", "hf_reward_ext", *line.split()]
    return subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen) -> None:
    """Waits for a process, which must end well."""
    _, error = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"A command that was given again must end, got code {process.returncode}: {error[-800:]!r}")


def kill_command(line: str, folder: Path, kills: int, seed: int) -> int:
    """Kills a command at random moments of its work, and lets it end; returns how many kills came before the end."""
    rng, done = random.Random(seed), 0
    started = time.monotonic()
    finish(start(line, folder))
    seconds = time.monotonic() - started
    shutil.rmtree(folder / "out", ignore_errors=True)
    for _ in range(kills):
        process = start(line, folder)
        try:
            process.wait(rng.uniform(min(STARTED, seconds / 2), seconds))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            done += 1
        process.communicate()
    finish(start(line, folder))
    return done


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def check_command(name: str, line: str, folder: Path, kills: int) -> str:
    """Kills one command; returns a line on what came of it."""
    finish(start(line, folder))
    whole = contents(folder / "out")
    shutil.rmtree(folder / "out")
    done = kill_command(line, folder, kills, seed=len(name))
    found = contents(folder / "out")
    differing = sorted(key for key in {**whole, **found} if whole.get(key) != found.get(key))
    shutil.rmtree(folder / "out")
    return f"{name:16} {done:3} kills  {'equal bytes' if not differing else f'DIFFERS in {differing}'}"


def check_training(method: str, folder: Path, kills: int) -> str:
    """Kills a training at the moment that checkpoints appear, resumes with `last`, and compares the weights."""
    line = train_line(method).replace("--max_steps 1", "--max_steps 12").replace("--save_strategy no", "")
    line += " --dataset_name pairs.jsonl --save_strategy steps --save_steps 1 --disable_tqdm true --seed 3"
    out = folder / "out"
    finish(start(line, folder))
    whole = (out / "model.safetensors").read_bytes()
    shutil.rmtree(out)
    rng, done = random.Random(len(method)), 0
    for _ in range(kills):
        seen = set(out.glob("checkpoint-*"))
        resume = " --resume_from_checkpoint last" if seen else ""
        process = start(line + resume, folder)
        while process.poll() is None and set(out.glob("checkpoint-*")) <= seen:
            time.sleep(0.002)
        time.sleep(rng.choice([0, 0, 0.01, 0.05]))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            done += 1
        _, error = process.communicate()
        if process.returncode not in (0, -signal.SIGKILL):
            return f"train {method:10} {done:3} kills  REFUSED: {error[-300:]!r}"
        if process.returncode == 0:
            shutil.rmtree(out)  # from the beginning, until there are enough kills
    finish(start(line + (" --resume_from_checkpoint last" if set(out.glob("checkpoint-*")) else ""), folder))
    is_equal = (out / "model.safetensors").read_bytes() == whole
    shutil.rmtree(out)
    return f"train {method:10} {done:3} kills  {'equal weights' if is_equal else 'DIFFERS'}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--only", default="", help="names that contain this")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        inputs = Path(place)
        make_inputs(inputs)
        write(inputs / "prompts.jsonl", [{"prompt": f"w{n % 20 + 3} w{n % 7 + 3}"} for n in range(ROWS)])
        pairs = [{"prompt": f"w{n % 20 + 3}", "chosen": f" w{n % 9 + 3} w7", "rejected": " w8"} for n in range(ROWS)]
        write(inputs / "pairs.jsonl", pairs)
        for title, command in COMMANDS.items():
            if arguments.only in title:
                print(check_command(title, command, inputs, arguments.kills), flush=True)
        for name in METHODS:
            if arguments.only in f"train {name}":
                print(check_training(name, inputs, arguments.kills), flush=True)

"""
Runs a recipe: the commands that reproduce the headline table of a paper, or the same commands at toy size.

    python -m examples.recipes.run elhsr --smoke      # offline, minutes on a CPU
    python -m examples.recipes.run elhsr --dry-run    # prints the commands
    python -m examples.recipes.run elhsr              # one GPU, hours: see examples/recipes/elhsr/README.md

A recipe is `recipe.yaml`: one list of `commands`, and two sets of values for the names in them, `full` and `smoke`.
Only the first command, `data`, differs between the two. An interrupted run continues after its last finished command.
"""

import argparse
import re
import shlex
import subprocess
import sys
from pathlib import Path

import yaml

from hf_reward_ext.base.saving.atomic import replace_text

FOLDER = Path(__file__).parent
RECIPES = sorted(path.parent.name for path in FOLDER.glob("*/recipe.yaml"))
_NAME = re.compile(r"\{(\w+)\}")
_PROGRAMS = {"hf-reward-ext": [sys.executable, "-m", "hf_reward_ext"], "python": [sys.executable]}


def commands(name: str, smoke: bool, output: str) -> list[list[str]]:
    """
    Return the commands of a recipe, each as a list of words.

    Args:
        name (`str`): Recipe, one of `RECIPES`.
        smoke (`bool`): Whether to use the values of the toy size.
        output (`str`): Output folder, the value of `{out}`.

    Raises:
        ValueError: If a command has a name without a value.
    """
    recipe = yaml.safe_load((FOLDER / name / "recipe.yaml").read_text(encoding="utf-8"))
    size = "smoke" if smoke else "full"
    values = {"out": output, "recipe": f"examples/recipes/{name}"}
    for key, value in recipe[size].items():
        is_list = isinstance(value, list)
        values[key] = [_fill(str(one), values) for one in value] if is_list else _fill(str(value), values)
    lines = [recipe["data"][size], *recipe["commands"]]
    return [_words(line, values) for line in lines if line]


def _words(line: str, values: dict) -> list[str]:
    missing = set(_NAME.findall(line)) - set(values)
    if missing:
        raise ValueError(f"`{line}` must have names among {sorted(values)}, got {sorted(missing)}. Add their values.")
    words = []
    for word in shlex.split(line):
        value = values[word[1:-1]] if _NAME.fullmatch(word) else None
        words += value if isinstance(value, list) else [_fill(word, values)]
    return words


def _fill(text: str, values: dict) -> str:
    """Replace `{name}` by its value; other braces, as in JSON, stay."""
    return _NAME.sub(lambda match: str(values.get(match[1], match[0])), text)


def execute(words: list[str]) -> None:
    """
    Run a command.

    Raises:
        subprocess.CalledProcessError: If it fails.
    """
    subprocess.run([*_PROGRAMS[words[0]], *words[1:]], check=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("--smoke", action="store_true", help="toy size, offline, on the demo policy")
    parser.add_argument("--dry-run", action="store_true", help="print the commands only")
    parser.add_argument("--output", help="default: outputs/recipes/RECIPE, with -smoke at the toy size")
    args = parser.parse_args(arguments)
    output = args.output or f"outputs/recipes/{args.recipe}{'-smoke' if args.smoke else ''}"
    lines = commands(args.recipe, args.smoke, output)
    if args.dry_run:
        print("\n".join(shlex.join(words) for words in lines))
        return
    Path(output).mkdir(parents=True, exist_ok=True)
    note = Path(output) / "finished.txt"
    finished = note.read_text(encoding="utf-8").splitlines() if note.exists() else []
    for words in lines:
        line = shlex.join(words)
        print(f"{'finished:' if line in finished else '$'} {line}", flush=True)
        if line not in finished:
            execute(words)
            finished.append(line)
            replace_text(note, "".join(f"{one}\n" for one in finished))


if __name__ == "__main__":
    main()

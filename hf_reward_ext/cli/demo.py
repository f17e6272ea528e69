"""Command `hf-reward-ext demo`: a comparison of the methods on the demo policy, and data for other commands."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from hf_reward_ext.base.options import Count
from hf_reward_ext.cli.options import option
from hf_reward_ext.cli.parser import OptionParser, command_parser

SHORT = "train models on the demo policy and compare the methods"
DESCRIPTION = """\
Trains reward models of all four methods on the demo policy, compares them with their controls on held-out problems,
and writes tables, plots and a page (index.html). It takes less than 5 minutes on 2 cores. An interrupted run continues
where it stopped.
With --write_data it writes training and test rows of the policy instead, for other commands."""
EXAMPLES = ("", "--small --output outputs/small", "--write_data outputs/data")
CANDIDATES = 4
JUDGE_PAIRS = 6  # judge pairs per problem, which are computed and not sampled
SPLITS = {"train": "train.jsonl", "dev": "validation.jsonl", "test": "test.jsonl"}  # names of splits in `datasets`
_FOLDERS = ("completions", "pairs", "judge")


@dataclass
class DemoOptions:
    """Options of `demo`."""

    title: ClassVar[str] = "demo"
    output: str = option("folder for tables, plots, page and models", "outputs/demo", metavar="DIR")
    small: bool = option("quick run of less than a minute, with too few problems for conclusions", False)
    write_data: str | None = option("folder for JSON lines of the arithmetic task, instead of the demo", metavar="DIR")
    num_train: Annotated[int, Count(most=2000)] = option("number of training problems to write", 2000)
    num_test: Annotated[int, Count(most=500)] = option("number of dev and of test problems to write", 200)
    seed: Annotated[int, Count(least=0)] = option("random seed", 0)
    overwrite: bool = option("replace existing results or data with other settings or of another origin", False)

    def check(self) -> None:
        """Accept all options, which are independent."""


def parser() -> OptionParser:
    """Return the parser of the command."""
    return command_parser("demo", DemoOptions, DESCRIPTION, EXAMPLES)


def parse(arguments: Sequence[str]):
    """Parse the options, and the flags of every command."""
    return parser().parse_command(arguments)


def run(options: DemoOptions) -> dict:
    """Run the comparison, or write its data."""
    from hf_reward_ext.base.saving.atomic import check_folder

    if options.write_data:
        check_folder(options.write_data, "--write_data")
        counts = write_demo_data(
            options.write_data, options.num_train, options.num_test, options.seed, options.overwrite
        )
        for path, count in counts.items():
            print(f"{count:6} rows in {path}")
        return {"command": "demo", "files": counts}
    from hf_reward_ext.demo.tour import FULL, SMALL, run_tour

    check_folder(options.output, "--output")
    _check_results(Path(options.output) / "results.json", options.overwrite)
    found = run_tour(options.output, SMALL if options.small else FULL, options.seed, options.overwrite)
    print(f"Written to {options.output}; open {Path(options.output) / 'index.html'}.")
    methods = {
        one.method: [{"task": way.task, "way": way.name, "accuracy": way.accuracy.value} for way in one.ways]
        for one in found
    }
    return {"command": "demo", "output": options.output, "methods": methods}


def _check_results(path: Path, overwrite: bool) -> None:
    """Raise `ValueError` if the folder has results that the demo did not write."""
    if not path.exists() or overwrite:
        return
    try:
        is_own = {"methods", "versions", "num_train"} <= set(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, OSError):
        is_own = False
    if not is_own:
        raise ValueError(
            f"`--output` must be a folder without other results, but {str(path)!r} was not written by the demo. Choose "
            "another folder, or replace it with --overwrite."
        )


def write_demo_data(
    folder: str | Path, num_train: int, num_test: int, seed: int = 0, overwrite: bool = False
) -> dict[str, int]:
    """
    Sample from the demo policy, and write training data for each method.

    A killed run resumes: complete files of a split are not written again.

    Args:
        folder (`str` or `Path`): Output folder of `completions/`, `pairs/` and `judge/`, each with `train.jsonl`,
            `validation.jsonl` (for selection and calibration) and `test.jsonl`; `prompts.jsonl`, the problems of the
            test files; and `demo_data.json`, the settings.
        num_train, num_test (`int`): Number of problems; pairs are made from those with a correct and a wrong sample.
        seed (`int`): Random seed of problems and samples.
        overwrite (`bool`, *optional*, defaults to `False`): Whether to replace existing files.

    Returns:
        `dict`: Number of rows of each file.

    Raises:
        ValueError: If there are too few problems, or files with other settings.
    """
    from hf_reward_ext.base.saving.atomic import replace_text
    from hf_reward_ext.demo import arithmetic
    from hf_reward_ext.demo.elhsr import prompts_of

    folder = Path(folder)
    numbers = {split: num_train if split == "train" else num_test for split in SPLITS}
    for split, number in numbers.items():
        if number * (seed + 1) > len(arithmetic.problems(split)):
            raise ValueError(
                f"`--seed {seed}` must leave {number} problems of {len(arithmetic.problems(split))}, of which each "
                "seed takes the next ones. Lower --seed or the number of problems."
            )
    settings = {"num_train": num_train, "num_test": num_test, "seed": seed}
    note, targets = folder / "demo_data.json", [folder / "prompts.jsonl"]
    targets += [folder / part / file for part in _FOLDERS for file in SPLITS.values()]
    is_same = note.is_file() and note.read_text(encoding="utf-8") == json.dumps(settings)
    there = [path for path in targets if path.exists()]
    if there and not is_same and not overwrite:
        raise ValueError(
            f"`--write_data` must be a folder without other data, but {str(there[0])!r} is there and was not made with "
            "these settings. Choose another folder, or replace it with --overwrite."
        )
    folder.mkdir(parents=True, exist_ok=True)
    replace_text(note, json.dumps(settings))
    counts = {}
    for split, file in SPLITS.items():
        paths = {part: folder / part / file for part in _FOLDERS}
        if not (is_same and not overwrite and all(path.exists() for path in paths.values())):
            for part, rows in _sample(split, numbers[split], seed).items():
                _write(paths[part], rows)
        counts |= {str(path): _count(path) for path in paths.values()}
    _write(folder / "prompts.jsonl", ({"prompt": prompt} for prompt in prompts_of(arithmetic, "test", num_test, seed)))
    return counts | {str(folder / "prompts.jsonl"): num_test}


def _sample(split: str, count: int, seed: int) -> dict[str, list]:
    """Sample the rows of each folder."""
    import torch

    from hf_reward_ext.demo import arithmetic, judge
    from hf_reward_ext.demo.elhsr import TEMPERATURE, prompts_of
    from hf_reward_ext.demo.policy import load_policy
    from hf_reward_ext.demo.sampling import sample

    policy, tokenizer = load_policy()
    prompts = prompts_of(arithmetic, split, count, seed)
    torch.manual_seed(seed)
    rollouts = sample(policy, tokenizer, prompts, arithmetic, num_candidates=CANDIDATES, temperature=TEMPERATURE)
    completions, pairs = [], []
    for prompt, texts, correct in zip(prompts, rollouts.completions, rollouts.correct, strict=True):
        completions.append({"prompt": prompt, "completion": texts[0], "label": float(correct[0])})
        right = next((text for text, is_right in zip(texts, correct, strict=True) if is_right), None)
        wrong = next((text for text, is_right in zip(texts, correct, strict=True) if text and not is_right), None)
        if right is not None and wrong is not None:
            pairs.append({"prompt": prompt, "chosen": right, "rejected": wrong})
    return {"completions": completions, "pairs": pairs, "judge": list(judge.pairs(split, JUDGE_PAIRS * count, seed))}


def _write(path: Path, rows: Iterable[dict]) -> None:
    from hf_reward_ext.base.saving.atomic import replace_text

    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def _count(path: Path) -> int:
    with path.open("rb") as lines:
        return sum(1 for _ in lines)

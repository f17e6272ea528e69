"""Run by `accelerate launch`: commands whose rows are split over the processes, and those that resume or fail."""

import contextlib
import io
import json
import os
import sys
from pathlib import Path

from hf_reward_ext.cli.main import main


def second_fails(prompts, completions):
    """A reward function that fails in the second process."""
    if os.environ["RANK"] == "1":
        raise ValueError("`completions` must be read by the first process. Use one.")
    return [0.0] * len(completions)


def length(prompts, completions):
    """A reward function that can be checked by eye."""
    return [float(len(text)) for text in completions]


def command_lines(folder: Path) -> dict[str, list[str]]:
    """Command lines without the output file, by name; the last batch of each is not full."""
    common = ["--batch_size", "2", "--max_new_tokens", "4"]
    prompts = ["--data", f"{folder}/prompts.jsonl", "--temperature", "1", *common]
    bon = ["bon", "--reward_model", f"{folder}/head", "--num_candidates", "3", *prompts]
    return {
        "generate": ["generate", "--model", f"{folder}/policy", "--num_return_sequences", "2", *prompts],
        "bon": bon,
        "preference": [*bon, "--as", "preference"],
        "sft": [*bon, "--as", "sft", "--candidates_per_batch", "auto"],
        "label-steps": ["label-steps", "--model", f"{folder}/policy", "--scorer", "split_commands:length",
                        "--threshold", "14", "--num_rollouts", "3", "--temperature", "1",
                        "--data", f"{folder}/steps.jsonl", *common],
        "judge": ["judge", "--model", f"{folder}/policy", "--verdicts", "w20", "w21", "--mode", "slow",
                  "--data", f"{folder}/pairs/test.jsonl", *common],
    }  # fmt: skip


def run(arguments: list[str]) -> dict:
    """Exit code and what was printed."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(arguments)
        except SystemExit as ended:
            code = ended.code
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}


if __name__ == "__main__":
    place = Path(sys.argv[1])
    lines = command_lines(place)
    done = {name: run([*line, "--output", f"{place}/{name}.jsonl"]) for name, line in lines.items()}
    done["printed"] = run([*lines["generate"], "--json"])
    evaluation = ["evaluate", "--scorer", f"{place}/head", "--data", f"{place}/pairs", "--batch_size", "5"]
    done["evaluate"] = run([*evaluation, "--output", f"{place}/evaluation.json", "--json"])
    done["again"] = run([*evaluation, "--output", f"{place}/evaluation.json"])
    broken = ["evaluate", "--scorer", "split_commands:second_fails", "--data", f"{place}/pairs"]
    done["failed"] = run(broken)
    done["resumed"] = run([*lines["generate"], "--output", f"{place}/resumed.jsonl"])
    (place / f"rank-{os.environ['RANK']}.json").write_text(json.dumps(done))
    os._exit(0)  # torch's threads abort one exit in thirty, when all is written

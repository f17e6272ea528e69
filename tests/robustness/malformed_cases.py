"""
Malformed input of every command, as command lines: training data, rows, options, checkpoints.

Each case should be refused. Options are read off the dataclasses, so that a new one is tried without being listed.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

import torch
from malformed_rows import BAD
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tiny import tiny_causal_lm, tiny_tokenizer
from tiny_judges import TEMPLATE, VERDICTS
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from hf_reward_ext import ELHSRModel, FastSlowRewardModel
from hf_reward_ext.base.options import Count, Number
from hf_reward_ext.cli import bon, evaluate, generate, judge, serve
from hf_reward_ext.sla import RewardTransformer

PAIR = {"prompt": "w3 w5", "chosen": " w6 w7", "rejected": " w8"}
FUNCTIONS = """
def length(prompts, completions):
    return [-len(text) for text in completions]
def one(completion):
    return 1
def both(prompt, completion):
    return True
text = "no function"
"""


@dataclass(frozen=True)
class Case:
    """
    A command line that should be refused.

    Args:
        group (`str`): Kind of the input that is malformed.
        name (`str`): Name of the case.
        arguments (`list[str]`): The command line.
        prepare (`callable`, *optional*): Makes the input; called before, with the folder of the case.
    """

    group: str
    name: str
    arguments: tuple[str, ...]
    prepare: Callable[[Path], None] | None = None


def make_inputs(folder: Path) -> None:
    """Models, rows and functions that are all right."""
    tiny_causal_lm().save_pretrained(folder / "policy")
    tiny_tokenizer().save_pretrained(folder / "policy")
    policy = AutoModelForCausalLM.from_pretrained(folder / "policy")
    ELHSRModel.from_policy(policy).save_pretrained(folder / "head")
    RewardTransformer.from_base(policy, channel_size=8).save_pretrained(folder / "channel")
    config = AutoConfig.from_pretrained(folder / "policy", num_labels=1)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder / "classifier")
    FastSlowRewardModel(policy, tiny_tokenizer(), VERDICTS, template=TEMPLATE, max_new_tokens=8).save_pretrained(
        folder / "judge"
    )
    lora = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=2, init_lora_weights=False)
    get_peft_model(policy, lora).save_pretrained(folder / "adapter")
    for name in ("channel", "classifier", "judge", "adapter"):
        tiny_tokenizer().save_pretrained(folder / name)
    write(folder / "prompts.jsonl", [{"prompt": f"w{n} w5"} for n in range(3)])
    write(folder / "pairs.jsonl", [{**PAIR, "prompt": f"w{n} w5"} for n in range(3)])
    (folder / "functions.py").write_text(FUNCTIONS)
    (folder / "template.json").write_text(json.dumps(TEMPLATE.to_dict()))


def write(path: Path, rows: list) -> None:
    """Rows as JSON lines; text as it is."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_bytes("".join(line + "\n" for line in lines).encode("utf-8", "surrogatepass"))


LINES = {
    "generate": "generate --model policy --data prompts.jsonl --max_new_tokens 2",
    "bon": "bon --model policy --reward_model functions:length --data prompts.jsonl --max_new_tokens 2 "
    "--num_candidates 2",
    "judge": f"judge --model policy --verdicts {' '.join(VERDICTS)} --mode fast --data pairs.jsonl",
    "evaluate": "evaluate --scorer functions:length --data pairs.jsonl",
}
OPTIONS = {
    "generate": generate.GenerateOptions,
    "bon": bon.BonOptions,
    "judge": judge.JudgeOptions,
    "evaluate": evaluate.EvaluateOptions,
}


SERVE = "serve --scorer functions:length --port 0"


def replaced(line: str, **values: str) -> tuple[str, ...]:
    """A command line with other values of some options."""
    words = line.split()
    for option, value in values.items():
        if f"--{option}" in words:
            words[words.index(f"--{option}") + 1] = value
        else:
            words += [f"--{option}", value]
    return tuple(words)


METHODS = ("genarm", "sla", "fast-slow", "elhsr")
_OWN = {
    "sla": "--channel_size 8",
    "fast-slow": f"--verdicts {' '.join(VERDICTS)} --judge_template template.json",
    "elhsr": "--validation_fraction 0 --load_best_model_at_end false --eval_strategy no",
}


def train_line(method: str) -> str:
    """A training that is all right but for its data."""
    common = "--model_name_or_path policy --output_dir out --max_steps 1 --report_to none --save_strategy no"
    return f"train {method} {common} {_OWN.get(method, '')}"


def training_rows() -> Iterator[Case]:
    """Rows of the four trainers, as the first or a later row, for training or evaluation."""
    for method in METHODS:
        for name, (row, _) in BAD.items():
            if name == "bytes":  # JSON has none
                continue
            good = {"prompt_ids": [3], "chosen_ids": [5], "rejected_ids": [6]} if "ids" in str(list(row)) else PAIR
            for place in (0, 2):
                rows = [good] * 2
                rows.insert(place, row)

                def prepare(folder: Path, rows=rows) -> None:
                    write(folder / "bad.jsonl", rows)

                line = train_line(method)
                yield Case(
                    "training rows",
                    f"{method}: {name}, row {place}",
                    (*line.split(), "--dataset_name", "bad.jsonl"),
                    prepare,
                )
                if place == 2:
                    more = (
                        "--dataset_name",
                        "pairs.jsonl",
                        "--eval_dataset_name",
                        "bad.jsonl",
                        "--eval_strategy",
                        "steps",
                    )
                    yield Case("training rows", f"{method}: {name}, evaluation", (*line.split(), *more), prepare)


VALUES = {"None": None, "number": 3, "empty": "", "list": [], "object": {}, "list of text": ["w3"], "true": True}
TEXTS = {
    "no JSON": ['{"prompt": '],
    "a list": ["[1, 2]"],
    "no rows": [],
    "a blank line": [""],
    "a surrogate": ['{"prompt": "\\ud800", "chosen": "w3", "rejected": "w4"}'],
    "not text": ["\x00\x01"],
    "other columns": ['{"question": "w3"}'],
}


def command_rows() -> Iterator[Case]:
    """Rows of the commands that do not train."""
    columns = {"generate": ["prompt"], "bon": ["prompt"], "judge": list(PAIR), "evaluate": list(PAIR)}
    for command, line in LINES.items():
        for column in columns[command]:
            for name, value in VALUES.items():
                for place in (0, 2):
                    rows: list = [PAIR] * 2
                    rows.insert(place, {**PAIR, column: value})

                    def prepare(folder: Path, rows=rows) -> None:
                        write(folder / "bad.jsonl", rows)

                    yield Case(
                        "rows", f"{command}: {column} {name}, row {place}", replaced(line, data="bad.jsonl"), prepare
                    )
            if command != "evaluate":
                rows = [PAIR, {key: value for key, value in PAIR.items() if key != column}]

                def prepare(folder: Path, rows=rows) -> None:
                    write(folder / "bad.jsonl", rows)

                yield Case("rows", f"{command}: no {column}", replaced(line, data="bad.jsonl"), prepare)
        for name, lines in TEXTS.items():

            def prepare(folder: Path, lines=lines) -> None:
                write(folder / "bad.jsonl", lines)

            yield Case("rows", f"{command}: {name}", replaced(line, data="bad.jsonl"), prepare)
        for name in ("missing.jsonl", "policy/config.txt", "functions.py", "no/such/folder", "./missing"):
            yield Case("rows", f"{command}: --data {name}", replaced(line, data=name))


def options() -> Iterator[Case]:
    """Every declared option of every command, out of its range, on the command line and in a file."""
    for command, kind in OPTIONS.items():
        names = {field.name: field.metadata.get("option", field.name) for field in fields(kind)}
        for name, hint in get_type_hints(kind, include_extras=True).items():
            if name not in names:
                continue
            for value in _wrong_values(hint):
                line = LINES[command]
                words = replaced(line, **{names[name]: value})
                yield Case("options", f"{command}: --{names[name]} {value}", words)

                def prepare(folder: Path, name=names[name], value=value) -> None:
                    (folder / "x.yaml").write_text(f"{name}: {value}\n")

                rest = _without(line.split(), names[name])
                yield Case("options", f"{command}: {names[name]}: {value}", (*rest, "--config", "x.yaml"), prepare)
        for words in ("--no_such_option 3", "--seed", "--config missing.yaml", "--config policy", "stray"):
            yield Case("options", f"{command}: {words}", (*LINES[command].split(), *words.split()))
        for name, text in FILES.items():

            def prepare(folder: Path, text=text) -> None:
                (folder / "x.yaml").write_bytes(text)

            yield Case(
                "options", f"{command}: a file that is {name}", (*LINES[command].split(), "--config", "x.yaml"), prepare
            )
        data = LINES[command].split()[LINES[command].split().index("--data") + 1]
        for name in (
            "policy",
            data,
            f"./policy/../{data}",
            "functions.py/x.jsonl",
            *(["x.txt"] if command != "evaluate" else []),
        ):
            yield Case(
                "options",
                f"{command}: --output {name}",
                (*LINES[command].split(), "--output", name, "--overwrite"),
            )
    for option, value in FUNCTION_OPTIONS:
        line = "evaluate --scorer functions:length --data pairs.jsonl" if option == "scorer" else LINES["bon"]
        yield Case("options", f"--{option} {value}", replaced(line, **{option: value}))


def served() -> Iterator[Case]:
    """Every declared option of `serve` out of its range, and rewards and addresses that cannot be served."""
    for name, hint in get_type_hints(serve.ServeOptions, include_extras=True).items():
        for value in _wrong_values(hint):
            yield Case("options", f"serve: --{name} {value}", replaced(SERVE, **{name: value}))
    for option, values in SERVED.items():
        for value in values:
            yield Case("options", f"serve: --{option} {value}", replaced(SERVE, **{option: value}))
    for words in ("--no_such_option 3", "--port", "--config missing.yaml", "stray", "--data pairs.jsonl"):
        yield Case("options", f"serve: {words}", (*SERVE.split(), *words.split()))


SERVED = {
    "scorer": ("functions:none", "functions:text", "nowhere:f", "functions", "missing", "confidence", "policy/x"),
    "host": ("0.0.0.0", "::", "nowhere.invalid", "localhost:80", "http://127.0.0.1"),
    "max_waiting_rows": ("1",),
}
FILES = {
    "a list": b"[1]",
    "no YAML": b"a: [",
    "binary": b"\x00\xff",
    "empty": b"",
    "Latin": b"prompt: [\xfc]",
    "a number": b"3",
}
FUNCTION_OPTIONS = [
    (option, value)
    for option in ("reward_model", "second_reward_model", "label", "scorer")
    for value in (
        "functions:none",
        "functions:text",
        "nowhere:f",
        "functions",
        "shortest",
        "os:getcwd",
        "functions:one",
    )
    if (option, value) != ("label", "functions:both")
]


def _wrong_values(hint) -> list[str]:
    marks = hint.__metadata__ if get_origin(hint) is Annotated else ()
    for mark in marks:
        if isinstance(mark, Count):
            wrong = [".nan", "2.5", "x", str(mark.least - 1), "-7", "1e3"]
            return [*wrong, *([str(mark.most + 1)] if mark.most else [])]
        if isinstance(mark, Number):
            bounds = {"above": 0.0, "least": -1e-9, "below": 0.0, "most": 1e-9}
            limits = [getattr(mark, name) + shift for name, shift in bounds.items()]
            return [".nan", ".inf", "-.inf", "x", *(repr(limit) for limit in limits if abs(limit) < 1e300)]
    if any(get_origin(part) is Literal for part in [hint, *get_args(hint)]):
        return ["nothing", "''"]
    if hint is bool or bool in get_args(hint):
        return ["maybe", "7"]
    return []


def _without(words: list[str], option: str) -> list[str]:
    if f"--{option}" not in words:
        return words
    index = words.index(f"--{option}")
    return words[:index] + words[index + 2 :]


USES = {
    "policy": "generate --model {} --prompt w3 --max_new_tokens 2",
    "head": "bon --model policy --reward_model {} --prompt w3 --max_new_tokens 2 --num_candidates 2",
    "channel": "evaluate --scorer {} --data pairs.jsonl",
    "classifier": "evaluate --scorer {} --data pairs.jsonl",
    "judge": "judge --model {} --data pairs.jsonl --mode fast",
    "adapter": "generate --guide {} --prompt w3 --max_new_tokens 2",
}
DAMAGES = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "HTML": lambda path: path.write_text("<!DOCTYPE html><html>404</html>"),
    "an LFS pointer": lambda path: path.write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    ),
    "binary": lambda path: path.write_bytes(b"\x80\x02}q\x00."),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


def _change_weights(change: Callable[[dict], None]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        weights = load_file(path)
        change(weights)
        save_file(weights, path, metadata={"format": "pt"})

    return damage


def _first(weights: dict) -> str:
    return sorted(weights)[0]


WEIGHTS = {
    "NaN": _change_weights(lambda weights: weights[_first(weights)].fill_(torch.nan)),
    "infinite": _change_weights(lambda weights: weights[_first(weights)].fill_(torch.inf)),
    "lacking one": _change_weights(lambda weights: weights.pop(_first(weights))),
    "misshapen": _change_weights(lambda weights: weights.update({_first(weights): torch.zeros(3, 5)})),
    "none": _change_weights(lambda weights: weights.clear()),
}
CONFIGS = {
    "a list": "[1]",
    "empty": "{}",
    "of an unknown type": '{"model_type": "nothing"}',
    "of another model": '{"model_type": "bert", "architectures": ["BertModel"]}',
}


def checkpoints() -> Iterator[Case]:
    """Broken files of every kind of model."""
    for kind, use in USES.items():
        weights = "adapter_model.safetensors" if kind == "adapter" else "model.safetensors"
        config = "adapter_config.json" if kind == "adapter" else "config.json"
        damages = [(weights, name, damage) for name, damage in {**DAMAGES, **WEIGHTS}.items()]
        damages += [(config, name, damage) for name, damage in DAMAGES.items()]
        damages += [(config, name, lambda path, text=text: path.write_text(text)) for name, text in CONFIGS.items()]
        if kind == "policy":
            damages += [("tokenizer.json", name, damage) for name, damage in DAMAGES.items() if name != "missing"]
        for file, name, damage in damages:

            def prepare(folder: Path, kind=kind, file=file, damage=damage) -> None:
                shutil.rmtree(folder / "broken", ignore_errors=True)
                shutil.copytree(folder / kind, folder / "broken")
                if damage is not DAMAGES["missing"] or (folder / "broken" / file).exists():
                    damage(folder / "broken" / file)

            yield Case("checkpoints", f"{kind}: {file} is {name}", tuple(use.format("broken").split()), prepare)


def all_cases() -> list[Case]:
    """Every case, in an order that does not change."""
    return [*training_rows(), *command_rows(), *options(), *served(), *checkpoints()]

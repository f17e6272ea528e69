"""What commands write: checks of output files, settings that results depend on, and delivery of results."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from huggingface_hub import get_token, is_offline_mode

from hf_reward_ext.base.saving.atomic import check_target
from hf_reward_ext.base.saving.fingerprint import model_files
from hf_reward_ext.base.saving.json_values import digest
from hf_reward_ext.best_of_n.writer import ResumableWriter
from hf_reward_ext.cli.functions import fingerprint_function
from hf_reward_ext.cli.models import check_name, fingerprint
from hf_reward_ext.cli.options import OutputOptions, is_function, is_training_free, is_url
from hf_reward_ext.cli.processes import own_rank
from hf_reward_ext.cli.rows import load_rows
from hf_reward_ext.cli.tracking import check_trackers, track


def check_outputs(options: Any, *names: str) -> None:
    """
    Reject trackers that are not installed, uploads that cannot be made, and files that cannot be written or are inputs.

    Args:
        options: Options of a command.
        *names (`str`): Names of options for output files.

    Raises:
        ValueError: If an output is an input, or in a folder of inputs, two outputs are the same, a tracker of
            `--report_to` is not installed, or `--push_to_hub` is given offline or without a token.
        OSError: If a folder cannot be written to.
    """
    check_trackers(options.report_to)
    check_hub(getattr(options, "push_to_hub", None))
    inputs = [getattr(options, field.name) for field in fields(options) if field.metadata.get("kind") in _READ]
    paths: dict[Path, str] = {}
    for name in names:
        path = getattr(options, name)
        if path is None:
            continue
        check_target(path, f"--{name}")
        for given in inputs:
            for source in given if isinstance(given, list) else [given]:
                if source is not None and _is_read(Path(path), str(source)):
                    raise ValueError(
                        f"`--{name}` must be another file than the inputs, got {path!r}, which belongs to "
                        f"{source!r}. Choose another name or folder."
                    )
        resolved = Path(path).resolve()
        if resolved in paths:
            raise ValueError(f"`--{name}` and `--{paths[resolved]}` must be two files, got {path!r} for both.")
        paths[resolved] = name


def check_hub(name: str | None) -> None:
    """
    Reject an upload that cannot be made.

    Args:
        name (`str`, *optional*): Repository.

    Raises:
        ValueError: If the Hub is offline by the environment, or there is no token.
    """
    if name is None:
        return
    if is_offline_mode():
        raise ValueError(
            f"`--push_to_hub` must come without HF_HUB_OFFLINE, got {name!r} offline. Unset it, or leave this out."
        )
    if get_token() is None:
        raise ValueError(
            f"`--push_to_hub` must come with a token of the Hub, got {name!r} without one. Run `hf auth login`, set "
            "HF_TOKEN, or leave the option out."
        )


_READ = ("input", "model", "scorer", "rows")


def _is_read(path: Path, source: str) -> bool:
    """Return whether a file is an input, in a folder of data, or part of a model."""
    read = Path(source)
    if read.is_file():
        return path.exists() and os.path.samefile(path, read) or path.resolve() == read.resolve()
    if not read.is_dir() or read.resolve() not in path.resolve().parents:
        return False
    is_model = any((read / name).is_file() for name in ("config.json", "adapter_config.json"))
    reserved = [*(file.name for file in model_files(read)), "README.md"]
    return path.resolve().parent == read.resolve() and path.name in reserved if is_model else True


def settings_of(options: Any) -> dict[str, Any]:
    """
    Return the settings that results depend on: options, models by content, functions by source.

    Args:
        options: Options of a command, whose fields have a `kind`.
    """
    settings = {}
    for field in fields(options):
        value, kind = getattr(options, field.name), field.metadata.get("kind")
        if kind in ("input", "output"):
            continue
        if value is None or kind is None or (kind == "scorer" and (is_training_free(value) or is_url(value))):
            settings[field.name] = value
        elif kind == "engine":
            given = fingerprint_function(value) if is_function(value) else value
            settings[field.name] = "server" if is_url(value) else given
        elif kind == "rows":
            settings[field.name] = digest(load_rows(value).to_list())
        elif kind == "function" or (kind == "scorer" and is_function(value)):
            settings[field.name] = fingerprint_function(value)
        else:
            revision = options.revision if field.metadata.get("revision") else None
            names = value if isinstance(value, list) else [value]
            for name in names:
                check_name(name, f"--{field.name}", functions=kind == "scorer")
            settings[field.name] = [fingerprint(name, revision) for name in names]
    return settings


@contextmanager
def open_output(options: OutputOptions) -> Iterator[ResumableWriter | None]:
    """
    Open and lock the file of `--output`; yields `None` without one.

    Raises:
        ValueError: If it exists and has other settings, or does not end with `.jsonl` or `.arrow`.
        RuntimeError: If another process writes the file.
    """
    settings = settings_of(options)  # rejects wrong names even if there is no file
    if options.output is None or own_rank() != 0:  # the first process writes what all of them compute
        yield None
        return
    with ResumableWriter(options.output, settings, overwrite=options.overwrite) as writer:
        yield writer


def deliver(command: str, options: OutputOptions, results: Sequence[dict], summary: dict[str, Any]) -> dict:
    """
    Write the page of `--html`, upload to `--push_to_hub`, log to `--report_to`, and return the output of `--json`.

    Args:
        command (`str`): Name of the command.
        options ([`OutputOptions`]): Options of the command.
        results (`list[dict]`): Rows of the command.
        summary (`dict`): Numbers of the command.

    Returns:
        `dict`: The numbers, and the rows unless they are in a file.
    """
    if options.html is not None:
        from hf_reward_ext.viz import write_html

        print(f"{write_html(options.html, results)} rows in {options.html}")
    if options.push_to_hub is not None:
        from hf_reward_ext.hub import push_rows

        name, settings = options.push_to_hub, {"command": f"hf-reward-ext {command}", **shown_settings(options)}
        push_rows(results, name, title=name.split("/")[-1], settings=settings)
        print(f"Uploaded to https://huggingface.co/datasets/{name}")
    track(options.report_to, command, shown_settings(options), summary, results)
    shown = {"output": options.output} if options.output else {"rows": list(results)}
    return {"command": command, **summary, **shown}


def shown_settings(options: Any) -> dict[str, Any]:
    """Return the options that were given and that results depend on, without the folders of local files."""
    shown = {}
    for field in fields(options):
        value = getattr(options, field.name)
        if field.metadata.get("kind") != "output" and value != field.default:
            shown[field.name] = Path(value).name if isinstance(value, str) and Path(value).exists() else value
    return shown

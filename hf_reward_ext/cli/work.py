"""Loop of all commands that read rows: in batches, resumable, with a progress bar."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

from transformers import set_seed
from transformers.utils.logging import tqdm

from hf_reward_ext.base.preference.validation import naming_row, read_prompt
from hf_reward_ext.base.saving.atomic import check_target
from hf_reward_ext.base.saving.fingerprint import model_files
from hf_reward_ext.base.saving.json_values import digest
from hf_reward_ext.best_of_n.writer import ResumableWriter, read_back
from hf_reward_ext.cli.models import check_name, fingerprint, fingerprint_function
from hf_reward_ext.cli.options import DataOptions, OutputOptions, PromptOptions, is_function, is_training_free, is_url
from hf_reward_ext.cli.processes import count_processes, own_rank
from hf_reward_ext.cli.rows import load_rows
from hf_reward_ext.cli.tracking import check_trackers, track

logger = logging.getLogger(__name__)
Batch = Callable[[list[dict]], list[dict]]


def read_data(options: DataOptions, *needed: tuple[str, ...]) -> Any:
    """Load the rows of `--data`, with the columns of one of the tuples."""
    rows = load_rows(cast(str, options.data), options.split, options.data_config, *needed)
    return rows.select(range(min(options.max_rows, len(rows)))) if options.max_rows else rows


def read_prompts(options: Any) -> list[dict]:
    """
    Read rows with `prompt`, all text or all messages.

    Args:
        options ([`PromptOptions`] and [`DataOptions`]): Source of the prompts.

    Raises:
        ValueError: If a row has none; the message names row and column.
    """
    prompts, column = options.prompt, "--prompt"
    if prompts is None:
        column = options.prompt_column
        prompts = read_data(options, (column,))[column]
    read = []
    for number, prompt in enumerate(prompts):
        with naming_row(number, "prompt"):
            read.append(read_prompt(prompt, column))
    kinds = {isinstance(prompt, str) for prompt in read}
    if len(kinds) > 1:
        forms = [isinstance(prompt, str) for prompt in read]
        raise ValueError(
            f"Row {forms.index(not forms[0])} of the prompt data: `{column}` must have the form of row 0, got text and "
            "messages. Write all in one form."
        )
    if options.chat and True in kinds:
        read = [[{"role": "user", "content": prompt}] for prompt in read]
    if options.system is not None:
        read = [_with_system(prompt, number, options.system) for number, prompt in enumerate(read)]
    return [{"prompt": prompt} for prompt in read]


def _with_system(prompt: str | list, number: int, system: str) -> list:
    """Return the messages of a prompt after a system message."""
    if isinstance(prompt, str) or prompt[0]["role"] == "system":
        found = "text" if isinstance(prompt, str) else "a chat that begins with one"
        raise ValueError(
            f"Row {number} of the prompt data: `--system` must go before a chat without a system message, got {found}. "
            "Add --chat for text, or leave --system out."
        )
    return [{"role": "system", "content": system}, *prompt]


def note_form(prompts: Sequence, tokenizer: Any, options: PromptOptions) -> None:
    """Log a note about whether prompts go through the tokenizer's chat template."""
    if tokenizer.chat_template is None:
        return
    if not isinstance(prompts[0], str):
        logger.info("Prompts go through the tokenizer's chat template.")
    elif options.chat is None:
        logger.warning(
            "Prompts are sent as plain text, although the tokenizer has a chat template: --chat sends them as a user's "
            "message, --no_chat hides this line."
        )


def check_room(lengths: Iterable[int], limit: int | None, max_new_tokens: int) -> None:
    """
    Reject prompts that leave no room for a completion, before any forward.

    Args:
        lengths (iterable of `int`): Number of tokens of each prompt.
        limit (`int`, *optional*): Maximum number of tokens of the model; `None` without a limit.
        max_new_tokens (`int`): Number of tokens of a completion.

    Raises:
        ValueError: For the first prompt that is too long; the message names the row.
    """
    for number, length in enumerate(lengths if limit is not None else ()):
        if length + max_new_tokens > cast(int, limit):
            raise ValueError(
                f"Row {number} of the prompt data: the prompt must leave room for `--max_new_tokens {max_new_tokens}` "
                f"in a context of {limit} tokens, got {length} tokens. Shorten it, or lower --max_new_tokens."
            )


def check_outputs(options: Any, *names: str) -> None:
    """
    Reject trackers that are not installed, and output files that cannot be written, or that are also inputs.

    Args:
        options: Options of a command.
        *names (`str`): Names of options for output files.

    Raises:
        ValueError: If an output is an input, or in a folder of inputs, two outputs are the same, or a tracker of
            `--report_to` is not installed.
        OSError: If a folder cannot be written to.
    """
    check_trackers(options.report_to)
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


def work_through(
    rows: Sequence[dict],
    prepare: Callable[[], Batch],
    options: OutputOptions,
    writer: ResumableWriter | None,
    what: str,
) -> Iterable[dict]:
    """
    Process all rows in batches, each with its own seed, so that a resumed run gives the same results.

    Args:
        rows (`list[dict]`): Input rows.
        prepare (`callable`): Function that loads models, if any row is left, and returns a function of a batch.
        options: Options with `batch_size`, and an optional `seed`.
        writer ([`ResumableWriter`], *optional*): Writer of the results, with a part for each batch.
        what (`str`): Description for the progress bar.

    Several processes compute a batch each at a time; the first one writes the batches in order. The others end here.

    Returns:
        Results, from the finished file if there is one.
    """
    if count_processes() > 1:
        return _work_in_processes(rows, prepare, options, writer, what)
    results: list[dict] = []
    do: Batch | None = None
    bar = None
    with ExitStack() as stack:  # closes the bar before an error is printed
        for number, start in enumerate(range(0, len(rows), options.batch_size)):
            batch = list(rows[start : start + options.batch_size])
            if writer and writer.has(number, batch):
                continue
            do = do or prepare()
            bar = bar or stack.enter_context(tqdm(total=len(rows), initial=start, desc=what, disable=len(rows) == 1))
            set_seed((getattr(options, "seed", 0) + start) % 2**32)
            done = do(batch)
            results += done if not writer else []
            if writer:
                writer.write(number, batch, done)
            bar.update(len(batch))
    return read_back(writer.finish()) if writer else results


def _work_in_processes(
    rows: Sequence[dict],
    prepare: Callable[[], Batch],
    options: OutputOptions,
    writer: ResumableWriter | None,
    what: str,
) -> Iterable[dict]:
    """Process the batches as [`work_through`] in several processes, with the same results."""
    from hf_reward_ext.cli.ranks import join_processes, share, work_in_rounds

    join_processes()
    is_first = own_rank() == 0
    size = options.batch_size
    batches = [list(rows[start : start + size]) for start in range(0, len(rows), size)]

    def is_missing(number: int) -> bool:
        return writer is None or not writer.has(number, batches[number])

    do: Batch | None = None

    def work(number: int) -> list[dict]:
        nonlocal do
        do = do or prepare()
        set_seed((getattr(options, "seed", 0) + number * size) % 2**32)
        return do(batches[number])

    missing = share([number for number in range(len(batches)) if is_missing(number)] if is_first else None)
    results: list[dict] = []
    asked = 0
    done_before = len(rows) - sum(len(batches[number]) for number in missing)
    with tqdm(total=len(rows), initial=done_before, desc=what, disable=not is_first or len(rows) == 1) as bar:
        for number, done in work_in_rounds(missing, work):
            if writer:
                for earlier in range(asked, number):  # parts are asked for in their order
                    writer.has(earlier, batches[earlier])
                writer.write(number, batches[number], done)
                asked = number + 1
            results += done if not writer else []
            bar.update(len(batches[number]))
    if not is_first:
        raise SystemExit(0)
    if writer is None:
        return results
    for number in range(asked, len(batches)):
        writer.has(number, batches[number])
    return read_back(writer.finish())


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

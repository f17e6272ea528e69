"""Options shared by several commands, as dataclasses without heavy imports."""

import json
import re
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from hf_reward_ext.base.options import SEED, Count, Number

_REPOSITORY = re.compile(r"([\w.-]+/)?[\w.-]+", re.ASCII)


def option(help: str, default: Any = None, **metadata: Any) -> Any:
    """
    Return a dataclass field for an option.

    Args:
        help (`str`): Description in the help.
        default (*optional*): Default value.
        **metadata: Arguments of `argparse` (`metavar`); `option`, another name of the option; and `kind`, its meaning
            for results: `"input"` (rows or their source), `"output"` (an output), `"model"`, `"scorer"` (a model or
            function), `"function"`, `"rows"` (other data that results depend on), or `"engine"` (a server may move);
            and `needs`, the option without which it has no effect, or `"option=value"`.
    """
    return field(default=default, metadata={"help": help, **metadata})


@dataclass
class LoadingOptions:
    """Loading of models."""

    title: ClassVar[str] = "loading"
    revision: str | None = option("branch, tag or commit of the model", metavar="NAME")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option("type of the weights; default: as saved", "auto")
    device: str | None = option(
        "cpu, cuda:0, ... or auto to distribute the model; default: the first GPU", metavar="NAME", kind="output"
    )
    trust_remote_code: bool = option("run custom code of the model", False)


@dataclass
class DataOptions:
    """Source of rows."""

    title: ClassVar[str] = "data"
    data: str | None = option(
        "rows: a json, jsonl, csv, parquet or arrow file, a folder, or a name on the Hub", metavar="NAME", kind="input"
    )
    data_config: str | None = option(
        "configuration of a dataset on the Hub", metavar="NAME", kind="input", needs="data"
    )
    split: str | None = option(
        "name of the split; default: the only one, or test", metavar="NAME", kind="input", needs="data"
    )
    max_rows: Annotated[int | None, Count()] = option(
        "number of rows to use, from the first", kind="input", needs="data"
    )


@dataclass
class PromptOptions:
    """Prompts on the command line or in rows."""

    title: ClassVar[str] = "prompts"
    prompt: list[str] | None = option("prompts, instead of --data", metavar="TEXT", kind="input")
    prompt_column: str = option(
        "column of prompts, text or messages", "prompt", metavar="NAME", kind="input", needs="data"
    )
    chat: bool | None = option(
        "send text prompts as a user message, through the chat template; default: text is not changed",
        kind="input",
    )
    system: str | None = option(
        "system message of every prompt, with --chat or prompts that are messages", metavar="TEXT", kind="input"
    )
    chat_template_kwargs: list[str] | None = option(
        "variables of the chat template, such as enable_thinking=false", metavar="NAME=VALUE"
    )

    def check_prompts(self, data: str | None) -> None:
        """Raise `ValueError` unless prompts are given in exactly one way, and variables of a template have values."""
        if bool(self.prompt) == bool(data):
            raise ValueError("prompts are required once: give either --prompt or --data")
        if self.system is not None and (self.chat is False or (self.prompt and not self.chat)):
            raise ValueError("--system goes with chats; add --chat, or give rows of messages")
        self.template_variables()

    def template_variables(self) -> dict[str, Any]:
        """Return the variables of `--chat_template_kwargs`; values are JSON, or else text."""
        variables: dict[str, Any] = {}
        for given in self.chat_template_kwargs or ():
            name, equals, value = given.partition("=")
            if not equals or not name.isidentifier() or name in variables:
                raise ValueError(f"--chat_template_kwargs must be different NAME=VALUE, got {given!r}")
            variables[name] = _json_or_text(value)
            if not isinstance(variables[name], str | int | float):
                raise ValueError(f"--chat_template_kwargs must be text, numbers, true or false, got {given!r}")
        return variables


@dataclass
class SamplingOptions:
    """Sampling of tokens; the defaults are those of the model's generation config."""

    title: ClassVar[str] = "sampling"
    max_new_tokens: Annotated[int, Count()] = option("maximum number of tokens of a completion", 256)
    temperature: Annotated[float | None, Number(least=0)] = option("temperature; 0 for greedy decoding")
    top_p: Annotated[float | None, Number(above=0, most=1)] = option("probability mass of the tokens to sample from")
    top_k: Annotated[int | None, Count(least=0)] = option("number of most probable tokens to sample from; 0 for all")
    seed: Annotated[int, SEED] = option("random seed", 0)

    def generation_settings(self) -> dict[str, Any]:
        """Return the keyword arguments of `generate`."""
        settings: dict[str, Any] = {"max_new_tokens": self.max_new_tokens}
        if self.temperature is not None:
            settings["do_sample"] = self.temperature > 0
            if self.temperature > 0:
                settings["temperature"] = self.temperature
        for name in ("top_p", "top_k"):
            if getattr(self, name) is not None:
                settings[name] = getattr(self, name)
        return settings


@dataclass
class OutputOptions:
    """Output of rows."""

    title: ClassVar[str] = "output"
    output: str | None = option(
        "*.jsonl or *.arrow file of the rows; an interrupted run resumes", metavar="FILE", kind="output"
    )
    overwrite: bool = option(
        "replace an existing file once the new one is complete", False, kind="output", needs="output"
    )
    html: str | None = option("page of the rows, for a browser without a network", metavar="FILE", kind="output")
    push_to_hub: str | None = option(
        "dataset on the Hub to which the rows of --output are uploaded, with a card",
        metavar="OWNER/NAME",
        kind="output",
    )
    report_to: list[str] | None = option(
        "installed experiment trackers for the numbers and the rows: tensorboard, wandb, trackio, ...",
        metavar="NAME",
        kind="output",
    )
    batch_size: Annotated[int, Count()] = option("number of rows per batch", 8)

    def check_upload(self) -> None:
        """Raise `ValueError` for an upload without a file, or to a name that the Hub does not have."""
        if self.push_to_hub is None:
            return
        if not self.output:
            raise ValueError("--push_to_hub goes with --output, which keeps the rows if the upload fails")
        if not _REPOSITORY.fullmatch(self.push_to_hub) or not is_repository(self.push_to_hub):
            raise ValueError(f"--push_to_hub must be OWNER/NAME or NAME on the Hub, got {self.push_to_hub!r}")


def is_repository(name: str) -> bool:
    """Return whether the Hub can have a repository of a name."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


@dataclass
class TracedOutputOptions(OutputOptions):
    """Output of rows with a number of each token, or the tree of a search."""

    title: ClassVar[str] = "output"
    traces: bool | None = option(
        "add the rewards of tokens, the effect of guides on tokens, or the tree of a search to the rows; default: if "
        "there is --html and no --output"
    )

    @property
    def has_traces(self) -> bool:
        """Whether rows have traces, if there is anything to trace."""
        return bool(self.html and not self.output) if self.traces is None else self.traces


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


# Rewards that no training made: from the policy's own probabilities.
TRAINING_FREE = ("confidence", "mean_log_probability", "self_certainty", "negative_entropy", "length")


def is_training_free(name: str | None) -> bool:
    """Return whether a name is that of a training-free reward."""
    return name in TRAINING_FREE


def is_function(name: str | None) -> bool:
    """
    Return whether a name is `MODULE:FUNCTION`.

    Example:
    ```python
    >>> is_function("my_rewards:shortest")
    True
    ```
    """
    module, colon, function = (name or "").partition(":")
    return bool(colon) and all(part.isidentifier() for part in (*module.split("."), function))


def is_url(name: str | None) -> bool:
    """Return whether a name is the address of a server."""
    return (name or "").startswith(("http://", "https://"))

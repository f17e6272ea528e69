"""Options that several commands share: dataclasses that load nothing heavy."""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from hf_reward_ext.base.options import SEED, Count, Number


def option(help: str, default: Any = None, **metadata: Any) -> Any:
    """
    Return a field of options.

    Args:
        help (`str`): Description in the help.
        default (*optional*): Default value.
        **metadata: For `argparse` (`metavar`); `option`, another name of the option; and `kind`, what it means for
            results: `"input"` (rows or where they come from), `"place"` (where results go), `"model"`, `"scorer"`
            (a model or function), `"function"`, or `"rows"` (other data that results depend on).
    """
    return field(default=default, metadata={"help": help, **metadata})


@dataclass
class LoadingOptions:
    """How a model is loaded."""

    title: ClassVar[str] = "loading"
    revision: str | None = option("branch, tag or commit of the model", metavar="NAME")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option("type of the weights; default: as saved", "auto")
    device: str | None = option(
        "cpu, cuda:0, ... or auto to spread it; default: the first GPU", metavar="NAME", kind="place"
    )
    trust_remote_code: bool = option("run code that comes with the model", False)


@dataclass
class DataOptions:
    """Where rows come from."""

    title: ClassVar[str] = "data"
    data: str | None = option(
        "rows: a json, jsonl, csv, parquet or arrow file, a folder, or a name on the Hub", metavar="NAME", kind="input"
    )
    data_config: str | None = option("configuration of a dataset on the Hub", metavar="NAME", kind="input")
    split: str | None = option("name of the split; default: the only one, or test", metavar="NAME", kind="input")
    max_rows: Annotated[int | None, Count()] = option("number of rows to take, from the first", kind="input")


@dataclass
class PromptOptions:
    """Prompts on the command line or in rows."""

    title: ClassVar[str] = "prompts"
    prompt: list[str] | None = option("prompts, instead of --data", metavar="TEXT", kind="input")
    prompt_column: str = option("column of prompts, text or messages", "prompt", metavar="NAME", kind="input")
    chat: bool | None = option(
        "send text prompts as a user's message, through the chat template; by default text is sent as it is",
        kind="input",
    )

    def check_prompts(self, data: str | None) -> None:
        """Raise `ValueError` unless prompts are given in one way."""
        if bool(self.prompt) == bool(data):
            raise ValueError("prompts are needed once: give either --prompt or --data")


@dataclass
class SamplingOptions:
    """How tokens are drawn; what is left out is as the model's generation config has it."""

    title: ClassVar[str] = "sampling"
    max_new_tokens: Annotated[int, Count()] = option("most tokens of a completion", 256)
    temperature: Annotated[float | None, Number(least=0)] = option("temperature; 0 takes the most probable token")
    top_p: Annotated[float | None, Number(above=0, most=1)] = option("draw among the most probable that sum to it")
    top_k: Annotated[int | None, Count(least=0)] = option("draw among the N most probable; 0 for all")
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
    """Where rows of results go."""

    title: ClassVar[str] = "output"
    output: str | None = option(
        "*.jsonl or *.arrow file of the rows; a run that stopped resumes", metavar="FILE", kind="place"
    )
    overwrite: bool = option("replace a file that is there, once the new one is whole", False, kind="place")
    batch_size: Annotated[int, Count()] = option("rows at a time", 8)


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

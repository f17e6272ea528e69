"""Requests that a reward server reads: the own one, and those of vLLM, OpenRLHF and verl."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Message(BaseModel):
    """Message of a chat; further fields, such as tool calls, are passed on to the scorer."""

    model_config = ConfigDict(extra="allow", strict=True)

    role: str
    content: str | list[dict[str, Any]] | None = None


Text = str | Annotated[list[Message], Field(min_length=1)]


class Rows(BaseModel):
    """Base class of requests, whose fields must be known."""

    model_config = ConfigDict(extra="forbid", strict=True)

    def rows(self) -> tuple[list, list, dict[str, list]]:
        """Return prompts, completions and columns of the request."""
        raise NotImplementedError


class RewardsRequest(Rows):
    """Request of `/v1/rewards`: one prompt for each completion, and columns of the same length."""

    prompts: list[Text]
    completions: list[Text]
    columns: dict[str, list[Any]] = {}
    model: str | None = None

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        _check_lengths({"prompts": self.prompts, "completions": self.completions, **self.columns})
        return self

    def rows(self) -> tuple[list, list, dict[str, list]]:
        return _plain(self.prompts), _plain(self.completions), self.columns


class ScoreRequest(Rows):
    """Request of `/v1/score` as in vLLM: `text_1` is the prompt, `text_2` the completion; one prompt may have many."""

    text_1: str | list[str]
    text_2: str | list[str]
    model: str | None = None

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        prompts, completions, _ = self.rows()
        _check_lengths({"text_1": prompts, "text_2": completions})
        return self

    def rows(self) -> tuple[list, list, dict[str, list]]:
        completions = [self.text_2] if isinstance(self.text_2, str) else self.text_2
        is_one = isinstance(self.text_1, str) or len(self.text_1) == 1
        prompts = [self.text_1] if isinstance(self.text_1, str) else self.text_1
        return prompts * len(completions) if is_one else prompts, completions, {}


class QueryRequest(Rows):
    """Request of `/get_reward` as in OpenRLHF: `query` is a prompt with its completion; `labels` are a column."""

    query: list[str]
    prompts: list[str]
    labels: list[Any] | None = None

    @model_validator(mode="after")
    def _check_queries(self) -> Self:
        _check_lengths({"query": self.query, "prompts": self.prompts, **self._columns})
        for index, (query, prompt) in enumerate(zip(self.query, self.prompts, strict=True)):
            if not query.startswith(prompt):
                raise ValueError(f"query[{index}] must begin with prompts[{index}]")
        return self

    @property
    def _columns(self) -> dict[str, list]:
        return {} if self.labels is None else {"labels": self.labels}

    def rows(self) -> tuple[list, list, dict[str, list]]:
        completions = [query[len(prompt) :] for query, prompt in zip(self.query, self.prompts, strict=True)]
        return self.prompts, completions, self._columns


class ClassifyRequest(Rows):
    """Request of `/classify` as verl sends it to vLLM: whole texts, without a prompt; rewards are raw."""

    input: str | list[str]
    model: str | None = None
    use_activation: Literal[False] | None = None
    activation: Literal[False] | None = None

    def rows(self) -> tuple[list, list, dict[str, list]]:
        texts = [self.input] if isinstance(self.input, str) else self.input
        return [""] * len(texts), texts, {}


def _plain(texts: list) -> list:
    return [
        text if isinstance(text, str) else [message.model_dump(exclude_unset=True) for message in text]
        for text in texts
    ]


def _check_lengths(columns: dict[str, list]) -> None:
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"all columns must have one value for each row, got {lengths}")

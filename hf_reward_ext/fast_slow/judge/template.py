"""Text of judge prompts, independent of a tokenizer."""

from dataclasses import asdict, dataclass, fields
from string import Formatter

from hf_reward_ext.fast_slow.judge.messages import plain_text
from hf_reward_ext.fast_slow.judge.verdicts import VerdictKind

_PAIRWISE = """\
Which of two responses to a prompt is better? Weigh correctness first, then how well it does what was asked.

[Prompt]
{prompt}

[Response {first}]
{response_a}

[Response {second}]
{response_b}

Answer with {first} or {second} at once. If you are asked to go on, analyze both responses and end with a line \
"Final: {first}" or "Final: {second}", which may differ from your first answer."""
_POINTWISE = """\
{question}

[Prompt]
{prompt}

[Response]
{response_a}

Answer with {verdicts} at once. If you are asked to go on, analyze the response and end with a line "Final:" and your \
verdict, which may differ from your first answer."""
_SLOTS = ("prompt", "response_a", "response_b", "first", "second", "last", "verdicts")
_QUESTIONS = {
    "binary": "Is the response to the prompt correct and good?",
    "rating": "How good is the response to the prompt, from {first} (worst) to {last} (best)?",
}


@dataclass(frozen=True)
class JudgeTemplate:
    """
    Text of a judge prompt, stored in the checkpoint.

    Args:
        user (`str`): Question, with the slots `{prompt}`, `{response_a}` (and `{response_b}` for pairs); `{first}`,
            `{second}`, `{last}` and `{verdicts}` are the verdict strings. Other braces are doubled; attributes, items,
            conversions and format specifications are rejected.
        system (`str`, *optional*): System message; unused without a chat template.
        base_suffix (`str`): Text after `user` if the tokenizer has no chat template.
        analysis_prefix (`str`): Text after the first verdict, which starts the written judgment.
        final_marker (`str`): Text just before the final verdict.

    Raises:
        TypeError: If a field is not a string.
        ValueError: If `user` has other slots, or `final_marker` is blank.

    Example:
    ```python
    >>> JudgeTemplate(user="{prompt}\\n1: {response_a}\\n2: {response_b}\\nBetter:", base_suffix="")
    ```
    """

    user: str
    system: str | None = None
    base_suffix: str = "\n\nVerdict:"
    analysis_prefix: str = "\nAnalysis:"
    final_marker: str = "\nFinal:"

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, str) and not (field.name == "system" and value is None):
                raise TypeError(f"`{field.name}` of a judge template must be a text, got {value!r}.")
        if not self.final_marker.strip():
            raise ValueError(
                f"`final_marker` of a judge template must be a text to look for, got {self.final_marker!r}. Write for "
                "example '\\nFinal:'."
            )
        _check_slots(self.user)

    @classmethod
    def from_dict(cls, values: dict) -> "JudgeTemplate":
        """
        Return the template stored in a checkpoint.

        Raises:
            ValueError: If there are unknown fields, or `user` is missing.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or not {"user"} <= set(values) <= names:
            raise ValueError(f"`template` must be a dictionary with 'user' and any of {sorted(names)}, got {values!r}.")
        return cls(**values)

    @classmethod
    def default(cls, kind: VerdictKind) -> "JudgeTemplate":
        """Return the default template for verdicts of this kind."""
        if kind == "pairwise":
            return cls(user=_PAIRWISE)
        return cls(user=_POINTWISE.replace("{question}", _QUESTIONS[kind]))

    def to_dict(self) -> dict:
        """Return the fields to store in a checkpoint."""
        return asdict(self)

    def question(self, verdicts: tuple[str, ...], prompt, response_a, response_b=None) -> str:
        """
        Return the user message: `user` with its slots filled.

        Args:
            verdicts (`tuple` of `str`): The verdict strings.
            prompt, response_a, response_b (`str` or messages): Prompt and responses; `response_b` for pairwise verdicts
                only.
        """
        return self.user.format(
            prompt=plain_text(prompt),
            response_a=plain_text(response_a),
            response_b=plain_text(response_b) if response_b is not None else "",
            first=verdicts[0],
            second=verdicts[1],
            last=verdicts[-1],
            verdicts=", ".join(verdicts[:-1]) + " or " + verdicts[-1],
        )

    def check_slots(self, kind: VerdictKind) -> None:
        """Raise `ValueError` if a slot that the judge needs is missing."""
        needed = ["prompt", "response_a", *(["response_b"] if kind == "pairwise" else [])]
        missing = [slot for slot in needed if f"{{{slot}}}" not in self.user]
        if missing:
            raise ValueError(
                f"The judge template has no {' and no '.join(f'{{{slot}}}' for slot in missing)}, but a judge of "
                f"{kind} verdicts must see it. Add the slot to `user`."
            )


def _check_slots(text: str) -> None:
    try:
        parts = list(Formatter().parse(text))
    except ValueError as error:
        raise ValueError(
            f"`user` of a judge template has an unpaired brace ({error}). Double braces that stay."
        ) from error
    for _, slot, specification, conversion in parts:
        if slot is not None and (slot not in _SLOTS or specification or conversion):
            written = (
                f"{{{slot}{'!' + conversion if conversion else ''}{':' + specification if specification else ''}}}"
            )
            raise ValueError(
                f"`user` of a judge template must have plain slots among {', '.join(_SLOTS)}, got {written!r}. Use one "
                "of them, or double the braces of what stays."
            )

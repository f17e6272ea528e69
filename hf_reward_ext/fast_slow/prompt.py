"""The question that a judge is asked, and the tokens it answers with."""

import re
from dataclasses import asdict, dataclass

import torch

from hf_reward_ext.fast_slow.verdicts import ALTERNATIVES, VerdictKind, verdict_kind, verdict_values

_PAIRWISE = """\
Which of two responses to a prompt is better? Weigh correctness first, then how well it does what was asked.

[Prompt]
{prompt}

[Response {first}]
{response_a}

[Response {second}]
{response_b}

Answer with {first} or {second} at once. If you are asked to go on, analyse both responses and end with a line \
"Final: {first}" or "Final: {second}", which may differ from your first answer."""
_POINTWISE = """\
{question}

[Prompt]
{prompt}

[Response]
{response_a}

Answer with {verdicts} at once. If you are asked to go on, analyse the response and end with a line "Final:" and your \
verdict, which may differ from your first answer."""
_QUESTIONS = {
    "binary": "Is the response to the prompt correct and good?",
    "scale": "How good is the response to the prompt, from {first} (worst) to {last} (best)?",
}
_THINKING = re.compile(r"<([\w:|]*think\w*)>\s*$")
_HARMONY = "<|start|>assistant"


@dataclass(frozen=True)
class JudgeTemplate:
    """
    Text of a judge prompt; stored in the checkpoint.

    Args:
        user (`str`): The question, with the slots `{prompt}`, `{response_a}` (and `{response_b}` for pairs); `{first}`,
            `{second}`, `{last}` and `{verdicts}` are the verdict strings. Other braces are doubled.
        system (`str`, *optional*): System message; left out without a chat template.
        base_suffix (`str`): Follows `user` when the tokenizer has no chat template.
        analysis_prefix (`str`): Put after the first verdict to open the written judgement.
        final_marker (`str`): What the judgement ends with, just before its verdict.

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

    @classmethod
    def default(cls, kind: VerdictKind) -> "JudgeTemplate":
        """The template that asks for verdicts of this kind."""
        if kind == "pairwise":
            return cls(user=_PAIRWISE)
        return cls(user=_POINTWISE.replace("{question}", _QUESTIONS[kind]))

    def to_dict(self) -> dict:
        """What the checkpoint stores."""
        return asdict(self)


class JudgePrompt:
    """
    Renders judge prompts for a tokenizer, and knows the token of each verdict.

    Models that open with a thinking tag are switched to answer first: `enable_thinking=False` goes to the chat
    template, and a tag that the template leaves open is closed.

    Args:
        tokenizer: The judge's. Without a chat template the question is plain text followed by `base_suffix`.
        verdicts (`tuple` of `str`): See [`verdict_kind`].
        template ([`JudgeTemplate`], *optional*): Default: the one for this kind of verdict.
        kind (`str`, *optional*): `"pairwise"`, `"binary"` or `"scale"`, where the strings do not tell.

    Raises:
        ValueError: If a verdict is not one token after the prompt or after the final marker, naming verdicts that are;
            or if the template lacks a slot.

    Example:
    ```python
    >>> judge_prompt = JudgePrompt(tokenizer, ("A", "B"))
    >>> judge_prompt.encode("2+2?", "4", "5")  # token ids, up to where the verdict comes
    ```
    """

    def __init__(
        self,
        tokenizer,
        verdicts: tuple[str, ...] = ("A", "B"),
        template: JudgeTemplate | None = None,
        kind: VerdictKind | None = None,
    ):
        self.tokenizer = tokenizer
        self.verdicts = tuple(verdicts)
        self.kind: VerdictKind = kind or verdict_kind(self.verdicts)
        self.template = template or JudgeTemplate.default(self.kind)
        self.values = verdict_values(self.verdicts, self.kind)
        self._check_slots()
        context = self.render("x", "y", "z" if self.is_pairwise else None)
        self.first_ids = self._verdict_ids(context, "after the prompt")
        opened = context + self.verdicts[0]
        self.prefix_ids = self._continuation(opened, self.template.analysis_prefix, or_alone=True)
        written = opened + self.template.analysis_prefix + " y."
        self.marker_ids = self._continuation(written, self.template.final_marker, or_alone=True)
        self.final_ids = self._verdict_ids(written + self.template.final_marker, "after the final marker")

    @property
    def is_pairwise(self) -> bool:
        """Whether one prompt shows both responses."""
        return self.kind == "pairwise"

    def render(self, prompt, response_a, response_b=None) -> str:
        """
        The text that the judge reads.

        Args:
            prompt, response_a, response_b (`str` or messages): `response_b` for pairwise verdicts only.

        Raises:
            ValueError: If the number of responses does not fit the verdicts.
        """
        if (response_b is not None) != self.is_pairwise:
            raise ValueError(
                f"{1 + (response_b is not None)} response(s) were given, but the verdicts {self.verdicts} are about "
                f"{'two' if self.is_pairwise else 'one'}. Pass `response_b` with pairwise verdicts only."
            )
        user = self.template.user.format(
            prompt=plain_text(prompt),
            response_a=plain_text(response_a),
            response_b=plain_text(response_b) if response_b is not None else "",
            first=self.verdicts[0],
            second=self.verdicts[1],
            last=self.verdicts[-1],
            verdicts=", ".join(self.verdicts[:-1]) + " or " + self.verdicts[-1],
        )
        if self.tokenizer is None or getattr(self.tokenizer, "chat_template", None) is None:
            return user + self.template.base_suffix
        system = [{"role": "system", "content": self.template.system}] if self.template.system else []
        text = self.tokenizer.apply_chat_template(
            [*system, {"role": "user", "content": user}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
        )
        return _answer_first(text)

    def encode(self, prompt, response_a, response_b=None) -> list[int]:
        """Token ids of [`render`]; the next token is the verdict."""
        return self._encode(self.render(prompt, response_a, response_b))

    def encode_judgment(self, text: str, verdict: int) -> list[int]:
        """Ids of a written judgement as it follows `prefix_ids`: text, marker and verdict, without EOS."""
        ids = self.tokenizer(text + self.template.final_marker, add_special_tokens=False)["input_ids"]
        return [*ids, int(self.final_ids[verdict])]

    def _encode(self, text: str) -> list[int]:
        # A chat template writes the special tokens itself.
        special = self.tokenizer.chat_template is None
        return self.tokenizer(text, add_special_tokens=special)["input_ids"]

    def _continuation(self, context: str, text: str, or_alone: bool = False) -> list[int]:
        """Ids that `text` adds to `context`; empty if it changes the tokens before it, unless read alone then."""
        before = self._encode(context)
        ids = self._encode(context + text)
        # Tokenizers that end every text with a special token.
        while before and ids and before[-1] == ids[-1] and before[-1] in self.tokenizer.all_special_ids:
            before, ids = before[:-1], ids[:-1]
        if ids[: len(before)] == before:
            return ids[len(before) :]
        return self.tokenizer(text, add_special_tokens=False)["input_ids"] if or_alone else []

    def _single_tokens(self, context: str, verdicts: tuple[str, ...]) -> list[int] | None:
        """One id per verdict, all written directly after the context or all after a space, the natural way first."""
        for space in ("", " ") if context.endswith((" ", "\n", ">")) else (" ", ""):
            ids = [self._continuation(context, space + verdict) for verdict in verdicts]
            single = [one[0] for one in ids if len(one) == 1 and one[0] != self.tokenizer.unk_token_id]
            if len(set(single)) == len(verdicts):
                return single
        return None

    def _verdict_ids(self, context: str, where: str) -> torch.Tensor:
        ids = self._single_tokens(context, self.verdicts)
        if ids is not None:
            return torch.tensor(ids)
        possible = [option for option in ALTERNATIVES[self.kind] if self._single_tokens(context, option)]
        remedy = f"Use one of {possible}." if possible else "Write verdicts that are single words of its vocabulary."
        raise ValueError(
            f"`verdicts={self.verdicts}` was given, but `{type(self.tokenizer).__name__}` does not write each of them "
            f"as one token of its own {where}, and the fast path reads a single token. {remedy}"
        )

    def _check_slots(self) -> None:
        needed = ["prompt", "response_a", *(["response_b"] if self.is_pairwise else [])]
        missing = [slot for slot in needed if f"{{{slot}}}" not in self.template.user]
        if missing:
            raise ValueError(
                f"The judge template has no {' and no '.join(f'{{{slot}}}' for slot in missing)}, but a judge of "
                f"{self.kind} verdicts must see it. Add the slot to `user`."
            )


def plain_text(value) -> str:
    """Text of a prompt or response: itself, the content of its only message, or all messages with their roles."""
    if isinstance(value, str):
        return value
    contents = [str(message["content"]) for message in value]
    if len(contents) == 1:
        return contents[0]
    return "\n\n".join(f"{message['role']}: {text}" for message, text in zip(value, contents, strict=True))


def _answer_first(text: str) -> str:
    tag = _THINKING.search(text)
    if tag:
        return f"{text.rstrip()}\n\n</{tag[1]}>\n\n"
    if text.endswith(_HARMONY):
        return text + "<|channel|>final<|message|>"
    return text

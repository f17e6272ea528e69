"""Judge prompts and the tokens of the verdicts."""

import re

import torch
from transformers import PreTrainedTokenizerBase

from hf_reward_ext.fast_slow.judge.template import JudgeTemplate
from hf_reward_ext.fast_slow.judge.verdicts import ALTERNATIVES, VerdictKind, verdict_kind, verdict_values

_THINKING = re.compile(r"<([\w:|]*think\w*)>\s*$")
_HARMONY = "<|start|>assistant"


class JudgePrompt:
    """
    Judge prompt of a tokenizer, with the token of each verdict.

    Models that start with a thinking tag are made to answer first: `enable_thinking=False` is passed to the chat
    template, and a tag that the template leaves open is closed.

    Args:
        tokenizer: Tokenizer of the judge. Without a chat template the question is plain text followed by `base_suffix`.
        verdicts (`tuple` of `str`): Verdict strings, see [`verdict_kind`].
        template ([`JudgeTemplate`], *optional*): Text of the prompt. Default: the template for this kind of verdict.
        kind (`str`, *optional*): Kind of verdicts, `"pairwise"`, `"binary"` or `"rating"`. Default: inferred
            from the strings.

    Raises:
        TypeError: If `tokenizer` is not a tokenizer, or `verdicts` is not a list of strings.
        ValueError: If a verdict is not one token after the prompt or after the final marker (the message suggests
            verdicts that are), or if the template lacks a slot.

    Example:
    ```python
    >>> judge_prompt = JudgePrompt(tokenizer, ("A", "B"))
    >>> judge_prompt.encode("2+2?", "4", "5")  # token ids up to the verdict
    ```
    """

    def __init__(
        self,
        tokenizer,
        verdicts: tuple[str, ...] = ("A", "B"),
        template: JudgeTemplate | None = None,
        kind: VerdictKind | None = None,
    ):
        if not isinstance(tokenizer, PreTrainedTokenizerBase):
            raise TypeError(
                f"`tokenizer` must be a tokenizer, got a `{type(tokenizer).__name__}`. Load it with "
                "`AutoTokenizer.from_pretrained`."
            )
        self.tokenizer = tokenizer
        self.kind: VerdictKind = verdict_kind(verdicts, kind)
        self.verdicts = tuple(verdicts)
        self.template = template or JudgeTemplate.default(self.kind)
        self.values = verdict_values(self.verdicts, self.kind)
        self.template.check_slots(self.kind)
        context = self.render("x", "y", "z" if self.is_pairwise else None)
        self.first_ids = self._verdict_ids(context, "after the prompt")
        self._space = "" if self._continuation(context, self.verdicts[0]) == self.first_ids[:1].tolist() else " "
        opened = context + self._space + self.verdicts[0]
        self.prefix_ids = self._continuation(opened, self.template.analysis_prefix, or_alone=True)
        written = opened + self.template.analysis_prefix + " y."
        self.marker_ids = self._continuation(written, self.template.final_marker, or_alone=True)
        self.final_ids = self._verdict_ids(written + self.template.final_marker, "after the final marker")

    @property
    def is_pairwise(self) -> bool:
        """Whether one prompt shows both responses."""
        return self.kind == "pairwise"

    @property
    def opening_length(self) -> int:
        """Number of tokens that open a written judgment: the first verdict and the `analysis_prefix`."""
        return 1 + len(self.prefix_ids)

    def verdict_index(self, verdict: str) -> int:
        """
        Return the index of a verdict string.

        Raises:
            ValueError: If it is not one of the verdicts.
        """
        if verdict not in self.verdicts:
            raise ValueError(f"A verdict must be one of {self.verdicts}, got {verdict!r}. Use one of them.")
        return self.verdicts.index(verdict)

    def render(self, prompt, response_a, response_b=None) -> str:
        """
        Return the text of a judge prompt.

        Args:
            prompt, response_a, response_b (`str` or messages): Prompt and responses; Prompt and responses; `response_b`
                for pairwise\n                verdicts only.

        Raises:
            ValueError: If the number of responses is not that of the verdicts.
        """
        if (response_b is not None) != self.is_pairwise:
            raise ValueError(
                f"The verdicts {self.verdicts} must get {'two responses' if self.is_pairwise else 'one response'}, got "
                f"{1 + (response_b is not None)}. Pass `response_b` with pairwise verdicts only."
            )
        user = self.template.question(self.verdicts, prompt, response_a, response_b)
        if getattr(self.tokenizer, "chat_template", None) is None:
            return user + self.template.base_suffix
        system = [{"role": "system", "content": self.template.system}] if self.template.system else []
        text = self.tokenizer.apply_chat_template(
            [*system, {"role": "user", "content": user}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
        )
        return _answer_first(text)  # pyright: ignore[reportArgumentType]

    def encode(self, prompt, response_a, response_b=None) -> list[int]:
        """Return the token ids of [`render`]; the next token is the verdict."""
        return self._encode(self.render(prompt, response_a, response_b))

    def open(self, rendered: str, verdict: int) -> str:
        """Return a rendered judge prompt with a first verdict and the prefix of the written judgment."""
        return rendered + self._space + self.verdicts[verdict] + self.template.analysis_prefix

    def encode_judgment(self, text: str, verdict: int) -> list[int]:
        """Return the ids of a written judgment after `prefix_ids`: text, marker and verdict, without EOS."""
        ids = self.tokenizer(text + self.template.final_marker, add_special_tokens=False)["input_ids"]
        return [*ids, int(self.final_ids[verdict])]

    def _encode(self, text: str) -> list[int]:
        # A chat template adds special tokens itself.
        special = self.tokenizer.chat_template is None
        return self.tokenizer(text, add_special_tokens=special)["input_ids"]

    def _continuation(self, context: str, text: str, or_alone: bool = False) -> list[int]:
        """Return the ids that `text` adds to `context`."""
        before = self._encode(context)
        ids = self._encode(context + text)
        # Some tokenizers end every text with a special token.
        while before and ids and before[-1] == ids[-1] and before[-1] in self.tokenizer.all_special_ids:
            before, ids = before[:-1], ids[:-1]
        if ids[: len(before)] == before:
            return ids[len(before) :]
        return self.tokenizer(text, add_special_tokens=False)["input_ids"] if or_alone else []

    def _single_tokens(self, context: str, verdicts: tuple[str, ...]) -> list[int] | None:
        """Return one id per verdict, either all directly after the context or all after a space."""
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
            f"`verdicts` must be single and different tokens of `{type(self.tokenizer).__name__}` {where}, got "
            f"{self.verdicts}: the fast path reads one token. {remedy}"
        )


def _answer_first(text: str) -> str:
    tag = _THINKING.search(text)
    if tag:
        return f"{text.rstrip()}\n\n</{tag[1]}>\n\n"
    if text.endswith(_HARMONY):
        return text + "<|channel|>final<|message|>"
    return text

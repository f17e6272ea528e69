"""Conversion of pairs and single responses to judge prompts, in batches of similar length."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from hf_reward_ext.fast_slow.judge.gate import Pairing
from hf_reward_ext.fast_slow.judge.messages import plain_text
from hf_reward_ext.fast_slow.judge.prompt import JudgePrompt


class Decisions(NamedTuple):
    """
    Decisions to judge.

    Args:
        rows (`list`): Token ids of the one or two judge prompts of each decision.
        questions (`list[int]`): Number of the prompt of each decision.
        pairing (`str`): Pairing of the rows of a decision, see [`read_verdicts`].
    """

    rows: list[list[list[int]]]
    questions: list[int]
    pairing: Pairing

    def check_lengths(self, limit: int, num_new: int) -> None:
        """
        Reject judge prompts that are too long.

        Args:
            limit (`int`): Maximum number of tokens that the model reads.
            num_new (`int`): Minimum number of tokens to generate after a judge prompt.

        Raises:
            ValueError: If a judge prompt is too long; the message names the decision.
        """
        for index, decision in enumerate(self.rows):
            length = max(map(len, decision))
            if length + num_new > limit:
                room = f", with room for {num_new} new ones" if num_new else ""
                raise ValueError(
                    f"A judge prompt must fit into the {limit} tokens that the model reads{room}, got {length} for "
                    f"decision {index}. Shorten the prompt or its responses."
                )

    def batches(self, batch_size: int) -> list[list[int]]:
        """Return the indices of batches of similar length; decisions about one question are kept together."""
        longest: dict[int, int] = {}
        for decision, question in zip(self.rows, self.questions, strict=True):
            longest[question] = max(longest.get(question, 0), *map(len, decision))
        questions = self.questions
        order = sorted(range(len(questions)), key=lambda index: (longest[questions[index]], questions[index], index))
        return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]

    def batch(self, indices: Sequence[int]) -> tuple[list[list[int]], list[int]]:
        """Return the rows of selected decisions in order, and the question of each row."""
        rows = [row for index in indices for row in self.rows[index]]
        return rows, [self.questions[index] for index in indices for _ in self.rows[index]]


def encode_decisions(
    judge_prompt: JudgePrompt, prompts: Sequence, responses_a: Sequence, responses_b: Sequence | None, both_orders: bool
) -> Decisions:
    """
    Encode the judge prompts of all decisions.

    Args:
        judge_prompt ([`JudgePrompt`]): Template and tokenizer.
        prompts, responses_a, responses_b (`list` of `str` or of messages): Prompts and responses; `responses_b` may
            be `None` with pointwise verdicts.
        both_orders (`bool`): Whether to show pairs in both orders.

    Raises:
        TypeError: If an argument is not a list, or an entry is neither a text nor messages; the message names it.
        ValueError: If the lists differ in length, a pairwise judge gets single responses, or an entry contains images.
    """
    prompts, responses_a = _texts("prompts", prompts), _texts("responses_a", responses_a)
    responses_b = None if responses_b is None else _texts("responses_b", responses_b)
    _check(judge_prompt, prompts, responses_a, responses_b)
    numbers: dict[str, int] = {}
    questions = [numbers.setdefault(prompt, len(numbers)) for prompt in prompts]
    encode = judge_prompt.encode
    if responses_b is None:
        rows = [[encode(prompt, response)] for prompt, response in zip(prompts, responses_a, strict=True)]
        return Decisions(rows, questions, "none")
    decisions = list(zip(prompts, responses_a, responses_b, strict=True))
    if not judge_prompt.is_pairwise:
        return Decisions([[encode(x, a), encode(x, b)] for x, a, b in decisions], questions, "responses")
    if not both_orders:
        return Decisions([[encode(x, a, b)] for x, a, b in decisions], questions, "none")
    return Decisions([[encode(x, a, b), encode(x, b, a)] for x, a, b in decisions], questions, "orders")


def _texts(name: str, values) -> list[str]:
    """Return the plain text of every entry; errors name the entry."""
    if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
        raise TypeError(f"`{name}` must be a list with one entry per decision, got {type(values).__name__}.")
    texts = []
    for index, value in enumerate(values):
        try:
            texts.append(plain_text(value))
        except (TypeError, ValueError) as error:
            raise type(error)(f"`{name}[{index}]`: {error}") from error
    return texts


def _check(judge_prompt: JudgePrompt, prompts, responses_a, responses_b) -> None:
    if responses_b is None and judge_prompt.is_pairwise:
        raise ValueError(
            f"`responses_b` must be given for the verdicts {judge_prompt.verdicts}, which compare two responses, got "
            "None. Pass it, or create the judge with `verdicts=('Yes', 'No')`."
        )
    lengths = {len(part) for part in (prompts, responses_a, responses_b) if part is not None}
    if len(lengths) > 1:
        raise ValueError(
            f"`prompts` and the responses must have one length, got {sorted(lengths)}. Repeat the prompt for each of "
            "its responses."
        )

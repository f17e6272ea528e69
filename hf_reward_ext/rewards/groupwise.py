"""Reward of a completion by its rank among the completions of its prompt, from a single judgment."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any

from transformers import PreTrainedModel

from hf_reward_ext.base.options import check_callable, check_count
from hf_reward_ext.base.recent import Recent
from hf_reward_ext.fast_slow.judge.messages import plain_text
from hf_reward_ext.rewards.group_judge import WritingJudge, Written
from hf_reward_ext.rewards.groups import group_rows
from hf_reward_ext.rewards.ranking import rank_rewards, read_ranking
from hf_reward_ext.rewards.reward import AsyncReward, Scored
from hf_reward_ext.rewards.texts import check_text_only

TEMPLATE = """\
Compare {count} answers to a request.

Request:
{prompt}

{answers}

Compare the answers in a few sentences. Then write a last line with the numbers of all answers from the best to the \
worst, with = between equal ones, such as "Ranking: 2 > 1 = 3"."""

ANSWER = "Answer {number}:\n{answer}"


@dataclass
class TokenCost:
    """
    Cost of judgments in tokens of the judge.

    Args:
        judgments (`int`): Number of judgments.
        prompt_tokens, new_tokens (`int`): Number of tokens read and written.
    """

    judgments: int = 0
    prompt_tokens: int = 0
    new_tokens: int = 0


class GroupwiseReward(AsyncReward):
    r"""
    Reward by the rank of a completion in a single judgment of all completions of its prompt.

    $$ r_i = 1 - \frac{\operatorname{rank}_i}{n - 1} $$

    A relative judgment as in RULER of [ART](https://github.com/OpenPipe/ART), with ranks instead of scores. GRPO
    compares the completions of a prompt only with each other, which is what the judgment does. Equal completions are
    shown once and share their rank, and the order that the judge sees is random but fixed by the texts. A judgment
    without a complete ranking gives `None` to its whole group; nothing is guessed. Groups whose completions are all
    equal get 0.5 without a judgment.

    Logs `groupwise/judgments`, `groupwise/prompt_tokens` and `groupwise/new_tokens` of a batch (cached judgments cost
    nothing), `groupwise/cached_rate`, and the judgments as the column `groupwise/judgment`.

    Args:
        judge (`PreTrainedModel` or `callable`): Causal language model that writes the judgments, or a function from a
            list of requests to a list of judgments.
        tokenizer (*optional*): Tokenizer of the judge, required for a model. For a function it counts the tokens;
            without it, only judgments are counted.
        template (`str`, *optional*): Request with the fields `{prompt}`, `{answers}` and optionally `{count}`.
        num_generations (`int`, *optional*): Number of completions per prompt, as in the trainer, which is required
            with several processes.
        max_new_tokens (`int`, *optional*, defaults to 512), batch_size (`int`, *optional*, defaults to 4),
            generation_kwargs (`dict`, *optional*): Length of a judgment, judgments per call, and further arguments of
            `generate`, for a model.
        cache_size (`int`, *optional*, defaults to 1000): Maximum number of cached judgments.
        name (`str`, *optional*, defaults to `"groupwise"`): Name in logs.

    Attributes:
        cost ([`TokenCost`]): Exact cost of all judgments so far.

    Raises:
        TypeError: For a model without its tokenizer, or a judge that is neither a model nor callable.
        ValueError: If the template lacks a field, or a number is out of range; at a call, if a group is not whole.

    Example:
    ```python
    >>> reward = GroupwiseReward(judge_lm, judge_tokenizer, num_generations=8)
    >>> GRPOTrainer(policy, reward_funcs=reward, args=args, train_dataset=prompts)
    ```
    """

    def __init__(
        self,
        judge: PreTrainedModel | Callable[[list[str]], Sequence[str]],
        tokenizer: Any = None,
        *,
        template: str = TEMPLATE,
        num_generations: int | None = None,
        max_new_tokens: int = 512,
        batch_size: int = 4,
        generation_kwargs: Mapping[str, Any] | None = None,
        cache_size: int = 1000,
        name: str = "groupwise",
    ):
        super().__init__(name)
        check_count("max_new_tokens", max_new_tokens)
        check_count("batch_size", batch_size)
        _check_template(template)
        self.judge = _as_judge(judge, tokenizer, max_new_tokens, batch_size, generation_kwargs)
        self.tokenizer = tokenizer
        self.template = template
        self.num_generations = num_generations
        self.cost = TokenCost()
        self._cache: Recent[tuple[str, tuple[str, ...]], Written] = Recent(cache_size)

    def compute(self, prompts: Sequence, completions: Sequence, columns: Mapping[str, Any]) -> Scored:
        check_text_only(self.__name__, prompts, completions, columns)
        texts = [plain_text(one) for one in completions]
        groups = group_rows(self.__name__, [plain_text(prompt) for prompt in prompts], self.num_generations)
        questions = [(prompt, _shown_order(prompt, [texts[row] for row in rows])) for prompt, rows in groups.items()]
        judged = [question for question in questions if len(question[1]) > 1]
        before = TokenCost(**vars(self.cost))
        written, cached = self._cache.look_up(judged, self._judge)
        judgments = dict(zip(judged, written, strict=True))
        rewards: list[float | None] = [0.5] * len(texts)
        shown: list[str | None] = [None] * len(texts)
        for question, rows in zip(questions, groups.values(), strict=True):
            if question in judgments:
                ranking = read_ranking(judgments[question].text, len(question[1]))
                of_text = dict(zip(question[1], rank_rewards(ranking), strict=True)) if ranking else {}
                for row in rows:
                    rewards[row] = of_text.get(texts[row])
                    shown[row] = judgments[question].text
        metrics = {key: float(value - getattr(before, key)) for key, value in vars(self.cost).items()}
        return Scored(rewards, {**metrics, "cached_rate": cached}, {"judgment": shown})

    def _judge(self, questions: list[tuple[str, tuple[str, ...]]]) -> list[Written]:
        requests = [self._request(prompt, answers) for prompt, answers in questions]
        written = self.judge(requests)
        if len(written) != len(requests):
            raise ValueError(
                f"`judge` must return one judgment per request, got {len(written)} for {len(requests)}. Return a list "
                "of texts."
            )
        judgments = [
            one if isinstance(one, Written) else self._counted(request, one)
            for request, one in zip(requests, written, strict=True)
        ]
        self.cost.judgments += len(judgments)
        self.cost.prompt_tokens += sum(one.prompt_tokens for one in judgments)
        self.cost.new_tokens += sum(one.new_tokens for one in judgments)
        return judgments

    def _request(self, prompt: str, answers: Sequence[str]) -> str:
        shown = [ANSWER.format(number=number, answer=answer) for number, answer in enumerate(answers, start=1)]
        return self.template.format(prompt=prompt, answers="\n\n".join(shown), count=len(answers))

    def _counted(self, request: str, judgment: Any) -> Written:
        if not isinstance(judgment, str):
            raise TypeError(f"`judge` must return texts, got a `{type(judgment).__name__}`. Return a list of `str`.")
        if self.tokenizer is None:
            return Written(judgment, 0, 0)
        read, new = (len(self.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in (request, judgment))
        return Written(judgment, read, new)


def _shown_order(prompt: str, answers: Sequence[str]) -> tuple[str, ...]:
    """Return the different answers in a random order that depends on nothing but the texts."""
    different = sorted(set(answers))
    random.Random(f"{prompt}\n{different}").shuffle(different)
    return tuple(different)


def _check_template(template: str) -> None:
    try:
        template.format(prompt="", answers="", count=2)
        fields = {field for _, field, _, _ in Formatter().parse(template)}
    except (LookupError, ValueError) as error:
        raise ValueError(
            f"`template` must have no other fields than prompt, answers and count, got {error!r}. Write other braces "
            "twice."
        ) from error
    missing = sorted({"prompt", "answers"} - fields)
    if missing:
        raise ValueError(f"`template` must have the fields prompt and answers, but it lacks {missing}. Add them.")


def _as_judge(judge, tokenizer, max_new_tokens: int, batch_size: int, generation_kwargs) -> Callable:
    if hasattr(judge, "generate"):
        if tokenizer is None:
            raise TypeError(
                f"A `{type(judge).__name__}` must have a tokenizer to write judgments, got it without its tokenizer. "
                "Pass `tokenizer=`."
            )
        return WritingJudge(judge, tokenizer, max_new_tokens, batch_size, generation_kwargs)
    if not callable(judge):
        raise TypeError(f"`judge` must be a causal language model or a function, got a `{type(judge).__name__}`.")
    check_callable("judge", judge, ["requests"])
    return judge

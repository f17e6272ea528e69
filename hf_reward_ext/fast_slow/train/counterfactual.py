"""Stage 2 data: each judge prompt with a correct and with a wrong first verdict."""

from collections.abc import Sequence

from datasets import Dataset

from hf_reward_ext.fast_slow.judge.prompt import JudgePrompt
from hf_reward_ext.fast_slow.judge.template import JudgeTemplate
from hf_reward_ext.fast_slow.judge.verdicts import favors, verdict_kind, verdict_values
from hf_reward_ext.fast_slow.train.preference_pairs import SIDES, with_prompt


def counterfactual_prefixes(
    dataset: Dataset | Sequence[dict],
    judge_prompt: JudgePrompt | None = None,
    *,
    verdicts: tuple[str, ...] = ("A", "B"),
    template: JudgeTemplate | None = None,
) -> Dataset:
    """
    Return rows for TRL's `GRPOTrainer` whose prompts are judge prompts with a forced first verdict.

    The policy gradient then applies to the written judgment only, and rollouts of one group share the first verdict.
    Each pair gives four rows: for each response, or with pairwise verdicts each order, one with a correct and one with
    a wrong first verdict. Prompts are text, because `GRPOTrainer` cannot continue an assistant turn. The reward
    function is [`slow_verdict_reward`].

    Args:
        dataset (`Dataset` or `list` of `dict`): Preference pairs.
        judge_prompt ([`JudgePrompt`], *optional*): Prompt of the judge in training, with its chat template.
            Default: plain text for a base model, with `verdicts` and `template`.
        verdicts (`tuple` of `str`, *optional*): Verdict strings, if there is no `judge_prompt`.
        template ([`JudgeTemplate`], *optional*): Text of the prompt, if there is no `judge_prompt`.

    Returns:
        `Dataset` with `prompt`, `right_verdicts` (the correct final verdicts), `first_verdict`, `final_marker`.

    Raises:
        ValueError: If the text of a prompt is tokenized differently from the prompts of the judge.

    Example:
    ```python
    >>> rows = counterfactual_prefixes(pairs, judge.judge_prompt)
    >>> GRPOTrainer(judge.causal_lm, slow_verdict_reward, GRPOConfig("stage2"), rows, processing_class=tokenizer)
    ```
    """
    kind = judge_prompt.kind if judge_prompt else verdict_kind(verdicts)
    verdicts = judge_prompt.verdicts if judge_prompt else verdicts
    template = judge_prompt.template if judge_prompt else template or JudgeTemplate.default(kind)
    values = verdict_values(verdicts, kind)
    good = [verdict for index, verdict in enumerate(verdicts) if favors(index, values)]
    bad = [verdict for verdict in verdicts if verdict not in good]
    rows = []
    for example in dataset:
        example = with_prompt(example)  # pyright: ignore[reportArgumentType]
        for side in SIDES:
            other = SIDES[1 - SIDES.index(side)]
            shown = [example[side], *([example[other]] if kind == "pairwise" else [])]
            # The last of several ratings is the best, but the first of two verdicts.
            extremes = (verdicts[0], verdicts[1]) if values is None else (verdicts[-1], verdicts[0])
            for first in extremes if side == "chosen" else extremes[::-1]:
                rows.append(
                    {
                        "prompt": _text(judge_prompt, template, verdicts, first, example["prompt"], shown),
                        "right_verdicts": good if side == "chosen" else bad,
                        "first_verdict": first,
                        "final_marker": template.final_marker,
                    }
                )
    if judge_prompt is not None and rows:
        _check_tokens(judge_prompt, rows[0])
    return Dataset.from_list(rows)


def _text(judge_prompt: JudgePrompt | None, template: JudgeTemplate, verdicts, first: str, prompt, shown) -> str:
    if judge_prompt is None:
        return f"{template.question(verdicts, prompt, *shown)}{template.base_suffix} {first}{template.analysis_prefix}"
    text = judge_prompt.open(judge_prompt.render(prompt, *shown), judge_prompt.verdict_index(first))
    bos = judge_prompt.tokenizer.bos_token
    # A chat template adds BOS, and tokenizing its text adds it again.
    twice = bos and text.startswith(bos) and judge_prompt.tokenizer(text)["input_ids"][:2] == [  # pyright: ignore[reportArgumentType]
        judge_prompt.tokenizer.bos_token_id
    ] * 2  # fmt: skip
    return text.removeprefix(bos) if twice else text  # pyright: ignore[reportArgumentType]


def _check_tokens(judge_prompt: JudgePrompt, row: dict) -> None:
    ids = judge_prompt.tokenizer(row["prompt"])["input_ids"]
    index = judge_prompt.verdict_index(row["first_verdict"])
    needed = [int(judge_prompt.first_ids[index]), *judge_prompt.prefix_ids]
    if ids[-len(needed) :] != needed:
        decoded = judge_prompt.tokenizer.convert_ids_to_tokens(ids[-len(needed) :])
        raise ValueError(
            f"The text of a judge prompt ends with the tokens {decoded}, but the judge writes "
            f"{judge_prompt.tokenizer.convert_ids_to_tokens(needed)} there, so training and use would differ. Choose "
            "an `analysis_prefix` that starts with a line break or a space."
        )

"""Conversion of the results of a batch to one judgment per decision."""

import torch

from hf_reward_ext.fast_slow.decode.decoding import JudgmentBatch
from hf_reward_ext.fast_slow.decode.written_judgment import WrittenJudgment
from hf_reward_ext.fast_slow.judge.confidence import fast_score
from hf_reward_ext.fast_slow.judge.judgment import Judgment, ScoreCalibration
from hf_reward_ext.fast_slow.judge.prompt import JudgePrompt


def judgment_of(
    outcome: JudgmentBatch, number: int, judge_prompt: JudgePrompt, score_calibration: ScoreCalibration
) -> Judgment:
    """
    Record of one decision of a batch.

    Args:
        outcome ([`JudgmentBatch`]): Result of [`judge_rows`].
        number (`int`): Index of the decision.
        judge_prompt ([`JudgePrompt`]): Verdict strings and tokenizer.
        score_calibration ([`ScoreCalibration`]): Conversion of raw scores to log-odds.
    """
    rows = [number] if score_calibration.pairing == "none" else [2 * number, 2 * number + 1]
    verdicts, strings = outcome.verdicts, judge_prompt.verdicts
    writings = [outcome.writings[row] for row in rows]
    fast_scores = [verdicts.scores[row].item() for row in rows]
    vote_scores = [[_vote(vote, judge_prompt, score_calibration) for vote in votes] for votes in writings]
    final = [[None if vote.verdict is None else strings[vote.verdict] for vote in votes] for votes in writings]
    texts = [[_text(vote, judge_prompt.tokenizer) for vote in votes] for votes in writings]
    escalated = bool(verdicts.escalated[number])
    first = [strings[int(verdicts.verdicts[row])] for row in rows]
    score = score_calibration.score(fast_scores, vote_scores)
    return Judgment(
        probability=torch.tensor(score, dtype=torch.float64).sigmoid().item(),
        mode="slow" if escalated else "fast",
        intuition=verdicts.intuition[number].item(),
        distribution=verdicts.distribution[number].item(),
        num_tokens=sum(outcome.num_tokens[row] for row in rows),
        text=texts[0][0] if escalated else first[0],
        score=score,
        fast_probability=verdicts.probability[number].item(),
        mass=min(verdicts.mass[row].item() for row in rows),
        consistent=bool(verdicts.consistent[number]),
        parsed=not escalated or all(any(one is not None for one in votes) for votes in final),
        first_verdicts=first,
        final_verdicts=final,
        fast_scores=fast_scores,
        vote_scores=vote_scores,
        texts=texts,
        row_tokens=[outcome.num_tokens[row] for row in rows],
        is_cut=any(vote.is_cut for votes in writings for vote in votes),
    )


def _text(vote: WrittenJudgment, tokenizer) -> str:
    return str(tokenizer.decode(vote.ids, skip_special_tokens=True))


def _vote(vote: WrittenJudgment, judge_prompt: JudgePrompt, score_calibration: ScoreCalibration) -> float | None:
    """Return the raw score of a final verdict, or `None`; hard votes use the generated verdict only."""
    if vote.verdict is None or vote.verdict_logits is None:
        return None
    if score_calibration.hard_votes and judge_prompt.values is not None:
        return judge_prompt.values[vote.verdict].item()
    if score_calibration.hard_votes:
        return 1.0 if vote.verdict == 0 else -1.0
    return fast_score(vote.verdict_logits[None].cpu(), judge_prompt.values).item()

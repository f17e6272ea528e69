"""Pruning and resampling of candidates while they are written, on the constraint task."""

from pathlib import Path

from examples.demo_llm.sampling import TEMPERATURE
from examples.demo_llm.settings import keep
from examples.real_tasks.pool import Pool
from examples.real_tasks.sizes import Size, result
from examples.tasks import constraints
from hf_reward_ext.best_of_n import BestOfNPipeline, Pruning, Resampling
from hf_reward_ext.elhsr import ELHSRModel

STEPS = (8, 16, 24)
COUNT = 16
RULES = {
    ("plain", "no candidate is dropped"): None,
    ("pruned", f"keep 0.5 at {', '.join(map(str, STEPS))} tokens"): Pruning(STEPS, 0.5),
    ("resampled", "temperature 1"): Resampling(STEPS, 1.0),
    ("resampled", "temperature 0.3"): Resampling(STEPS, 0.3),
}


def compare(policy, tokenizer, pool: Pool, folder: Path, size: Size) -> dict:
    """Compare best of 16 candidates with and without rules that act while they are written; one head, new samples."""
    head = ELHSRModel.from_pretrained(folder / f"head-hidden_states-{size.num_labels[-1]}-{size.seeds[0]}")
    pipe = BestOfNPipeline(model=policy, tokenizer=tokenizer, reward_model=head)
    count = min(COUNT, size.num_candidates)
    rows = []
    for number, ((method, what), rule) in enumerate(RULES.items()):
        found = keep(folder / f"staged-{number}.json", lambda rule=rule: _choose(pipe, pool, count, rule))
        rows.append(result(method, what, found["right"], sum(found["tokens"]) / len(found["tokens"])))
    return {"rows": rows}


def _choose(pipe: BestOfNPipeline, pool: Pool, count: int, rule: Pruning | Resampling | None) -> dict:
    problems = pool.problems["test"]
    found = pipe(
        [problem.messages for problem in problems], num_candidates=count, prune=rule, return_all=True, seed=0,
        batch_size=4, max_new_tokens=constraints.MAX_NEW_TOKENS, temperature=TEMPERATURE, top_k=0,
    )  # fmt: skip
    texts = [candidates[0]["generated_text"][-1]["content"].strip() for candidates in found]
    return {
        "right": [float(constraints.is_right(*pair)) for pair in zip(problems, texts, strict=True)],
        "tokens": [sum(one["num_tokens"] for one in candidates) for candidates in found],
    }

"""Training text of the demo policy: correct and failed attempts at both tasks."""

import random
from collections.abc import Iterator

from torch.utils.data import IterableDataset

from hf_reward_ext.demo import arithmetic, walk

FAMILIES = ("arithmetic", "walk")


class Corpus(IterableDataset):
    """
    Tokenized examples `{input_ids, labels}`, in batches of one task to save padding.

    Failed attempts compute correctly and miss the target. Some are followed by `/` and another attempt, so that the
    text depends on success and hidden states encode it.

    Args:
        tokenizer: Tokenizer of the demo.
        num_batches, batch_size (`int`): Number of batches, and of examples per batch.
        seed (`int`): Random seed of the examples.
        right (`float`): Share of arithmetic examples that reach the target.
        clean (`float`): Share of initial batches in which all examples do.
        walk_share (`float`): Share of batches of the walk task.
        retry (`float`): Share of failed attempts that are followed by `/` and a second attempt.
    """

    def __init__(
        self,
        tokenizer,
        num_batches: int,
        batch_size: int,
        seed: int,
        right: float = 0.5,
        clean: float = 0.4,
        walk_share: float = 0.25,
        retry: float = 0.8,
    ):
        self.tokenizer = tokenizer
        self.num_batches = num_batches
        self.batch_size = batch_size
        self.seed = seed
        self.right = right
        self.clean = clean
        self.walk_share = walk_share
        self.retry = retry

    def __iter__(self) -> Iterator[dict[str, list[int]]]:
        rng = random.Random(self.seed)
        problems = arithmetic.problems("train")
        for batch in range(self.num_batches):
            right = 1.0 if batch < self.clean * self.num_batches else self.right
            if rng.random() < self.walk_share:
                walks = walk.random_walks("train", self.batch_size, seed=rng.getrandbits(32))
                yield from (self.encode(one.prompt, _walk(one, rng)) for one in walks)
            else:
                for problem in rng.choices(problems, k=self.batch_size):
                    yield self.encode(problem.prompt, self._attempt(problem, rng, right))

    def encode(self, prompt: str, completion: str) -> dict[str, list[int]]:
        """Return the ids of prompt, completion and EOS; the loss is on the completion only."""
        prompt_ids = self.tokenizer(prompt)["input_ids"]
        completion_ids = self.tokenizer(completion)["input_ids"] + [self.tokenizer.eos_token_id]
        return {
            "input_ids": prompt_ids + completion_ids,
            "attention_mask": [1] * (len(prompt_ids) + len(completion_ids)),
            "labels": [-100] * len(prompt_ids) + completion_ids,
        }

    def _attempt(self, problem: arithmetic.Problem, rng: random.Random, right: float) -> str:
        hit = arithmetic.write(problem.numbers, rng.choice(problem.solutions))
        if rng.random() < right:
            return hit
        miss = arithmetic.failed_attempt(problem, rng)
        if rng.random() >= self.retry:
            return miss
        return f"{miss}/{hit if rng.random() < right else arithmetic.failed_attempt(problem, rng)}"


def _walk(one: walk.Walk, rng: random.Random) -> str:
    """Return a walk with limited look-ahead; some fail early, some late."""
    return walk.write(one, rng, foresight=rng.choice((0, 0, 1, 2)))

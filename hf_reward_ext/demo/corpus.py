"""The text that the demo policy is trained on: right and honestly failed attempts at both tasks."""

import random
from collections.abc import Iterator

from torch.utils.data import IterableDataset

from hf_reward_ext.demo import arithmetic, walk

FAMILIES = ("arithmetic", "walk")


class Corpus(IterableDataset):
    """
    Tokenised examples `{input_ids, labels}`, batch by batch of one family (so that little is padding).

    Failed attempts compute correctly and end wrong. Some are tried again after `/`, so that hidden states have to know
    whether the goal was reached; without it nothing in the text depends on it, and they do not.

    Args:
        tokenizer: Of the demo.
        num_batches, batch_size (`int`): How many examples.
        seed (`int`): Fixes all of them.
        right (`float`): Share of arithmetic examples that reach the target.
        clean (`float`): Share of the batches, at the start, in which all of them do: the task is learned first.
        walk_share (`float`): Share of batches that are walks.
        retry (`float`): Share of the failed attempts that are followed by `/` and a second one.
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
        """Ids of prompt, completion and EOS; the loss is on the completion only."""
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
    """Mostly short-sighted walks: some fail early, some late."""
    return walk.write(one, rng, foresight=rng.choice((0, 0, 1, 2)))

"""The search as slowly as it can be written: every sequence is recomputed from scratch, one prompt at a time."""

import functools
import random

import torch


class Node:
    def __init__(self, tokens, parent, total, count):
        self.tokens, self.parent, self.total, self.count = tokens, parent, total, count
        self.children, self.finished = [], False

    def depth(self):
        return 0 if self.parent is None else self.parent.depth() + 1

    def full(self):
        return (self.parent.full() if self.parent else []) + self.tokens

    def score(self):
        return self.total / self.count if self.count else 0.0

    def leaves(self):
        return [leaf for child in self.children for leaf in child.leaves()] if self.children else [self]


def reference_search(
    next_top, reward, prompt, width, step, depth, max_new, eos, value=max, score_prompt=True, stops_early=False
):
    """
    Yields the confirmed chunks of one prompt.

    `next_top(prefix, n)`: the n most probable next ids, descending; `reward(prefix)`: reward at its last position, or
    reward and weight. `value`: of a candidate, from the scores of its leaves. The last three go beyond the paper.
    """

    def done(node):
        return node.full()[-1] in eos or len(node.full()) >= max_new

    def read(node):
        value = reward(prompt + node.full())
        value, weight = value if isinstance(value, tuple) else (value, 1)
        node.total += weight * value
        node.count += weight

    root = Node([], None, 0, 0)
    if score_prompt:
        read(root)
    root.tokens = next_top(prompt, 1)
    root.finished = done(root)
    candidates, streamed = [root], 0
    while True:
        everything = [leaf for candidate in candidates for leaf in candidate.leaves()]
        live = [leaf for leaf in everything if not leaf.finished]
        if not live:
            yield max(everything, key=Node.score).full()[streamed:]
            return
        for _ in range(step - 1):
            for leaf in live:
                if not leaf.finished:
                    read(leaf)
                    leaf.tokens = leaf.tokens + next_top(prompt + leaf.full(), 1)
                    leaf.finished = done(leaf)
        live = [leaf for leaf in live if not leaf.finished]
        if not live:
            continue
        for leaf in live:
            read(leaf)
            for token in next_top(prompt + leaf.full(), width):
                child = Node([token], leaf, leaf.total, leaf.count)
                child.finished = done(child)
                leaf.children.append(child)
        leader = max((leaf for candidate in candidates for leaf in candidate.leaves()), key=Node.score)
        if stops_early and leader.finished:
            yield leader.full()[streamed:]
            return
        if live[0].depth() - candidates[0].depth() >= depth:
            best = max(candidates, key=lambda one: value([leaf.score() for leaf in one.leaves()]))
            yield best.tokens
            streamed += len(best.tokens)
            if not best.children:
                return
            candidates = best.children


def toy_model(seed, vocabulary, eos_share=0.0, eos=0):
    """A random next-token order and a random reward of every prefix; EOS ranks high in a share of the prefixes."""

    def next_top(prefix, n):
        rng = random.Random(f"{seed}-order-{prefix}")
        order = rng.sample(range(vocabulary), vocabulary)
        order.remove(eos)
        order.insert(rng.randrange(2) if rng.random() < eos_share else len(order), eos)
        return order[:n]

    def reward(prefix):
        return random.Random(f"{seed}-reward-{prefix}").uniform(-1, 1)

    return next_top, reward


def model_functions(rt):
    """`next_top` and `reward` of a reward transformer, by a full forward without a cache for every prefix."""

    @functools.cache
    @torch.no_grad()
    def forward(prefix):
        out = rt(torch.tensor([prefix]), use_cache=False)
        return out.logits[0, -1].float(), out.token_rewards[0, -1].item()

    def next_top(prefix, n):
        return forward(tuple(prefix))[0].topk(n).indices.tolist()

    def reward(prefix):
        return forward(tuple(prefix))[1]

    return next_top, reward

"""The look-ahead search of one prompt as a state machine: no model, no tensors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

Proposal = tuple[int, bool]  # a next token, and whether it ends its sequence


@dataclass(frozen=True)
class SearchSettings:
    """
    How the search of one prompt branches and chooses.

    Args:
        width (`int`, defaults to 2): Next tokens tried at a branch point, the paper's $n$.
        step (`int`, defaults to 10): Tokens of a chunk, from one branch point to the next, the paper's $k$.
        depth (`int`, defaults to 2): Chunks looked ahead beyond the one to be confirmed, the paper's $d$.
        aggregate (`str`, defaults to `"max"`): Value of a candidate from the scores of its leaves: `"max"` or `"mean"`.
        score_prompt (`bool`, defaults to `True`): Whether the reward at the last prompt token counts, as in the
            authors' code.
        stop_when_finished_leads (`bool`, defaults to `False`): End at a branch point where a finished sequence has the
            best score of the whole tree.
        token_budget (`int`, *optional*): Leaf-tokens to read at most; then the best leaf is the answer.

    Raises:
        ValueError: If a number is out of range.

    Example:
    ```python
    >>> SearchSettings(width=2, step=10, depth=2).max_leaves
    8
    ```
    """

    width: int = 2
    step: int = 10
    depth: int = 2
    aggregate: str = "max"
    score_prompt: bool = True
    stop_when_finished_leads: bool = False
    token_budget: int | None = None

    def __post_init__(self):
        for name, least in (("width", 1), ("step", 1), ("depth", 0), ("token_budget", 1)):
            value = getattr(self, name)
            if value is None and name == "token_budget":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(
                    f"`{name}={value!r}` was given, but the search needs a whole number of at least {least}. Change "
                    f"`{name}`."
                )
        if self.aggregate not in ("max", "mean"):
            raise ValueError(f"`aggregate={self.aggregate!r}` was given, but it is 'max' or 'mean'. Choose one.")

    @property
    def max_leaves(self) -> int:
        """Live leaves between two branch points once the tree is grown: $n^{d+1}$."""
        return self.width ** (self.depth + 1)


@dataclass(eq=False)
class Chunk:
    """
    A node of the tree: at most `step` tokens, of which the first was chosen at a branch point.

    Attributes:
        tokens (`list[int]`): Its own tokens.
        total, weight (`float`): Sums of rewards and of their weights, ancestors included.
        is_finished (`bool`): Whether its last token ends the sequence.
        is_confirmed (`bool`): Whether its tokens are part of the answer.
        children (`list[Chunk]`): What follows, most probable first.
    """

    tokens: list[int]
    total: float = 0.0
    weight: float = 0.0
    is_finished: bool = False
    is_confirmed: bool = False
    children: list["Chunk"] = field(default_factory=list)

    @property
    def score(self) -> float:
        """Weighted mean reward of everything read from the last prompt token on."""
        return self.total / self.weight if self.weight else 0.0

    def paths(self) -> Iterator[list["Chunk"]]:
        """From this node to each of its leaves."""
        if not self.children:
            yield [self]
        for child in self.children:
            yield from ([self, *path] for path in child.paths())

    def as_dict(self) -> dict:
        """The subtree as plain data, ready for JSON."""
        return {
            "tokens": list(self.tokens),
            "score": self.score,
            "is_finished": self.is_finished,
            "is_confirmed": self.is_confirmed,
            "children": [child.as_dict() for child in self.children],
        }


class LookAheadSearch:
    r"""
    Streaming tree search: grows all live leaves token by token, forks them every `step` tokens, and confirms a chunk
    once its descendants are `depth` chunks deeper.

    $$ \hat c = \arg\max_{c} \max_{l \in \text{leaves}(c)} \frac{1}{m_l} \sum_{t \le m_l} r_t $$

    The search of [SLA](https://huggingface.co/papers/2503.00029), as its published code runs it: deterministic, greedy
    between branch points; a leaf's score is the plain mean of its token rewards; the reward of an EOS token is never
    read; ties go to the more probable branch. A finished leaf stays in the tree with its score.

    Each round the caller reads the last token of every leaf in `live` (at first: the prompt), and hands over its reward
    and up to `num_proposals` next tokens for it.

    Args:
        settings ([`SearchSettings`]): How to branch and choose.
        keep_tree (`bool`, defaults to `False`): Keep dropped branches for [`LookAheadSearch.tree`].

    Attributes:
        live (`list[Chunk]`): Leaves to read, in the order of the caller's rows.
        confirmed (`list[list[int]]`): Chunks of the answer so far.
        is_finished (`bool`): Whether the answer is complete.
        score (`float`): Mean reward of the answer's leaf at the last decision.
        num_read (`int`): Leaf-tokens read after the prompt.

    Example:
    ```python
    >>> search = LookAheadSearch(SearchSettings(width=1, step=2, depth=0))
    >>> search.advance([0.0], [[(5, False)]])  # the prompt was read; row 0 goes on with proposal 0
    [(0, 0)]
    ```
    """

    def __init__(self, settings: SearchSettings, keep_tree: bool = False):
        self.settings = settings
        root = Chunk([])
        self.live = [root]
        self.confirmed: list[list[int]] = []
        self.is_finished = False
        self.score = 0.0
        self.num_read = 0
        self._candidates = [root]
        self._levels = 0  # how many chunks the live leaves are deeper than the candidates
        self._root = root if keep_tree else None
        self._is_prompt = True

    @property
    def num_proposals(self) -> int:
        """How many next tokens each live leaf takes in this round."""
        return self.settings.width if self._is_branching else 1

    @property
    def _is_branching(self) -> bool:
        return bool(self.live) and len(self.live[0].tokens) == self.settings.step

    def advance(
        self,
        rewards: Sequence[float],
        proposals: Sequence[Sequence[Proposal]],
        weights: Sequence[float] | None = None,
    ) -> list[tuple[int, int]]:
        """
        Takes what was read in one round.

        Args:
            rewards (`list[float]`): Reward of each live leaf's last token.
            proposals (`list[list[tuple[int, bool]]]`): For each live leaf its next tokens, most probable first, and
                whether they end the sequence. At least one, at most `num_proposals`.
            weights (`list[float]`, *optional*): Weight of each reward in the mean. Default: 1.

        Returns:
            For each leaf of the new `live`: the leaf it comes from and which of its proposals it took.
        """
        self._read(rewards, weights)
        out_of_budget = self.settings.token_budget is not None and self.num_read >= self.settings.token_budget
        if out_of_budget:
            proposals = [[(token, True) for token, _ in own] for own in proposals]
        if self._is_branching:
            origins = self._fork(proposals)
            self._decide()
            kept = {id(path[-1]) for candidate in self._candidates for path in candidate.paths()}
        else:
            origins = self._extend(proposals)
            kept = {id(leaf) for leaf in self.live}
        rows = zip(self.live, origins, strict=True)
        rows = [(leaf, origin) for leaf, origin in rows if id(leaf) in kept and not leaf.is_finished]
        self.live = [leaf for leaf, _ in rows]
        if not self.live and not self.is_finished:
            self._end()
        return [origin for _, origin in rows]

    def tree(self) -> dict:
        """
        The whole tree as nested dictionaries `{tokens, score, is_finished, is_confirmed, children}`.

        Raises:
            RuntimeError: If the search was not asked to keep it.
        """
        if self._root is None:
            raise RuntimeError(
                "The tree was asked for, but this search drops branches as it goes. Make it with `keep_tree=True`."
            )
        return self._root.as_dict()

    def _read(self, rewards: Sequence[float], weights: Sequence[float] | None) -> None:
        counts = not self._is_prompt or self.settings.score_prompt
        for index, leaf in enumerate(self.live if counts else []):
            weight = 1.0 if weights is None else weights[index]
            leaf.total += weight * rewards[index]
            leaf.weight += weight
        self.num_read += 0 if self._is_prompt else len(self.live)
        self._is_prompt = False

    def _extend(self, proposals: Sequence[Sequence[Proposal]]) -> list[tuple[int, int]]:
        for leaf, ((token, ends), *_) in zip(self.live, proposals, strict=True):
            leaf.tokens.append(token)
            leaf.is_finished = ends
        return [(index, 0) for index in range(len(self.live))]

    def _fork(self, proposals: Sequence[Sequence[Proposal]]) -> list[tuple[int, int]]:
        """A fork carries its parent's score: its own token is read in the next round."""
        origins = []
        for index, (leaf, own) in enumerate(zip(self.live, proposals, strict=True)):
            leaf.children = [Chunk([token], leaf.total, leaf.weight, ends) for token, ends in own]
            origins += [(index, choice) for choice in range(len(own))]
        self.live = [child for leaf in self.live for child in leaf.children]
        self._levels += 1
        return origins

    def _decide(self) -> None:
        """After a fork: confirms a chunk if the leaves are deep enough."""
        if self.settings.stop_when_finished_leads and self._best_path()[-1].is_finished:
            self._end()
        elif self._levels > self.settings.depth:
            best = max(self._candidates, key=self._value)
            self._confirm([best])
            self._candidates = best.children
            self._levels -= 1
            if not best.children:
                self._finish(best)

    def _value(self, candidate: Chunk) -> float:
        scores = [path[-1].score for path in candidate.paths()]
        return max(scores) if self.settings.aggregate == "max" else sum(scores) / len(scores)

    def _best_path(self) -> list[Chunk]:
        return max((path for one in self._candidates for path in one.paths()), key=lambda path: path[-1].score)

    def _end(self) -> None:
        """Everything has ended: the best leaf is the answer."""
        path = self._best_path()
        self._confirm(path)
        self._finish(path[-1])

    def _confirm(self, path: list[Chunk]) -> None:
        for chunk in path:
            chunk.is_confirmed = True
        self.confirmed.append([token for chunk in path for token in chunk.tokens])

    def _finish(self, leaf: Chunk) -> None:
        self.is_finished = True
        self.score = leaf.score
        self._candidates = []

"""Look-ahead search of one prompt as a state machine, independent of models and tensors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

Proposal = tuple[int, bool]  # a next token, and whether it ends its sequence


MOST_LEAVES = 65_536  # beyond it no memory holds the tree


@dataclass(frozen=True)
class SearchSettings:
    """
    Settings of the search of one prompt.

    Args:
        width (`int`, defaults to 2): Number of next tokens tried at a branch point, the paper's $n$.
        step (`int`, defaults to 10): Number of tokens of a chunk, from one branch point to the next, the paper's $k$.
        depth (`int`, defaults to 2): Number of chunks after the one to be confirmed, the paper's $d$.
        aggregate (`str`, defaults to `"max"`): Aggregation of the scores of a candidate's leaves, `"max"` or `"mean"`.
        score_prompt (`bool`, defaults to `True`): Whether the reward at the last prompt token counts, as in the
            authors' code.
        stop_when_finished_leads (`bool`, defaults to `False`): Whether to end at a branch point if a finished
            sequence has the best score of the whole tree.
        token_budget (`int`, *optional*): Maximum number of leaf tokens to read, after which the best leaf is the
            answer.

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
                raise ValueError(f"`{name}` must be an integer of at least {least}, got {value!r}. Change it.")
        if self.aggregate not in ("max", "mean"):
            raise ValueError(f"`aggregate` must be 'max' or 'mean', got {self.aggregate!r}. Choose one.")

        if self.max_leaves > MOST_LEAVES:
            raise ValueError(
                f"`width` and `depth` must grow at most {MOST_LEAVES} leaves, each a row of every forward, got "
                f"width={self.width} and depth={self.depth} with {self.max_leaves}. Lower one."
            )

    @property
    def max_leaves(self) -> int:
        """Number of live leaves between two branch points of a full tree, $n^{d+1}$."""
        return self.width ** (self.depth + 1)


@dataclass(eq=False)
class Chunk:
    """
    A node of the tree: at most `step` tokens, of which the first was chosen at a branch point.

    Attributes:
        tokens (`list[int]`): Tokens of the node.
        total, weight (`float`): Sums of rewards and of their weights, ancestors included.
        is_finished (`bool`): Whether the last token ends the sequence.
        is_confirmed (`bool`): Whether the tokens are part of the answer.
        children (`list[Chunk]`): Next nodes, most probable first.
    """

    tokens: list[int]
    total: float = 0.0
    weight: float = 0.0
    is_finished: bool = False
    is_confirmed: bool = False
    children: list["Chunk"] = field(default_factory=list)

    @property
    def score(self) -> float:
        """Weighted mean reward of all tokens read since the last prompt token."""
        return self.total / self.weight if self.weight else 0.0

    def paths(self) -> Iterator[list["Chunk"]]:
        """Return the paths from this node to each of its leaves."""
        if not self.children:
            yield [self]
        for child in self.children:
            yield from ([self, *path] for path in child.paths())

    def as_dict(self) -> dict:
        """Return the subtree as JSON values."""
        return {
            "tokens": list(self.tokens),
            "score": self.score,
            "is_finished": self.is_finished,
            "is_confirmed": self.is_confirmed,
            "children": [child.as_dict() for child in self.children],
        }


class LookAheadSearch:
    r"""
    Streaming tree search.

    It extends all live leaves token by token, forks them every `step` tokens, and confirms a chunk once its
    descendants are `depth` chunks deeper.

    $$ \hat c = \arg\max_{c} \max_{l \in \text{leaves}(c)} \frac{1}{m_l} \sum_{t \le m_l} r_t $$

    The search of [SLA](https://huggingface.co/papers/2503.00029), as in its published code: deterministic, and greedy
    between branch points. The score of a leaf is the mean of its token rewards. The reward of an EOS token is never
    read. Ties go to the more probable branch. A finished leaf stays in the tree with its score.

    In each round the caller reads the last token of every leaf in `live` (first the prompt), and passes its reward and
    up to `num_proposals` next tokens to [`advance`].

    Args:
        settings ([`SearchSettings`]): Settings of the search.
        keep_tree (`bool`, defaults to `False`): Whether to keep dropped branches for [`LookAheadSearch.tree`].

    Attributes:
        live (`list[Chunk]`): Leaves to read, in the order of the caller's rows.
        confirmed (`list[list[int]]`): Chunks of the answer so far.
        is_finished (`bool`): Whether the answer is complete.
        score (`float`): Mean reward of the answer's leaf at the last decision.
        num_read (`int`): Leaf-tokens read after the prompt.

    Example:
    ```python
    >>> search = LookAheadSearch(SearchSettings(width=1, step=2, depth=0))
    >>> search.advance([0.0], [[(5, False)]])  # the prompt was read; row 0 continues with proposal 0
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
        self._levels = 0  # depth of the live leaves below the candidates, in chunks
        self._root = root if keep_tree else None
        self._is_prompt = True

    @property
    def num_proposals(self) -> int:
        """Maximum number of next tokens of each live leaf in this round."""
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
        Advance the search by one round.

        Args:
            rewards (`list[float]`): Reward of each live leaf's last token.
            proposals (`list[list[tuple[int, bool]]]`): Next tokens of each live leaf, most probable first, and
                whether they end the sequence; at least one, at most `num_proposals`.
            weights (`list[float]`, *optional*): Weight of each reward in the mean. Default: 1.

        Returns:
            Index of the parent leaf and of its proposal, for each leaf of the new `live`.
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
        Return the whole tree as nested dictionaries `{tokens, score, is_finished, is_confirmed, children}`.

        Raises:
            RuntimeError: If the search was not created with `keep_tree=True`.
        """
        if self._root is None:
            raise RuntimeError(
                "`keep_tree` must be True to return the tree, got False. Create the search with `keep_tree=True`."
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
        """Fork a leaf; a fork starts with its parent's score, and its token is read in the next round."""
        origins = []
        for index, (leaf, own) in enumerate(zip(self.live, proposals, strict=True)):
            leaf.children = [Chunk([token], leaf.total, leaf.weight, ends) for token, ends in own]
            origins += [(index, choice) for choice in range(len(own))]
        self.live = [child for leaf in self.live for child in leaf.children]
        self._levels += 1
        return origins

    def _decide(self) -> None:
        """Confirm a chunk after a fork, if the leaves are deep enough."""
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
        """End the search with the best leaf as answer."""
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

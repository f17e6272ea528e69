"""Objectives of preference pairs, and weights that are drawn for them."""

from collections.abc import Sequence

import torch
from datasets import Dataset, IterableDataset
from jaxtyping import Float
from torch import Tensor

from hf_reward_ext.base.preference.pair_collator import PairCollator


def objective_names(
    dataset: Dataset | IterableDataset, name: str, known: Sequence[str | int] | None = None
) -> list[str | int]:
    """
    Return the names in the column `objective`, sorted.

    Args:
        dataset (`Dataset`): Preference pairs.
        name (`str`): Name of the data, for messages.
        known (`list`, *optional*): Names in the training data, which are returned; others are rejected.

    Raises:
        ValueError: If the data is a stream, has no such column, has names of other types, fewer than two in training,
            or others than the training data.
    """
    if isinstance(dataset, IterableDataset):
        raise ValueError(
            f"The {name} data must be a `Dataset` with `preference_conditioned=True`, got a stream, whose objectives "
            "are not known before training. Load it whole."
        )
    if "objective" not in dataset.column_names:
        raise ValueError(
            f"The {name} data must have a column 'objective' with `preference_conditioned=True`, got "
            f"{sorted(dataset.column_names)}. Name the objective that each pair is about."
        )
    found = dataset.unique("objective")
    if len({type(one) for one in found}) != 1 or type(found[0]) not in (str, int):
        raise ValueError(
            f"`objective` must be a name or a number in every row of the {name} data, got {found[:5]}. Use strings."
        )
    if known is not None and not set(found) <= set(known):
        raise ValueError(
            f"`objective` must be one of {list(known)} in the {name} data, those of the training data, got "
            f"{sorted(set(found) - set(known), key=str)}. Leave these rows out."
        )
    if known is None and len(found) < 2:
        raise ValueError(
            f"`objective` must have two values or more in the {name} data, got {found}. Leave "
            "`preference_conditioned` out for a single objective."
        )
    return sorted(found) if known is None else list(known)


class ObjectiveCollator(PairCollator):
    """
    Collator of pairs with the number of their objective, `objective` of shape `(pairs,)`.

    Args:
        pad_token_id, pad_to_multiple_of: As for [`PairCollator`].
        objectives (`list`): Names of the objectives, in the order of their numbers.
    """

    def __init__(self, pad_token_id: int, pad_to_multiple_of: int | None, objectives: Sequence[str | int]):
        super().__init__(pad_token_id, pad_to_multiple_of)
        self._numbers = {name: number for number, name in enumerate(objectives)}

    def __call__(self, rows: list[dict]) -> dict[str, Tensor]:
        numbers = torch.tensor([self._numbers[row["objective"]] for row in rows])
        return {**super().__call__(rows), "objective": numbers}


def draw_weights(objectives: Float[Tensor, "pairs objectives"]) -> Float[Tensor, "pairs objectives"]:
    r"""
    Draw weights on the simplex for pairs of one objective each, with a density proportional to the weight of theirs.

    $$ w \sim \text{Dirichlet}(1 + e_k), \qquad E_{w \sim \text{Dirichlet}(1 + e_k)}[f(w)] =
       K\,E_{w \sim \text{Dirichlet}(1)}[w_k f(w)] $$

    Args:
        objectives (`torch.Tensor` of shape `(pairs, K)`): 1 at the objective of each pair, and 0 elsewhere.

    Example:
    ```python
    >>> draw_weights(torch.eye(2)).sum(-1)
    tensor([1., 1.])
    ```
    """
    return torch.distributions.Dirichlet(1 + objectives).sample()

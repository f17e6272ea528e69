"""Metrics of how early and how reliably token rewards distinguish chosen from rejected completions."""

import torch
from torch import Tensor

from hf_reward_ext.base.training.token_rewards import masked_mean
from hf_reward_ext.sla.token_losses import Chosen, ChosenMask, Rejected, RejectedMask, align_completions

SHARES = (0.25, 0.5, 1.0)
Sums = tuple[Tensor, Tensor]


def autrc(
    chosen_token_rewards: Chosen,
    chosen_mask: ChosenMask,
    rejected_token_rewards: Rejected,
    rejected_mask: RejectedMask,
    definition: str = "prefix",
) -> float:
    r"""
    Return the area under the token-reward curve (AuTRC).

    The formula of the paper's metric was not available to us; both definitions here are reconstructions.

    $$ \text{prefix:}\quad \frac{1}{G} \sum_{g=1}^{G} \operatorname{acc}(g/G), \qquad
    \operatorname{acc}(p) = \operatorname{mean}[1(S^+_p > S^-_p) + \tfrac12 1(S^+_p = S^-_p)] $$

    with $S_p$ the mean reward of the first $\lceil pT \rceil$ completion tokens, the statistic that the search uses,
    and $G = 100$. `"token"` is the share of aligned positions $i$ (up to the shorter completion) with $r^+_i > r^-_i$.

    Args:
        chosen_token_rewards, rejected_token_rewards (`torch.Tensor` of shape `(batch, seq)`): Reward of each token.
        chosen_mask, rejected_mask (`torch.Tensor` of shape `(batch, seq)`): `True` on completion tokens, EOS included.
        definition (`str`, defaults to `"prefix"`): Definition, `"prefix"` or `"token"`.

    Returns:
        `float` between 0 and 1; chance is 0.5 for `"prefix"`.

    Raises:
        ValueError: If the definition is unknown or a completion is empty.

    Example:
    ```python
    >>> mask = torch.ones(1, 2, dtype=torch.bool)
    >>> autrc(torch.tensor([[0.0, 3.0]]), mask, torch.tensor([[1.0, 0.0]]), mask)
    0.5
    ```
    """
    if definition not in ("prefix", "token"):
        raise ValueError(f"`definition` must be 'prefix' or 'token', got {definition!r}. Choose one.")
    sides = _sides(chosen_token_rewards, chosen_mask, rejected_token_rewards, rejected_mask)
    values, counts = _token_wins(*sides, share=1.0) if definition == "token" else _of_pairs(_area(*sides))
    return (values.sum() / counts.sum()).item()


def preference_metrics(
    chosen: Chosen, chosen_mask: ChosenMask, rejected: Rejected, rejected_mask: RejectedMask
) -> dict[str, float]:
    """
    Return the metrics of the authors' trainer, and AuTRC.

    Returns:
        `dict` with `accuracy` and `margin` of the mean rewards, `chosen_reward` and `rejected_reward`; for the first
        25, 50 and 100 % of the tokens `prefix_accuracy_*` (which prefix has the larger mean) and `token_accuracy_*`
        (share of aligned positions won); `last_token_accuracy`; `autrc`.
    """
    sums = preference_sums(chosen, chosen_mask, rejected, rejected_mask)
    return {name: (values.sum() / counts.sum()).item() for name, (values, counts) in sums.items()}


def preference_sums(
    chosen: Chosen, chosen_mask: ChosenMask, rejected: Rejected, rejected_mask: RejectedMask
) -> dict[str, Sums]:
    """
    Return the values of [`preference_metrics`] per pair, as sums over items and numbers of items.

    Returns:
        `dict` of pairs of `torch.Tensor` of shape `(batch,)`.
    """
    sides = _sides(chosen, chosen_mask, rejected, rejected_mask)
    means = [masked_mean(chosen, chosen_mask), masked_mean(rejected, rejected_mask)]
    of_pairs = {
        "accuracy": _wins(*means),
        "margin": means[0] - means[1],
        "chosen_reward": means[0],
        "rejected_reward": means[1],
        "last_token_accuracy": _wins(*(_at(rows, lengths - 1) for rows, lengths in sides)),
        "autrc": _area(*sides),
    }
    sums = {name: _of_pairs(values) for name, values in of_pairs.items()}
    for share in SHARES:
        sums[f"prefix_accuracy_{share:.0%}".rstrip("%")] = _of_pairs(_prefix_wins(*sides, share=share))
        sums[f"token_accuracy_{share:.0%}".rstrip("%")] = _token_wins(*sides, share=share)
    return sums


def _sides(chosen, chosen_mask, rejected, rejected_mask) -> list[tuple[Tensor, Tensor]]:
    """Return the rewards aligned to the left in double precision, with the number of tokens of each row."""
    sides = []
    for rewards, mask in ((chosen, chosen_mask), (rejected, rejected_mask)):
        mask = mask.bool()
        if not mask.any(-1).all():
            row = int((~mask.any(-1)).nonzero()[0])
            raise ValueError(
                f"Row {row} of a mask marks no token, but rewards are compared token by token. Leave empty "
                "completions out."
            )
        rows, lengths = align_completions([rewards.detach().double()], [mask])
        sides.append((rows[0], lengths[0]))
    return sides


def _of_pairs(values: Tensor) -> Sums:
    return values, torch.ones_like(values)


def _area(*sides: tuple[Tensor, Tensor]) -> Tensor:
    shares = torch.arange(1, 101, dtype=torch.float64) / 100
    return torch.stack([_prefix_wins(*sides, share=share) for share in shares.tolist()]).mean(0)


def _prefix_wins(*sides: tuple[Tensor, Tensor], share: float) -> Tensor:
    means = []
    for rows, lengths in sides:
        counts = _first(share, lengths)
        means.append(_at(rows.cumsum(-1), counts - 1) / counts)
    return _wins(*means)


def _token_wins(*sides: tuple[Tensor, Tensor], share: float) -> Sums:
    (chosen, chosen_lengths), (rejected, rejected_lengths) = sides
    counts = _first(share, chosen_lengths.minimum(rejected_lengths))
    width = int(counts.max())
    counted = torch.arange(width, device=chosen.device) < counts[:, None]
    return ((chosen[:, :width] > rejected[:, :width]) & counted).double().sum(-1), counts


def _first(share: float, lengths: Tensor) -> Tensor:
    # Rounded first, because 0.07 * 100 is slightly more than 7 and its ceiling would be 8.
    return (lengths * share).double().round(decimals=9).ceil().long().clamp(min=1)


def _at(rows: Tensor, index: Tensor) -> Tensor:
    return rows.gather(-1, index[:, None]).squeeze(-1)


def _wins(chosen: Tensor, rejected: Tensor) -> Tensor:
    return (chosen > rejected).double() + 0.5 * (chosen == rejected).double()

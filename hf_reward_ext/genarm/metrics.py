"""Metrics of a batch of preference pairs."""

from jaxtyping import Float
from torch import Tensor

PairRewards = Float[Tensor, " pairs"]


def pair_metrics(chosen: PairRewards, rejected: PairRewards, beta: float) -> dict[str, PairRewards]:
    """
    Return the metrics of each pair, from the log-probabilities of its completions.

    Args:
        chosen, rejected (`torch.Tensor` of shape `(pairs,)`): Log-probabilities of the completions, as in the loss.
        beta (`float`): Scale of the rewards.

    Returns:
        `dict` of `accuracy` (1 if the chosen completion has the larger reward, 0 for a tie), `margin`,
        `rewards/chosen` and `rewards/rejected` (log-probabilities times `beta`), `logps/chosen` and `logps/rejected`.

    Example:
    ```python
    >>> pair_metrics(torch.tensor([-1.0]), torch.tensor([-3.0]), beta=0.5)["margin"]
    tensor([1.])
    ```
    """
    return {
        "accuracy": (chosen > rejected).to(chosen),
        "margin": beta * (chosen - rejected),
        "rewards/chosen": beta * chosen,
        "rewards/rejected": beta * rejected,
        "logps/chosen": chosen,
        "logps/rejected": rejected,
    }


def logps_drift(value: float, key: str, history: list[dict]) -> dict[str, float]:
    """
    Return the change of the evaluation's chosen log-probability since its first evaluation.

    The loss depends on differences only, so both sides may become less likely together, which affects guidance.

    Args:
        value (`float`): Chosen log-probability of this evaluation.
        key (`str`): Name in the log.
        history (`list[dict]`): Earlier logs, which a resumed run has too.

    Example:
    ```python
    >>> logps_drift(-2.5, "eval_logps/chosen", [{"eval_logps/chosen": -2.0}, {"eval_logps/chosen": -2.2}])
    {'logps_drift': -0.5}
    ```
    """
    return {"logps_drift": value - next((row[key] for row in history if key in row), value)}

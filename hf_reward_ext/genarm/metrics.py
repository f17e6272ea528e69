"""What the log says of a batch of preference pairs."""

from jaxtyping import Float
from torch import Tensor

Rewards = Float[Tensor, " pairs"]


def pair_metrics(chosen: Rewards, rejected: Rewards, beta: float) -> dict[str, Rewards]:
    """
    Metrics of each pair, from the log-probabilities of its completions.

    Args:
        chosen, rejected (`torch.Tensor` of shape `(pairs,)`): As they enter the loss.
        beta (`float`): Scale of the rewards.

    Returns:
        `dict` of `accuracy` (1 where the chosen completion has the larger reward, a tie counts 0), `margin`,
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
    Change of the evaluation's chosen log-probability since its first evaluation.

    The loss sees differences only, so both sides may become less likely together, which guidance feels.

    Args:
        value (`float`): Chosen log-probability of this evaluation.
        key (`str`): Its name in the log.
        history (`list[dict]`): Earlier logs; a resumed run has them too.

    Example:
    ```python
    >>> logps_drift(-2.5, "eval_logps/chosen", [{"eval_logps/chosen": -2.0}, {"eval_logps/chosen": -2.2}])
    {'logps_drift': -0.5}
    ```
    """
    return {"logps_drift": value - next((row[key] for row in history if key in row), value)}

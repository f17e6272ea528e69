"""What the log says of a batch of preference pairs."""

import torch
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


def logps_drift(metrics: dict[str, float], history: list[dict]) -> dict[str, float]:
    """
    By how much the evaluation's chosen log-probability moved since its first evaluation.

    The loss sees differences only, so both sides may become less likely together, which guidance feels.

    Args:
        metrics (`dict`): About to be logged.
        history (`list[dict]`): What was logged before; a resumed run has it too.

    Example:
    ```python
    >>> logps_drift({"eval_logps/chosen": -2.5}, [{"eval_logps/chosen": -2.0}, {"eval_logps/chosen": -2.2}])
    {'eval_logps_drift': -0.5}
    ```
    """
    key = next((key for key in metrics if key.startswith("eval_") and key.endswith("logps/chosen")), None)
    if key is None:
        return {}
    first = next((row[key] for row in history if key in row), metrics[key])
    return {key.replace("logps/chosen", "logps_drift"): metrics[key] - first}


def gathered(accelerator, metrics: dict[str, Tensor]) -> dict[str, list[float]]:
    """The values of all processes, without the rows that padded the last batch."""
    values = accelerator.gather_for_metrics(torch.stack(list(metrics.values()), dim=1).detach())
    return dict(zip(metrics, values.T.tolist(), strict=True))

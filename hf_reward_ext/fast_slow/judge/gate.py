"""Gate: fast verdicts from first-token logits, their confidences, and the decision to escalate."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hf_reward_ext.base.options import check_choice, check_number
from hf_reward_ext.fast_slow.judge.confidence import (
    Rule,
    distribution_confidence,
    escalate,
    fast_score,
    intuition_confidence,
    order_average,
    orders_agree,
    preference_probability,
    top_gap_confidence,
    verdict_mass,
    verdict_probabilities,
    vocabulary_entropy_confidence,
)

Pairing = Literal["none", "orders", "responses"]
Distribution = Literal["verdict", "vocabulary", "top_gap"]
ALWAYS = 1.01
NEVER = 0.0


@dataclass(frozen=True)
class Gate:
    r"""
    Rule that decides between a fast verdict and a written judgment; its values are stored in the checkpoint.

    Args:
        intuition_threshold, distribution_threshold (`float`): Thresholds $\theta_I$ and $\theta_D$; 0 never
            escalates, above 1 always does.
        temperature (`float`): Temperature $\tau$ of the fast verdict.
        rule (`str`): Rule, `"or"`, `"and"` or `"weighted"` (with `weight` $w$ on intuition).
        distribution (`str`): Kind of $C_{dist}$: `"verdict"` (mass times certainty), `"vocabulary"` (entropy over the
            whole vocabulary) or `"top_gap"` (first minus second probability).
        reference_score (`float`, *optional*): Mean score of a reference set, for ratings of single responses.
            Without it only their distribution confidence decides. Two verdicts have the reference 0.

    Raises:
        TypeError: If a numeric field is not a number.
        ValueError: If a number is NaN or out of its range, or `rule` or `distribution` is unknown.

    Example:
    ```python
    >>> Gate(0.8, 0.5, rule="and")
    ```
    """

    intuition_threshold: float = 0.5
    distribution_threshold: float = 0.5
    temperature: float = 1.0
    rule: Rule = "or"
    weight: float = 0.5
    distribution: Distribution = "verdict"
    reference_score: float | None = None

    def __post_init__(self):
        check_number("intuition_threshold", self.intuition_threshold, least=0)
        check_number("distribution_threshold", self.distribution_threshold, least=0)
        check_number("temperature", self.temperature, above=0)
        check_number("weight", self.weight, least=0, most=1)
        check_choice("rule", self.rule, get_args(Rule))
        check_choice("distribution", self.distribution, get_args(Distribution))
        if self.reference_score is not None:
            check_number("reference_score", self.reference_score)

    @classmethod
    def from_dict(cls, values: dict) -> "Gate":
        """
        Return the gate stored in a checkpoint.

        Raises:
            ValueError: If there are unknown fields.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or not set(values) <= names:
            raise ValueError(f"`gate` must be a dictionary with any of {sorted(names)}, got {values!r}.")
        return cls(**values)

    @property
    def may_escalate(self) -> bool:
        """Whether any verdict can be escalated."""
        return max(self.intuition_threshold, self.distribution_threshold) > NEVER

    def with_thresholds(self, intuition: float, distribution: float) -> "Gate":
        """Return the same gate with other thresholds."""
        return replace(self, intuition_threshold=intuition, distribution_threshold=distribution)

    def to_dict(self) -> dict:
        """Return the fields to store in a checkpoint."""
        return asdict(self)

    def escalates(self, intuition: Tensor, distribution: Tensor) -> Bool[Tensor, " decisions"]:
        """Return [`escalate`] with the values of this gate; with an intuition of NaN only the distribution counts."""
        args = (self.intuition_threshold, self.distribution_threshold, self.rule, self.weight)
        alone = distribution < self.distribution_threshold
        return torch.where(intuition.isnan(), alone, escalate(intuition, distribution, *args))


class FastVerdicts(NamedTuple):
    """Fast verdicts of a batch; `scores`, `mass` and `verdicts` are per row, other fields per decision."""

    scores: Float[Tensor, " rows"]
    mass: Float[Tensor, " rows"]
    verdicts: Int[Tensor, " rows"]
    difference: Float[Tensor, " decisions"]
    probability: Float[Tensor, " decisions"]
    intuition: Float[Tensor, " decisions"]
    distribution: Float[Tensor, " decisions"]
    consistent: Bool[Tensor, " decisions"]
    escalated: Bool[Tensor, " decisions"]


def read_verdicts(
    logits: Float[Tensor, "rows vocab"],
    verdict_token_ids: Int[Tensor, " verdicts"],
    gate: Gate,
    pairing: Pairing = "none",
    values: Float[Tensor, " verdicts"] | None = None,
) -> FastVerdicts:
    """
    Read the fast verdicts of a batch from its logits.

    Args:
        logits (`torch.Tensor` of shape `(rows, vocab)`): Logits of the first generated token.
        verdict_token_ids (`torch.Tensor` of shape `(verdicts,)`): Token ids of the verdicts.
        gate ([`Gate`]): Temperature, thresholds and rule.
        pairing (`str`, *optional*): Pairing of rows. With `"none"`, every row is a decision. Otherwise rows $2i$ and
            $2i+1$ form one decision: with `"orders"` a pair of responses in both orders, with `"responses"` two
            responses that are judged separately.
        values (`torch.Tensor` of shape `(verdicts,)`, *optional*): Value of each rating.

    Raises:
        ValueError: If `pairing` is unknown, or the number of rows is odd.

    Returns:
        [`FastVerdicts`]. Pairs whose orders disagree have intuition 0; the distribution confidence of a decision is
        the smaller one of its two rows.

    Example:
    ```python
    >>> read_verdicts(torch.tensor([[4.0, 0.0, -9.0]]), torch.tensor([0, 1]), Gate()).probability
    tensor([0.9820])
    ```
    """
    check_pairing(pairing, len(logits))
    logits = logits.float()
    ids = verdict_token_ids.to(logits.device)
    probabilities, mass = verdict_probabilities(logits, ids), verdict_mass(logits, ids)
    scores = fast_score(logits[:, ids], None if values is None else values.to(logits.device))
    distribution = _distribution(gate, logits, probabilities, mass)
    consistent = torch.ones_like(scores, dtype=torch.bool)
    difference = scores
    if pairing != "none":
        first, second = scores[0::2], scores[1::2]
        difference = order_average(first, second) if pairing == "orders" else first - second
        consistent = orders_agree(first, second) if pairing == "orders" else consistent[0::2]
        distribution = torch.minimum(distribution[0::2], distribution[1::2])
    intuition = _intuition(gate, difference, pairing, values) * consistent
    return FastVerdicts(
        scores=scores,
        mass=mass,
        verdicts=probabilities.argmax(-1),
        difference=difference,
        probability=preference_probability(difference, gate.temperature),
        intuition=intuition,
        distribution=distribution,
        consistent=consistent,
        escalated=gate.escalates(intuition, distribution),
    )


def check_pairing(pairing: Pairing, num_rows: int) -> None:
    """Raise `ValueError` if `pairing` is unknown, or the number of rows is odd."""
    check_choice("pairing", pairing, get_args(Pairing))
    if pairing != "none" and num_rows % 2:
        raise ValueError(f"`pairing={pairing!r}` must come with an even number of rows, got {num_rows}.")


def _distribution(gate: Gate, logits: Tensor, probabilities: Tensor, mass: Tensor) -> Tensor:
    if gate.distribution == "verdict":
        return distribution_confidence(probabilities, mass)
    return vocabulary_entropy_confidence(logits) if gate.distribution == "vocabulary" else top_gap_confidence(logits)


def _intuition(gate: Gate, difference: Tensor, pairing: Pairing, values: Tensor | None) -> Tensor:
    if pairing == "none" and gate.reference_score is not None:
        difference = difference - gate.reference_score
    elif pairing == "none" and values is not None:
        return torch.full_like(difference, float("nan"))
    return intuition_confidence(difference, gate.temperature)

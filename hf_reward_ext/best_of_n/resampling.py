"""Best-of-N sampling that replaces weak candidates by copies of better ones."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_reward_ext.base.options import check_number
from hf_reward_ext.best_of_n.pruning import check_steps


@dataclass(frozen=True)
class Resampling:
    r"""
    Settings of particle filtering by the reward of partial completions.

    $$ w_i \propto \exp\big((r_{i,t} - r_{i,s}) / \tau\big), \qquad E[\text{copies of } i] = N w_i $$

    After `steps[k]` tokens the candidates of each prompt are resampled with replacement: weak ones end, and good ones
    continue in several copies, which then get different tokens. $s$ is the previous step ($r_{i,0} = 0$), so that the
    weights multiply to $e^{r/\tau}$: with many candidates the prefixes follow $p(y) e^{r(y)/\tau}$, for any number of
    steps.
    [Particle filtering](https://huggingface.co/papers/2502.01618) multiplies rewards of single steps;
    differences of prefix rewards are our reconstruction. Resampling is systematic: the number of copies of a candidate
    is one of the two integers around $N w_i$.

    Finished candidates are included, and their copies cost nothing.

    Args:
        steps (`tuple[int, ...]`): Completion lengths, ascending, at which candidates are resampled.
        temperature (`float`, *optional*, defaults to 1): Temperature $\tau$, in units of the reward; a lower one
            selects more strictly.

    Example:
    ```python
    >>> pipe(prompt, num_candidates=16, prune=Resampling(steps=(16, 32, 64), temperature=0.5))
    ```
    """

    steps: tuple[int, ...]
    temperature: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "steps", check_steps(self.steps))
        check_number("temperature", self.temperature, above=0)

    def ancestors(
        self, gains: Float[Tensor, "prompts candidates"], offsets: Float[Tensor, " prompts"]
    ) -> Int[Tensor, "prompts candidates"]:
        """
        Return which candidate of its prompt each one continues.

        Args:
            gains (`torch.Tensor` of shape `(prompts, candidates)`): Increase of the rewards since the previous
                step.
            offsets (`torch.Tensor` of shape `(prompts,)`): Uniform random numbers in [0, 1).
        """
        gains = gains.double()
        # Below the best first, since a small temperature makes infinities, of which a softmax has no share.
        weights = ((gains - gains.amax(-1, keepdim=True)) / self.temperature).softmax(-1)
        return systematic_ancestors(weights, offsets.double())


def systematic_ancestors(
    weights: Float[Tensor, "prompts candidates"], offsets: Float[Tensor, " prompts"]
) -> Int[Tensor, "prompts candidates"]:
    """
    Resample candidates with replacement, with one random number per prompt.

    Args:
        weights (`torch.Tensor` of shape `(prompts, candidates)`): Weights with the sum 1.
        offsets (`torch.Tensor` of shape `(prompts,)`): Uniform random numbers in [0, 1).

    Example:
    ```python
    >>> systematic_ancestors(torch.tensor([[0.5, 0.1, 0.4]]), torch.tensor([0.5]))
    tensor([[0, 0, 2]])
    ```
    """
    count = weights.shape[-1]
    sums = weights.cumsum(-1)
    points = (torch.arange(count, device=weights.device) + offsets[:, None]) / count
    total = sums[:, -1:]
    # Below the total also after rounding, so that candidates without weight are never drawn.
    points = torch.minimum(points * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(sums, points, right=True)

"""Combined distribution of guides and policy."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def guided_logps(
    base_logits: Float[Tensor, "*positions vocab"],
    guide_logits: Sequence[Float[Tensor, "*positions guide_vocab"]],
    alpha: Float[Tensor, "*#positions guides"],
    size: int,
) -> Float[Tensor, "*positions vocab"]:
    r"""
    Return the log-probabilities of the guided next-token distribution.

    $$ \log\pi(y_t) = \log\pi_{base}(y_t) + \sum_k \alpha_k \log\pi_k(y_t) - \log Z_t $$

    The decoding rule of [GenARM](https://huggingface.co/papers/2410.08193), for K guides.

    Args:
        base_logits (`torch.Tensor` of shape `(..., vocab)`): Logits or log-probabilities of the policy.
        guide_logits (`list` of `torch.Tensor` of shape `(..., guide_vocab)`): Logits or log-probabilities of each
            guide.
        alpha (`torch.Tensor`, broadcastable to `(..., guides)`): Weights. A guide of weight 0 adds nothing, not
            even its impossible tokens.
        size (`int`): Number of ids that all models share; later ids become `-inf`.

    Returns:
        `torch.Tensor` of the shape of `base_logits`, in nats; `-inf` stays `-inf`.

    Example:
    ```python
    >>> guided_logps(torch.zeros(1, 2), [torch.tensor([[0.0, 1.0]])], torch.ones(1, 1), 2).exp()
    tensor([[0.2689, 0.7311]])
    ```
    """
    dtype = torch.promote_types(base_logits.dtype, torch.float32)
    combined = base_logits[..., :size].to(dtype).log_softmax(-1)
    for number, logits in enumerate(guide_logits):
        weight = alpha[..., number, None].to(dtype)
        logps = logits[..., :size].to(combined.device, dtype).log_softmax(-1)
        combined = combined + torch.where(weight == 0, 0, weight * logps)
    combined = combined.log_softmax(-1)
    if size == base_logits.shape[-1]:
        return combined
    padding = combined.new_full((*combined.shape[:-1], base_logits.shape[-1] - size), -torch.inf)
    return torch.cat([combined, padding], dim=-1)

"""Log-probabilities of tokens under a causal LM, without the full logits if its head allows it."""

# Names that the stubs of transformers and TRL do not know.
# pyright: reportAttributeAccessIssue=false

import functools
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hf_reward_ext.base.lm.forward import forward_parameters
from hf_reward_ext.base.training.token_rewards import gather_token_logps

_PROBE_TOKENS = 16
_OPTIONAL = ("attention_mask", "position_ids")  # some models accept neither


def token_logps(
    model, input_ids: Int[Tensor, "batch seq"], labels: Int[Tensor, "batch seq"], **inputs: Tensor
) -> tuple[Float[Tensor, "batch shifted"], Tensor | None]:
    r"""
    Return $\log\pi(y_t \mid y_{<t})$ of the labels.

    Args:
        model (`nn.Module`): A causal LM with a fused head, see [`add_fused_lm_head`], or a wrapper of one.
        input_ids (`torch.Tensor` of shape `(batch, seq)`): Token ids of the texts.
        labels (`torch.Tensor` of shape `(batch, seq)`): `input_ids`, with -100 at positions to ignore.
        **inputs: `attention_mask` and `position_ids`.

    Returns:
        `torch.Tensor` of shape `(batch, seq - 1)` in float32, 0 for labels of -100, and the load-balancing loss of a
        mixture of experts if its config enables it.
    """
    with _narrow_head_tiles(input_ids.device):
        output = model(input_ids=input_ids, labels=labels, fused_lm_head=True, **inputs)
    return output.log_probs.float(), output.aux_loss


def add_fused_lm_head(causal_lm) -> None:
    """
    Add TRL's fused LM head to a causal LM, which computes log-probabilities without the full logits.

    Afterwards `model(..., labels=labels, fused_lm_head=True).log_probs` has the log-probabilities, with 0 for labels of
    -100. Other calls are not changed. TRL multiplies the backbone's last state by the head's weight, which is wrong if
    an adapter wraps the head, or layers, scales or caps follow the backbone. Therefore both computations are compared
    once on a few tokens, and the full logits are used unless they agree.
    """
    from trl.trainer.utils import add_fused_lm_head as add

    before = vars(causal_lm).get("forward")  # a device map has installed its own forward
    if hasattr(before, "is_checked"):
        return
    add(causal_lm)
    fused = causal_lm.forward.__func__
    plain = type(causal_lm).forward if before is None else lambda _, *args, **kwargs: before(*args, **kwargs)

    @functools.wraps(type(causal_lm).forward)  # `generate` inspects the signature
    def forward(self, *args, fused_lm_head: bool = False, labels: Tensor | None = None, **kwargs):
        if not fused_lm_head:
            return plain(self, *args, **kwargs, **({} if labels is None else {"labels": labels}))
        known = forward_parameters(self)
        _check_padding(self, kwargs.get("attention_mask"), known)
        kwargs = {name: value for name, value in kwargs.items() if name not in _OPTIONAL or name in known}
        if _is_fusible(self, fused, plain, kwargs["input_ids"], kwargs.get("attention_mask")):
            return fused(self, *args, fused_lm_head=True, labels=labels, **kwargs)
        return _from_logits(self, plain, labels, kwargs)  # pyright: ignore[reportArgumentType]

    forward.is_checked = True
    causal_lm.forward = types.MethodType(forward, causal_lm)


def _from_logits(causal_lm, plain: Callable, labels: Tensor, inputs: dict):
    from trl.trainer.utils import FusedCausalLMOutput

    if "use_cache" in forward_parameters(causal_lm):
        inputs = {**inputs, "use_cache": False}
    output = plain(causal_lm, **inputs)
    logps = gather_token_logps(output.logits[:, :-1], labels[:, 1:].clamp(min=0))
    counted = labels[:, 1:] != -100
    return FusedCausalLMOutput(
        log_probs=logps.masked_fill(~counted, 0), label_mask=counted, aux_loss=getattr(output, "aux_loss", None)
    )


def _check_padding(causal_lm, mask: Tensor | None, known: frozenset[str]) -> None:
    if mask is not None and "attention_mask" not in known and not bool(mask[:, 0].all()):
        raise ValueError(
            f"`{type(causal_lm).__name__}.forward` takes no attention mask, so texts must not be padded on the left. "
            "Set `padding_side='right'`."
        )


@torch.no_grad()
def _is_fusible(causal_lm, fused: Callable, plain: Callable, input_ids: Tensor, mask: Tensor | None) -> bool:
    """Return whether the fused head gives the same probabilities as the model's logits."""
    head = causal_lm.get_output_embeddings()
    # Adapters subclass or replace the layer. An adapter that starts at zero would pass the comparison.
    if type(head) is not nn.Linear or causal_lm.base_model is causal_lm:
        return False
    compared = vars(causal_lm).get("_compared_head", (None, False))  # a tuple, so no submodule
    if compared[0] is head:
        return compared[1]
    text = (input_ids[0] if mask is None else input_ids[0][mask[0].bool()])[None, :_PROBE_TOKENS]
    if text.shape[1] < 2:
        return False  # too short to compare anything
    agrees = _agree(causal_lm, fused, plain, text)
    vars(causal_lm)["_compared_head"] = (head, agrees)
    return agrees


def _agree(causal_lm, fused: Callable, plain: Callable, text: Tensor) -> bool:
    with _evaluation_mode(causal_lm):
        logits = plain(causal_lm, input_ids=text).logits
        expected = gather_token_logps(logits[:, :-1], text[:, 1:])
        try:
            found = fused(causal_lm, input_ids=text, labels=text, fused_lm_head=True).log_probs
        except (AttributeError, TypeError, RuntimeError, ValueError):
            return False  # another form of backbone or head
    # A few roundings of the largest logit, the effect of another order of summation.
    tolerance = max(2 * torch.finfo(logits.dtype).eps, 1e-4) * float(logits.abs().max())
    return bool(((found - expected).abs() <= tolerance).all())


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    for module, _ in modes:
        module.training = False
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _narrow_head_tiles(device: torch.device) -> Iterator[None]:
    """
    Set narrower tiles for TRL's fused head without Triton kernels, forward and backward.

    Its implementation in plain torch allocates several tensors of the size of a tile. With the width meant for GPUs a
    step takes three quarters of the memory of full logits, and more time than with narrow tiles. Without gradients they
    are the largest tensors of a forward over few tokens, so they are narrower still.
    """
    from trl.trainer import utils

    wide = utils._CHUNKED_LOGPROB_CHUNK_SIZE
    if device.type not in ("cuda", "xpu"):
        utils._CHUNKED_LOGPROB_CHUNK_SIZE = 8192 if torch.is_grad_enabled() else 1024
    try:
        yield
    finally:
        utils._CHUNKED_LOGPROB_CHUNK_SIZE = wide

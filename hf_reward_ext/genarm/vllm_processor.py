"""GenARM as a logits processor of vLLM; imported by its worker alone, by name."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoModelForCausalLM
from vllm.v1.sample.logits_processor import LogitsProcessor, process_dict_updates  # pyright: ignore[reportMissingImports]

from hf_reward_ext.base.lm.ragged_guide import RaggedGuide
from hf_reward_ext.genarm.causal_lms import check_causal_lm
from hf_reward_ext.genarm.combine import guided_logps
from hf_reward_ext.genarm.undefined import explain_undefined
from hf_reward_ext.genarm.vllm_settings import GuideSettings, check_request
from hf_reward_ext.genarm.vocabulary import common_size

_numbers = count()


@dataclass
class _Request:
    """Request of the batch; vLLM extends `output` itself."""

    alpha: list[float]
    prompt: list[int]
    output: list[int]
    number: int = field(default_factory=_numbers.__next__)


class GenARMVllmProcessor(LogitsProcessor):
    """
    Logits processor of vLLM with the guides of [`vllm_arguments`], one forward of each guide for all rows of a step.

    Args:
        vllm_config (`VllmConfig`): Configuration of the engine, with the guides in `additional_config`.
        device (`torch.device`): Device of the guides.
        is_pin_memory (`bool`): Whether memory can be pinned; not needed here.

    Raises:
        TypeError: If a guide is not a causal LM.
        ValueError: If a guide scores another number of tokens than the policy.
    """

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool):
        self.settings = GuideSettings.of(vllm_config.additional_config)
        models = [_load(name, self.settings.dtype, device) for name in self.settings.guides]
        self._size = common_size(
            vllm_config.model_config.get_vocab_size(),
            [model.config.get_text_config(decoder=True).vocab_size for model in models],
            None,
        )
        self.guides = [RaggedGuide(model) for model in models]
        self._requests: dict[int, _Request] = {}

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Refuse weights of a request that are not finite numbers."""
        try:
            check_request(sampling_params.extra_args)
        except TypeError as error:
            raise ValueError(str(error)) from error  # vLLM answers a `ValueError` with 400

    def is_argmax_invariant(self) -> bool:
        """Return that greedy decoding changes too."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """Follow the requests that joined, left or moved within the batch."""
        process_dict_updates(self._requests, batch_update, self._new_request)

    def apply(self, logits: Float[Tensor, "rows vocab"]) -> Float[Tensor, "rows vocab"]:
        """Return the guided log-probabilities of rows with weights, and other rows as they are."""
        guided = {row: one for row, one in sorted(self._requests.items()) if any(one.alpha)}
        if not guided:
            return logits
        if any(-1 in one.output[-1:] for one in guided.values()):
            raise RuntimeError(
                "The tokens of every request must be known at its next step. Create the engine with "
                "`async_scheduling=False`."
            )
        texts: dict[Hashable, list[int]] = {one.number: [*one.prompt, *one.output] for one in guided.values()}
        rows = torch.tensor(list(guided), device=logits.device)
        scores = [guide.next_token_logits(texts) for guide in self.guides]
        alpha = torch.tensor([one.alpha for one in guided.values()], device=logits.device)
        combined = guided_logps(logits[rows], scores, alpha, self._size)
        if combined.isnan().any():
            raise explain_undefined(logits[rows], scores, max(len(one.output) for one in guided.values()))
        logits[rows] = combined.to(logits.dtype)
        return logits

    def _new_request(self, params: Any, prompt: list[int] | None, output: list[int]) -> _Request:
        if prompt is None:
            raise ValueError(
                "A guided prompt must consist of token ids, which guides read, got embeddings. Pass text or token ids."
            )
        return _Request(self.settings.alpha_of(params.extra_args), prompt, output)


def _load(name: str, dtype: str, device: torch.device) -> Any:
    model: Any = AutoModelForCausalLM.from_pretrained(name, dtype=dtype)
    check_causal_lm(model, "A guide")
    return model.to(device).eval()

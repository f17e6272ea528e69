"""Hidden states of candidates from vLLM, without a second pass."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from hf_reward_ext.base.lm.final_norm import load_final_norm
from hf_reward_ext.base.options import check_choice
from hf_reward_ext.engines.generator import Generated, Prompt, Sampling
from hf_reward_ext.engines.prompt_ids import check_prompts, encode_prompt
from hf_reward_ext.engines.vllm import VllmGenerator, extracted_layers, import_vllm

Read = TypeVar("Read")
States = Sequence[Float[Tensor, "1 tokens hidden"] | None]
_CONNECTOR = "HiddenStatesConnector"
_SCHEDULER = "hf_reward_ext.engines.vllm_scheduler.StateScheduler"
# Room for the token after the last one, and for the draft that is not used.
_SPARE = 2


def vllm_state_arguments(layers: Sequence[int], folder: str | Path) -> dict[str, Any]:
    """
    Return the arguments with which a `vllm.LLM` gives hidden states, for [`VllmStateGenerator`].

    Args:
        layers (`list[int]`): Hidden states to read, such as `head.config.layers`: from 0 (embedding) to the number of
            layers.
        folder (`str` or `Path`): Folder of the files through which they pass, best in memory (`/dev/shm/...`). Each
            file is deleted once it is read.

    Returns:
        `dict`: `speculative_config`, `kv_transfer_config`, and a scheduler without drafts, for `vllm.LLM(model,
        **arguments)`.

    Raises:
        ValueError: If there is no layer, or one is negative.

    Example:
    ```python
    >>> llm = vllm.LLM("Qwen/Qwen3-0.6B", **vllm_state_arguments(head.config.layers, "/dev/shm/states"))
    ```
    """
    if not layers or min(layers) < 0 or len(set(layers)) < len(layers):
        raise ValueError(
            f"`layers` must be different hidden states from 0 (embedding), got {list(layers)}. Pass "
            "`head.config.layers`."
        )
    return {
        "speculative_config": {
            "method": "extract_hidden_states",
            "num_speculative_tokens": 1,
            "draft_model_config": {"hf_config": {"eagle_aux_hidden_state_layer_ids": list(layers)}},
        },
        "scheduler_cls": _SCHEDULER,
        "async_scheduling": False,  # that scheduler assumes drafts
        "kv_transfer_config": {
            "kv_connector": _CONNECTOR,
            "kv_connector_module_path": "hf_reward_ext.engines.vllm_connector",
            "kv_role": "kv_producer",
            "kv_connector_extra_config": {"shared_storage_path": str(Path(folder).resolve())},
        },
    }


class VllmStateGenerator(VllmGenerator):
    """
    Generator of candidates and their hidden states by a `vllm.LLM` in this process.

    The states are those that vLLM computes while it generates. Those of the very last token are not computed then; one
    more request of prompt and candidate, whose blocks are cached, adds them.

    Args:
        llm (`vllm.LLM`): Engine created with [`vllm_state_arguments`].
        log_probabilities, top_log_probabilities: As for [`VllmGenerator`].
        last_token (`str`, *optional*, defaults to `"forward"`): Treatment of the last token: `"forward"` reads its
            states; `"skip"` leaves it out, except of candidates of one token, and saves that request.

    Raises:
        TypeError, ValueError: As for [`VllmGenerator`], and if the engine gives no hidden states.

    Example:
    ```python
    >>> head = ELHSRModel.from_pretrained("path/to/head")
    >>> llm = vllm.LLM("Qwen/Qwen3-0.6B", **vllm_state_arguments(head.config.layers, "/dev/shm/states"))
    >>> EngineBestOfN(VllmStateGenerator(llm), head, num_candidates=16)("2+2=")
    ```
    """

    _reads_states = True

    def __init__(
        self,
        llm: Any,
        *,
        log_probabilities: bool = False,
        top_log_probabilities: int = 0,
        last_token: str = "forward",
    ):
        super().__init__(llm, log_probabilities=log_probabilities, top_log_probabilities=top_log_probabilities)
        check_choice("last_token", last_token, ("forward", "skip"))
        self.last_token = last_token
        self.layers = extracted_layers(llm)
        transfer = llm.llm_engine.vllm_config.kv_transfer_config
        scheduler = getattr(llm.llm_engine.vllm_config, "scheduler_config", None)
        if (
            not self.layers
            or getattr(transfer, "kv_connector", None) != _CONNECTOR
            or getattr(scheduler, "scheduler_cls", None) != _SCHEDULER
        ):
            raise ValueError(
                "`llm` must give hidden states, got an engine that gives none. Create it with `vllm.LLM(model, "
                "**vllm_state_arguments(head.config.layers, folder))`."
            )
        self.num_layers: int = llm.model_config.hf_text_config.num_hidden_layers
        if max(self.layers) > self.num_layers:
            raise ValueError(
                f"`llm` must give hidden states up to {self.num_layers}, got {self.layers}. Create it with the layers "
                "of a head of its model."
            )
        min_p = llm.get_default_sampling_params().min_p
        if min_p:
            raise ValueError(
                f"The generation config of the model must have no `min_p`, which vLLM does not apply with hidden "
                f"states, got {min_p}. Create the engine with `generation_config='vllm'`."
            )
        self._norm = None
        if self.num_layers in self.layers:
            config = llm.model_config
            self._norm = load_final_norm(config.model, config.revision, dtype=config.dtype)

    def describe(self) -> dict[str, Any]:
        """Return what [`VllmGenerator`] returns, and the treatment of the last token."""
        return super().describe() | {"last_token": self.last_token}

    def generate(
        self, prompts: Sequence[Prompt], num_candidates: int, sampling: Sampling, first: int = 0
    ) -> list[list[Generated]]:
        """Write candidates of every prompt, see [`Generator`]."""
        groups = self.generate_and_read(prompts, num_candidates, sampling, first, read=lambda _: None)
        return [[one for one, _ in group] for group in groups]

    def generate_and_read(
        self,
        prompts: Sequence[Prompt],
        num_candidates: int,
        sampling: Sampling,
        first: int = 0,
        *,
        read: Callable[[States], Read],
    ) -> list[list[tuple[Generated, Read]]]:
        """
        Write candidates of every prompt, and read the hidden states of each.

        Args:
            prompts, num_candidates, sampling, first: As for [`Generator`].
            read (`callable`): Function of the hidden states of one candidate, as `output_hidden_states=True` of
                transformers returns them, of shape `(1, tokens, hidden)` for its tokens alone; `None` for layers that
                the engine does not give. What it returns is kept, and the states are not.

        Returns:
            A `list` of pairs for each prompt: [`Generated`], and what `read` returned.

        Raises:
            ValueError, RuntimeError: As for [`VllmGenerator`].
        """
        sampling.check_variety(num_candidates)
        check_prompts(prompts)
        encoded = [encode_prompt(prompt, self.tokenizer) for prompt in prompts]
        self._check_room(encoded, sampling.max_new_tokens + _SPARE)
        if not encoded:
            return []
        keep = {"kv_transfer_params": {"include_output_tokens": True}}
        # One request for each candidate: the answer to a request with `n` names one file.
        asked = [
            (ids, self._sampling_params(prompt, sampling, first + number, n=1, extra_args=keep))
            for prompt, ids in zip(prompts, encoded, strict=True)
            for number in range(num_candidates)
        ]
        outputs = self._ask([ids for ids, _ in asked], [settings for _, settings in asked])
        made = [self._read_candidate(output.outputs[0]) for output in outputs]
        last = self._ask_for_last_tokens([ids for ids, _ in asked], made)
        pairs = []
        for place, (one, output, (ids, _)) in enumerate(zip(made, outputs, asked, strict=True)):
            states = _take(output)[len(ids) :]
            if place in last:
                states = torch.cat([states, _take(last[place])[-1:]])
            pairs.append((one, read(self._as_of_transformers(states))))
        return [pairs[start : start + num_candidates] for start in range(0, len(pairs), num_candidates)]

    def _ask_for_last_tokens(self, prompts: list[list[int]], made: list[Generated]) -> dict[int, Any]:
        """Ask for the states of the last token of each candidate, and return the answers by its place."""
        places = [place for place, one in enumerate(made) if self.last_token == "forward" or one.num_tokens == 1]
        if not places:
            return {}
        greedy = import_vllm().SamplingParams(max_tokens=1, temperature=0.0, detokenize=False)
        texts = [[*prompts[place], *(made[place].token_ids or ())] for place in places]
        return dict(zip(places, self._ask(texts, [greedy] * len(texts)), strict=True))

    def _ask(self, ids: list[list[int]], settings: list[Any]) -> list[Any]:
        outputs = self.llm.generate([{"prompt_token_ids": one} for one in ids], settings, use_tqdm=False)
        # The states of the last requests are written one step later, which an engine in another process runs by itself.
        core = getattr(self.llm.llm_engine.engine_core, "engine_core", None)
        while core is not None and core.scheduler.has_requests():
            self.llm.llm_engine.step()
        return outputs

    def _as_of_transformers(self, states: Float[Tensor, "tokens layers hidden"]) -> States:
        found: list[Tensor | None] = [None] * (self.num_layers + 1)
        for place, layer in enumerate(self.layers):
            found[layer] = states[None, :, place]
        if self._norm is not None:
            found[self.num_layers] = self._norm(found[self.num_layers])
        return found


def _take(output: Any) -> Float[Tensor, "tokens layers hidden"]:
    """Return the hidden states of a request, and delete their file."""
    import fcntl  # not on every system where this package runs

    path = Path((output.kv_transfer_params or {}).get("hidden_states_path", ""))
    if not path.name:
        raise RuntimeError("vLLM must name a file of hidden states for every request, got none. See its log.")
    lock = path.with_name(f"{path.name}.lock")
    with lock.open("rb") as opened:
        fcntl.flock(opened, fcntl.LOCK_SH)  # until the file is written
    states = load_file(path)["hidden_states"]
    path.unlink()
    lock.unlink()
    return states

"""The parts of vLLM 0.32 that generators call; the real one runs in tests/engines/test_vllm_llm.py."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch
from safetensors.torch import save_file


class FakeLLM:
    """Echoes ids that depend on the seed; as in vLLM, candidate i of a request has its seed plus i."""

    def __init__(self, tokenizer, *, max_model_len=512, finish_reason="stop", num_outputs=None, **config):
        defaults = dict(model="tiny", revision=None, dtype="torch.float32", quantization=None, runner_type="generate",
                        logprobs_mode="raw_logprobs", max_logprobs=20)  # fmt: skip
        self.model_config = SimpleNamespace(**{**defaults, **config}, max_model_len=max_model_len)
        self.llm_engine = SimpleNamespace(
            vllm_config=SimpleNamespace(additional_config={}, speculative_config=None, kv_transfer_config=None)
        )
        self.tokenizer, self.finish_reason, self.num_outputs = tokenizer, finish_reason, num_outputs
        self.requests = []

    def get_tokenizer(self):
        return self.tokenizer

    def get_default_sampling_params(self):
        return SimpleNamespace(min_p=0.0, repetition_penalty=1.25)

    def generate(self, prompts, sampling_params, use_tqdm):
        self.requests += list(zip(prompts, sampling_params, strict=True))
        return [self._output(settings) for settings in sampling_params]

    def _output(self, settings):
        outputs = []
        for number in range(self.num_outputs or getattr(settings, "n", 1)):
            ids = [8 + (getattr(settings, "seed", 0) + number) % 20, 9, 2]
            count, scored = getattr(settings, "logprobs", None), None
            if count is not None:
                # The most probable tokens, and the sampled one; in any order.
                top = {100 + place: SimpleNamespace(logprob=-place / 4 - 0.1) for place in range(count)}
                scored = [{one: SimpleNamespace(logprob=-one / 8), **top} for one in ids]
            outputs.append(
                SimpleNamespace(index=number, token_ids=ids, logprobs=scored, finish_reason=self.finish_reason)
            )
        return SimpleNamespace(outputs=outputs[::-1])  # in any order


class FakeStateLLM(FakeLLM):
    """
    Writes states of every request as the connector does: of token `id` in layer `layer` they are `id + layer / 100`.

    Args:
        arguments (`dict`): As from `vllm_state_arguments`.
    """

    def __init__(self, tokenizer, config, arguments):
        super().__init__(tokenizer, hf_config=config, hf_text_config=config)
        layers = arguments["speculative_config"]["draft_model_config"]["hf_config"]["eagle_aux_hidden_state_layer_ids"]
        self.folder = Path(arguments["kv_transfer_config"]["kv_connector_extra_config"]["shared_storage_path"])
        self.layers, self.width = layers, config.hidden_size
        draft = SimpleNamespace(hf_config=SimpleNamespace(eagle_aux_hidden_state_layer_ids=layers))
        settings = self.llm_engine.vllm_config
        settings.speculative_config = SimpleNamespace(method="extract_hidden_states", draft_model_config=draft)
        settings.scheduler_config = SimpleNamespace(scheduler_cls=arguments["scheduler_cls"])
        self.llm_engine.engine_core = None  # the engine is in another process
        settings.kv_transfer_config = SimpleNamespace(**arguments["kv_transfer_config"])

    def generate(self, prompts, sampling_params, use_tqdm):
        outputs = super().generate(prompts, sampling_params, use_tqdm)
        for number, (prompt, settings, output) in enumerate(zip(prompts, sampling_params, outputs, strict=True)):
            with_output = getattr(settings, "extra_args", {}).get("kv_transfer_params", {}).get("include_output_tokens")
            ids = [*prompt["prompt_token_ids"], *(output.outputs[0].token_ids[:-1] if with_output else [])]
            states = torch.tensor(ids)[:, None, None] + torch.tensor(self.layers)[None, :, None] / 100
            path = self.folder / f"{len(self.requests)}-{number}.safetensors"
            save_file({"hidden_states": states.expand(-1, -1, self.width).contiguous()}, path)
            path.with_name(f"{path.name}.lock").touch()
            output.kv_transfer_params = {"hidden_states_path": str(path)}
        return outputs


def install(monkeypatch, **names):
    """Make `import vllm` return a module with `SamplingParams` and these names."""
    module = ModuleType("vllm")
    vars(module).update(SamplingParams=SimpleNamespace, **names)
    monkeypatch.setitem(sys.modules, "vllm", module)

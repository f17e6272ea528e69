"""What has to come out: a model that reads every row alone, without padding and without a cache."""

import inspect

import torch
from architectures.build import BOS, EOS, PAD, VOCAB
from transformers import GenerationConfig, GenerationMixin, LlamaConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

NEW_TOKENS = 6
SAMPLING = dict(do_sample=True, top_k=0, top_p=1.0)
MODES = {
    "greedy": dict(do_sample=False),
    "sampling": SAMPLING,
    "4 beams": dict(num_beams=4, do_sample=False),
    "4 returns": dict(num_return_sequences=4, **SAMPLING),
}


class FreshReader:
    """Outputs of a model for one row of ids at a time, each computed from its beginning and kept."""

    def __init__(self, model):
        self.model = model
        self._takes = inspect.signature(model.forward).parameters
        self._kept: dict[tuple[int, ...], torch.Tensor] = {}

    def last_logits(self, row: tuple[int, ...]) -> torch.Tensor:
        if row not in self._kept:
            self._kept[row] = self.read(row).logits[0, -1]
        return self._kept[row]

    @torch.no_grad()
    def read(self, row: tuple[int, ...], **kwargs):
        options = {"use_cache": False, "position_ids": torch.arange(len(row))[None]}  # what `generate` passes
        taken = {name: value for name, value in options.items() if name in self._takes}
        return self.model(input_ids=torch.tensor([row]), **taken, **kwargs)


class StatelessLM(PreTrainedModel, GenerationMixin):
    """The product of the distributions of some models, each to its power, in float64."""

    config_class = LlamaConfig

    def __init__(self, readers: list[FreshReader], powers: list[float]):
        super().__init__(LlamaConfig(vocab_size=VOCAB, use_cache=False))
        self.readers, self.powers = readers, powers
        self.generation_config = GenerationConfig(pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS)
        self.place = torch.nn.Parameter(torch.zeros(1))  # `generate` asks on which device the model is

    def prepare_inputs_for_generation(self, input_ids, attention_mask=None, **kwargs):
        return {"input_ids": input_ids, "attention_mask": attention_mask}

    def forward(self, input_ids, attention_mask=None, **kwargs):
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        rows = [tuple(ids[kept].tolist()) for ids, kept in zip(input_ids, mask.bool(), strict=True)]
        logps = []
        for row in rows:
            parts = zip(self.powers, self.readers, strict=True)
            total = sum(power * one.last_logits(row).double().log_softmax(-1) for power, one in parts)
            logps.append(total.log_softmax(-1))
        return CausalLMOutput(logits=torch.stack(logps)[:, None])


def generate(model, batch, mode: str, seed: int = 7, **kwargs) -> torch.Tensor:
    """New tokens of a seeded call."""
    ids, mask = batch
    torch.manual_seed(seed)
    output = model.generate(ids, attention_mask=mask, max_new_tokens=NEW_TOKENS, **MODES[mode], **kwargs)
    return output[:, ids.shape[1] :] if isinstance(output, torch.Tensor) else output

"""Guided decoding without caches or batches, and every way of decoding that must give the same tokens."""

import functools

import torch
from tiny import PAD, left_padded_batch, tiny_causal_lm
from transformers import LogitsProcessor, LogitsProcessorList

from hf_reward_ext.genarm import GenARMLogitsProcessor, GuidedCausalLM

NEW_TOKENS = 8
SAMPLING = dict(do_sample=True, top_k=0, top_p=1.0)
# What `generate` gets, and the plain way that has to give the same tokens.
MODES = {
    "greedy": (dict(do_sample=False), {}),
    "sampling": (SAMPLING, SAMPLING),
    "4 beams": (dict(num_beams=4), dict(num_beams=4)),
    "beam sampling": (dict(num_beams=3, **SAMPLING), dict(num_beams=3, **SAMPLING)),
    "4 return sequences": (dict(num_return_sequences=4, **SAMPLING), dict(num_return_sequences=4, **SAMPLING)),
    "prompt lookup": (dict(prompt_lookup_num_tokens=3), {}),
    "assistant model": (dict(assistant_model=True), {}),
    "static cache": (dict(cache_implementation="static"), {}),
    "second call": (dict(do_sample=False), {}),
    "alpha (B, K)": (dict(do_sample=False), {}),
    "alpha (B, K), 4 beams": (dict(num_beams=4), dict(num_beams=4)),
}
ONE_PROMPT = ("prompt lookup", "assistant model")


class Reference(LogitsProcessor):
    """No cache, no batch, no padding: each row alone, one guide after the other, in float64."""

    def __init__(self, guides, alpha):
        self.guides, self.alpha = guides, torch.as_tensor(alpha, dtype=torch.float64)

    @staticmethod
    @functools.lru_cache(maxsize=4096)  # beams and modes share most of their beginnings
    def logps(guide, *ids):
        return guide(torch.tensor([ids]), use_cache=False).logits[0, -1].log_softmax(-1)

    @torch.no_grad()
    def __call__(self, input_ids, scores):
        weights = self.alpha if self.alpha.dim() == 2 else self.alpha.expand(1, len(self.guides))
        weights = weights.repeat_interleave(len(input_ids) // len(weights), dim=0)
        rows = []
        for row, base, own in zip(input_ids, scores, weights, strict=True):
            total = base.double().log_softmax(-1)
            start = int((row != PAD).int().argmax())
            for guide, weight in zip(self.guides, own, strict=True):
                total = total + weight * self.logps(guide, *row[start:].tolist())
            rows.append(total.log_softmax(-1))
        return torch.stack(rows).to(scores.dtype)


def generate(model, ids, mask, seed, processor=None, **kwargs):
    torch.manual_seed(seed)
    processors = LogitsProcessorList([] if processor is None else [processor])
    return model.generate(ids, attention_mask=mask, max_new_tokens=NEW_TOKENS, logits_processor=processors, **kwargs)


def float64_lm(architecture: str, seed: int):
    """Eager attention takes its softmax in float32, where the float64 mask of a padded row overflows to NaN."""
    model = tiny_causal_lm(architecture, seed=seed, dtype=torch.float64)
    model.set_attn_implementation("sdpa")
    return model


class Draw:
    """One random policy with K random guides, and the reference tokens of every mode."""

    def __init__(self, architecture: str, num_guides: int, seed: int):
        self.seed = seed
        self.policy, *self.guides = (
            float64_lm(architecture, seed=1000 * seed + number) for number in range(num_guides + 1)
        )
        self.batch, self.other_batch = left_padded_batch(seed=seed), left_padded_batch((4, 6), seed=seed + 1)
        generator = torch.Generator().manual_seed(seed)
        self.alpha = (torch.rand(num_guides, generator=generator) * 2).tolist()
        self.alpha_rows = torch.rand(len(self.batch[0]), num_guides, generator=generator) * 2

    def prompts(self, mode: str):
        if mode in ONE_PROMPT:
            ids, mask = self.batch
            return ids[-1:], mask[-1:]  # the longest: without padding
        return self.other_batch if mode == "second call" else self.batch

    def alpha_of(self, mode: str):
        return self.alpha_rows if "(B, K)" in mode else self.alpha

    def reference(self, mode: str):
        processor = Reference(self.guides, self.alpha_of(mode))
        return generate(self.policy, *self.prompts(mode), self.seed, processor, use_cache=False, **MODES[mode][1])

    def processor(self, mode: str):
        """With `GenARMLogitsProcessor`; the assistant is another random model."""
        kwargs = dict(MODES[mode][0])
        if "assistant_model" in kwargs:
            kwargs["assistant_model"] = float64_lm("llama", seed=77)
        processor = GenARMLogitsProcessor(self.guides, self.alpha_of(mode))
        if mode == "second call":
            generate(self.policy, *self.batch, self.seed, processor, num_beams=2)
        return generate(self.policy, *self.prompts(mode), self.seed, processor, **kwargs)

    def composite(self, mode: str):
        """With `GuidedCausalLM`; the first guide is the assistant."""
        kwargs = dict(MODES[mode][0])
        if "assistant_model" in kwargs:
            kwargs["assistant_model"] = self.guides[0]
        guided = GuidedCausalLM(self.policy, self.guides, self.alpha_of(mode))
        if mode == "second call":
            generate(guided, *self.batch, self.seed, num_beams=2)
        return generate(guided, *self.prompts(mode), self.seed, **kwargs)

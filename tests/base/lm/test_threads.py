"""One object in many threads: every call gets what it gets alone."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny import left_padded_batch, tiny_causal_lm

from hf_reward_ext import GenARMLogitsProcessor, GuidedCausalLM, RewardTransformer, SLALogitsProcessor, sla_generate


def adapted(target_modules):
    torch.manual_seed(0)
    config = LoraConfig(r=2, target_modules=target_modules, init_lora_weights=False)
    model = get_peft_model(tiny_causal_lm(), config, adapter_name="one")
    model.add_adapter("two", config)
    return model.eval()


@pytest.mark.parametrize("num_threads", [2, 8])
@pytest.mark.parametrize("kind", ["processor", "composite", "adapters", "schedule", "look-ahead", "search"])
def test_threads_write_what_each_call_writes_alone(kind, num_threads):
    policy, guide = tiny_causal_lm(), tiny_causal_lm(seed=1)
    settings: dict = dict(max_new_tokens=6, do_sample=False)
    model = policy
    if kind == "processor":
        settings["logits_processor"] = [GenARMLogitsProcessor(guide, alpha=2.0)]
    elif kind == "adapters":
        model = GuidedCausalLM.from_peft(adapted(["q_proj", "embed_tokens", "lm_head"]), ["one", "two"], [2.0, -1.0])
    elif kind in ("composite", "schedule"):
        model = GuidedCausalLM(policy, guide, 2.0 if kind == "composite" else lambda step: 2.0 / (1 + step))
    else:
        model = RewardTransformer.from_base(policy, 8)
        search = dict(width=2, step=2, depth=1)
        if kind == "search":
            settings |= search | {"custom_generate": sla_generate}
        else:
            settings["logits_processor"] = [SLALogitsProcessor(model, **search)]
    prompts = [left_padded_batch((3 + index % 4, 2), seed=index) for index in range(8)]

    def run(prompt):
        return model.generate(prompt[0], attention_mask=prompt[1], **settings)

    alone = [run(prompt) for prompt in prompts]
    with ThreadPoolExecutor(num_threads) as pool:
        together = list(pool.map(run, prompts * 2))
    for index, ours in enumerate(together):
        assert torch.equal(ours, alone[index % len(alone)])


def test_calls_outside_generate_keep_apart_too():
    guide = tiny_causal_lm(seed=1)
    processor = GenARMLogitsProcessor(guide)
    rows = [torch.randint(3, 32, (1, 4)) for _ in range(8)]

    def run(ids):
        scores = []
        for length in (2, 3, 4):
            scores.append(processor(ids[:, :length], torch.zeros(1, 32)))
        return torch.cat(scores)

    alone = [run(ids) for ids in rows]
    with ThreadPoolExecutor(4) as pool:
        for ours, expected in zip(pool.map(run, rows * 3), alone * 3, strict=True):
            torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("target_modules", ["all-linear", ["v_proj", "embed_tokens"]])
def test_objects_that_share_one_model_keep_apart(target_modules):
    """Guides by either adapter, by both, and the adapted model itself: each sees its own rows and adapters."""
    model = adapted(target_modules)
    models = [GuidedCausalLM.from_peft(model, names, 2.0) for names in ("one", "two", ["one", "two"])] + [model]
    prompts = [left_padded_batch((3,) * rows, seed=rows) for rows in (1, 2, 3, 4)]

    def run(number):
        ids, mask = prompts[number % 4]
        return models[number // 4].generate(input_ids=ids, attention_mask=mask, max_new_tokens=6, do_sample=False)

    alone = [run(number) for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(run, list(range(16)) * 2))
    for number, ours in enumerate(together):
        assert torch.equal(ours, alone[number % 16])
    assert not any("forward" in vars(module) for module in model.modules())

import math

import pytest
import torch
from guided_reference import float64_lm
from peft import LoraConfig, get_peft_model
from tiny import PAD, VOCAB, left_padded_batch

from hf_reward_ext.genarm import GuidanceTrace, GuidedCausalLM, trace_guidance


def models(count=3):
    return [float64_lm("llama", seed) for seed in range(count)]


def test_numbers_worked_out_by_hand():
    # Two tokens. Policy (1/2, 1/2), guide (1/4, 3/4), alpha 1: guided (1/4, 3/4), Z = 1/2.
    base = torch.zeros(1, 1, 2, dtype=torch.float64)
    guide = torch.tensor([[[1.0, 3.0]]], dtype=torch.float64).log()
    yes = torch.ones(1, 1, dtype=torch.bool)
    trace = GuidanceTrace.from_logits(base, [guide], torch.ones(1, 1, 1), torch.tensor([[1]]), yes, 2)
    expected = dict(base_logps=0.5, guided_logps=0.75, guide_logps=0.75, log_z=0.5)
    for name, probability in expected.items():
        assert getattr(trace, name).item() == pytest.approx(math.log(probability))
    assert trace.kl.item() == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5))
    assert trace.base_entropy.item() == pytest.approx(math.log(2))


def test_an_impossible_token_adds_nothing_to_the_divergence():
    base = torch.tensor([[[0.0, -torch.inf, 0.0]]])
    guide = torch.tensor([[[0.0, 0.0, -torch.inf]]])
    yes = torch.ones(1, 1, dtype=torch.bool)
    trace = GuidanceTrace.from_logits(base, [guide], torch.ones(1, 1, 1), torch.tensor([[0]]), yes, 3)
    assert trace.guided_logps.item() == pytest.approx(0)
    assert trace.kl.item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("alpha", [0.7, [0.5, 1.5], lambda step: 1.0 / (step + 1)])
def test_a_trace_holds_what_generate_sampled_from(alpha):
    policy, *guides = models()
    guided = GuidedCausalLM(policy, guides, alpha)
    guided.generation_config.eos_token_id = list(range(2, 8))  # so that some rows end early
    ids, mask = left_padded_batch()
    torch.manual_seed(0)
    out = guided.generate(
        ids, attention_mask=mask, do_sample=True, top_k=0, max_new_tokens=8, num_return_sequences=2,
        return_dict_in_generate=True, output_logits=True,
    )  # fmt: skip
    trace = trace_guidance(guided, out.sequences, ids.shape[1], mask, rows_at_once=4)
    seen = torch.stack(out.logits, dim=1).double()
    tokens = out.sequences[:, ids.shape[1] :]
    on = trace.completion_mask
    sampled = seen.gather(-1, tokens[..., None]).squeeze(-1)
    torch.testing.assert_close(trace.guided_logps[on], sampled[on], atol=1e-5, rtol=0)
    assert not trace.guided_logps[~on].any() and (~on).any() and (tokens[~on] == PAD).all()
    weights = torch.stack([torch.as_tensor(alpha(s) if callable(alpha) else alpha).expand(2) for s in range(8)])
    product = trace.base_logps + (weights[: on.shape[1]] * trace.guide_logps).sum(-1)
    torch.testing.assert_close(product - trace.log_z, trace.guided_logps)
    torch.testing.assert_close(trace.log_weights, trace.log_z.sum(-1))
    assert (trace.kl[on] > 0).all()


def test_weight_zero_is_no_divergence():
    policy, guide = models(2)
    trace = trace_guidance(GuidedCausalLM(policy, guide, 0.0), torch.randint(3, VOCAB, (2, 6)), prompt_length=2)
    torch.testing.assert_close(trace.kl, torch.zeros(2, 4, dtype=torch.float64))
    torch.testing.assert_close(trace.log_z, torch.zeros(2, 4, dtype=torch.float64))
    torch.testing.assert_close(trace.guided_logps, trace.base_logps)


def test_adapters_on_the_policy_are_traced_alike():
    model = get_peft_model(models(1)[0], LoraConfig(target_modules="all-linear", init_lora_weights=False)).eval()
    ids = torch.randint(3, VOCAB, (2, 6))
    trace = trace_guidance(GuidedCausalLM.from_peft(model), ids, prompt_length=3)
    tokens = ids[:, 3:, None]
    guide = model(ids).logits[:, 2:-1].log_softmax(-1).gather(-1, tokens)
    torch.testing.assert_close(trace.guide_logps * trace.completion_mask[..., None], guide)
    with model.disable_adapter():
        base = model(ids).logits[:, 2:-1].log_softmax(-1).gather(-1, tokens)
    torch.testing.assert_close(trace.base_logps, base.squeeze(-1))


def test_a_prompt_alone_is_refused():
    policy, guide = models(2)
    with pytest.raises(ValueError, match="after the 5 columns of the prompt, got 5 columns"):
        trace_guidance(GuidedCausalLM(policy, guide), torch.ones(1, 5, dtype=torch.long), prompt_length=5)

"""Drafts of a policy with a `GenARMLogitsProcessor`: tokens and distribution of the processor without drafts."""

import math

import pytest
import torch
from enumerated import check_samples, enumerated, tiny_vocabulary, warm
from guided_reference import Draw, float64_lm
from peft import LoraConfig, get_peft_model
from tiny import ARCHITECTURES, PAD, left_padded_batch, tiny_causal_lm
from transformers import LogitsProcessor, MambaConfig, MambaForCausalLM

from hf_reward_ext.genarm import GenARMLogitsProcessor, GuidedCausalLM, speculative_generate
from hf_reward_ext.genarm.conditioning import condition_adapter

ENDS = [2, 5, 9, 13, 20]  # enough ids that random rows end at different lengths


def settings_of(mask, new_tokens=12, **kwargs):
    return dict(attention_mask=mask, max_new_tokens=new_tokens, eos_token_id=ENDS, pad_token_id=PAD) | kwargs


def both(policy, processors, ids, mask, count=3, drafter=None, **kwargs):
    """Tokens with and without drafts."""
    settings = settings_of(mask, logits_processor=processors, **kwargs)
    drafted = policy.generate(
        ids, custom_generate=speculative_generate, num_draft_tokens=count, drafter=drafter, **settings
    )
    return drafted, policy.generate(ids, **settings)


def guides_of(count=1):
    return [float64_lm("llama", 100 + number) for number in range(count)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_tokens_equal_those_of_the_reference(architecture):
    for num_guides, mode in ((1, "greedy"), (2, "alpha (B, K)")):
        draw = Draw(architecture, num_guides, seed=1)
        processor = GenARMLogitsProcessor(draw.guides, draw.alpha_of(mode))
        ids, mask = draw.prompts(mode)
        drafted, plain = both(draw.policy, [processor], ids, mask, 4, new_tokens=8, eos_token_id=2)
        assert torch.equal(drafted, draw.reference(mode)) and torch.equal(drafted, plain)


@pytest.mark.parametrize("lengths", [(5, 3, 7), (9, 1, 2, 2, 6, 1)])
@pytest.mark.parametrize(
    "alpha", [0.3, 30.0, lambda step: 0.5 * step], ids=["few accepted", "most accepted", "schedule"]
)
def test_rows_of_any_lengths_end_when_they_end_without_drafts(lengths, alpha):
    processor = GenARMLogitsProcessor(guides_of(), alpha)
    for count, drafter in ((1, None), (5, float64_lm("qwen3", 3))):
        drafted, plain = both(float64_lm("llama", 0), [processor], *left_padded_batch(lengths), count, drafter)
        assert torch.equal(drafted, plain)


class Squash(LogitsProcessor):
    """Changes the scores by the row, and in a way that does not commute with guidance."""

    def __call__(self, input_ids, scores):
        return scores.scatter(-1, input_ids, -torch.inf).clamp(max=0.5)


@pytest.mark.parametrize("guided_at", [0, 1, 2])
def test_processors_act_before_or_after_the_guides_as_without_drafts(guided_at):
    policy, squashed = float64_lm("llama", 0), [Squash(), Squash()]
    processors = [*squashed[:guided_at], GenARMLogitsProcessor(guides_of(2), [2.0, 1.0]), *squashed[guided_at:]]
    ids, mask = left_padded_batch((5, 3, 7, 2))
    drafted, plain = both(policy, processors, ids, mask, repetition_penalty=2.0, min_new_tokens=4)
    assert torch.equal(drafted, plain)


def test_certain_steps_are_not_guided_and_counted():
    policy, (ids, mask) = float64_lm("llama", 0), left_padded_batch((5, 3, 7))
    with torch.no_grad():
        entropy = torch.special.entr(policy(ids, attention_mask=mask).logits.softmax(-1)).sum(-1)
    threshold, shares = float(entropy[mask.bool()].median()), []
    for use_drafts in (True, False):
        processor = GenARMLogitsProcessor(guides_of(), 3.0, entropy_threshold=threshold)
        custom = dict(custom_generate=speculative_generate) if use_drafts else {}
        out = policy.generate(ids, **settings_of(mask, logits_processor=[processor], eos_token_id=None, **custom))
        shares.append((processor.skipped_share, out))
    assert torch.equal(shares[0][1], shares[1][1])
    assert 0 < shares[1][0] < 1 and abs(shares[0][0] - shares[1][0]) < 0.1  # drafts may pass the end


def test_one_forward_of_policy_and_guide_reads_all_drafts():
    policy, guide = float64_lm("llama", 0), guides_of()[0]
    processor = GenARMLogitsProcessor(guide, alpha=0.0)
    forwards = {"policy": 0, "guide": 0}
    for name, model in (("policy", policy), ("guide", guide)):
        model.register_forward_pre_hook(lambda *_, name=name: forwards.update({name: forwards[name] + 1}))
    ids, mask = left_padded_batch((5, 3, 7))
    out = policy.generate(
        ids, attention_mask=mask, max_new_tokens=12, eos_token_id=None, logits_processor=[processor],
        custom_generate=speculative_generate, drafter=float64_lm("llama", 0), num_draft_tokens=3,
        return_dict_in_generate=True,
    )  # fmt: skip
    assert forwards == {"policy": math.ceil(12 / 4), "guide": math.ceil(12 / 4)} and out.num_rounds == 3
    assert out.num_accepted == out.num_drafted > 0


def test_samples_have_the_guided_distribution():
    policy, guide = tiny_vocabulary(0), tiny_vocabulary(1)
    ids, mask = torch.tensor([[PAD, PAD, 3], [4, 1, 3]]), torch.tensor([[0, 0, 1], [1, 1, 1]])
    copies, length = 250, 3
    torch.manual_seed(0)
    out = policy.generate(
        ids, attention_mask=mask, do_sample=True, max_new_tokens=length, num_return_sequences=copies, eos_token_id=2,
        pad_token_id=PAD, top_k=3, temperature=0.7, logits_processor=[GenARMLogitsProcessor(guide, 0.8)],
        custom_generate=speculative_generate, num_draft_tokens=2,
    )  # fmt: skip
    guided = GuidedCausalLM(policy, guide, 0.8)
    for row, prompt in enumerate(([3], [4, 1, 3])):
        check_samples(out[row * copies : (row + 1) * copies, 3:], enumerated(guided, prompt, length, warm))


def conditioned():
    config = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=2)
    guide = get_peft_model(tiny_causal_lm("llama", seed=3), config)
    condition_adapter(guide, 2)
    return guide.eval()


def mamba():
    return MambaForCausalLM(MambaConfig(vocab_size=32, hidden_size=8, num_hidden_layers=1)).eval()


IDS = torch.tensor([[4, 5], [6, 7]])
REFUSED = {
    "prompt of the guides": (lambda: [GenARMLogitsProcessor(guides_of(), prompt_ids=IDS)], "`prompt_ids` of the"),
    "mask of the guides": (
        lambda: [GenARMLogitsProcessor(guides_of(), prompt_attention_mask=torch.ones_like(IDS))],
        "`prompt_attention_mask` of the processor must be None",
    ),
    "static cache": (lambda: [GenARMLogitsProcessor(guides_of(), static_cache_length=9)], "`static_cache_length` of"),
    "conditioned": (lambda: [GenARMLogitsProcessor(conditioned(), weights=[0.5, 0.5])], "Call `fold_weights"),
    "recurrent guide": (lambda: [GenARMLogitsProcessor(mamba())], "attention layers only .* got a `MambaForCausalLM`"),
    "two processors": (lambda: [GenARMLogitsProcessor(guides_of()) for _ in range(2)], "Pass all guides to one"),
    "none": (list, "or a policy with a `GenARMLogitsProcessor`"),
}


@pytest.mark.filterwarnings("ignore:The cache of `MambaForCausalLM`")
@pytest.mark.parametrize("name", REFUSED)
def test_options_under_which_texts_differ_are_refused_before_work_starts(name):
    make, message = REFUSED[name]
    policy, processors = float64_lm("llama", 0), make()
    for model in (policy, *(guide.model for one in processors for guide in one.guides)):
        model.register_forward_pre_hook(lambda *_: pytest.fail("work had started"))
    with pytest.raises((ValueError, TypeError), match=message):
        policy.generate(IDS, custom_generate=speculative_generate, max_new_tokens=4, logits_processor=processors)

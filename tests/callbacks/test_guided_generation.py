import pytest
import torch
from tiny import tiny_causal_lm, tiny_tokenizer
from transformers import MambaConfig, MambaForCausalLM
from trl import DPOConfig

from hf_reward_ext import GuidedGenerationCallback
from hf_reward_ext.callbacks.candidates import Sampling, sample_candidates
from hf_reward_ext.callbacks.prompts import given_prompts

PROMPTS = ["w3 w4", "w5", "w6 w7 w8"]
WORD = tiny_tokenizer()("w9")["input_ids"][0]


def loving_guide(strength=5.0):
    """Likes one word, whatever stands before it."""
    guide = tiny_causal_lm(initializer_range=0.01)
    with torch.no_grad():
        guide.lm_head = torch.nn.Linear(16, 32)
        guide.lm_head.weight.zero_()
        guide.lm_head.bias.zero_()
        guide.lm_head.bias[WORD] = strength
    return guide


def share_of_w9(completions):
    return [text.split().count("w9") / max(len(text.split()), 1) for text in completions]


def config(folder):
    return DPOConfig(
        str(folder), max_steps=2, eval_strategy="steps", eval_steps=2, save_strategy="no", report_to="none",
        bf16=False, use_cpu=True, per_device_train_batch_size=2,
    )  # fmt: skip


@pytest.mark.stack
def test_reward_and_divergence_grow_with_the_weight(tiny_dpo, tmp_path):
    callback = GuidedGenerationCallback(
        PROMPTS, share_of_w9, loving_guide(), alphas=(0.5, 1.0), num_candidates=8, max_new_tokens=6
    )
    trainer = tiny_dpo(config(tmp_path), callback)
    trainer.train()
    (values,) = [row for row in trainer.state.log_history if "eval_guided_reward_alpha_0" in row]
    rewards = [values[f"eval_guided_reward_alpha_{alpha}"] for alpha in ("0", "0.5", "1")]
    assert rewards == sorted(rewards) and rewards[2] > rewards[0] + 0.5
    assert 0 < values["eval_guided_kl_alpha_0.5"] < values["eval_guided_kl_alpha_1"]
    assert "eval_guided_kl_alpha_0" not in values
    frame = callback.table.frame
    assert list(frame.columns) == ["step", "prompt", "completion", "reward", "alpha", "kl"] and len(frame) == 9


@pytest.mark.parametrize("has_eos", [True, False])
@torch.no_grad()
def test_the_divergence_is_that_of_the_distributions(has_eos):
    """The filler of a row that ended early does not count, also where only the tokenizer knows the EOS token."""
    policy, guide, tokenizer = tiny_causal_lm(), loving_guide(), tiny_tokenizer()
    if not has_eos:
        policy.generation_config.eos_token_id = None
        tokenizer.pad_token = tokenizer.eos_token
        guide.lm_head.bias[tokenizer.eos_token_id] = 5.0
    prompts = given_prompts(PROMPTS, tokenizer)
    callback = GuidedGenerationCallback(PROMPTS, share_of_w9, guide, alphas=(1.0,), max_new_tokens=4)
    sampling = Sampling(max_new_tokens=4)
    results = callback.measure(policy, tokenizer, prompts, 0, sampling)
    from hf_reward_ext.genarm import GenARMLogitsProcessor

    groups, _ = sample_candidates(
        policy, tokenizer, prompts, 1, sampling, logits_processor=[GenARMLogitsProcessor(guide, 1.0)]
    )
    assert has_eos or len({len(group[0].ids) for group in groups}) > 1
    for prompt, group, result in zip(prompts, groups, results, strict=True):
        total = 0.0
        for place in range(len(group[0].ids)):
            ids = torch.tensor([[*prompt.ids, *group[0].ids[:place]]])
            base, own = (model(ids).logits[0, -1].log_softmax(-1) for model in (policy, guide))
            guided = (base + own).log_softmax(-1)
            total += float((guided.exp() * (guided - base)).sum())
        assert result[1.0]["kl"] == [pytest.approx(total, rel=1e-3)]


def test_the_model_in_training_may_be_the_guide(tiny_dpo, tmp_path):
    callback = GuidedGenerationCallback(
        PROMPTS, share_of_w9, policy=tiny_causal_lm(initializer_range=0.1), alphas=(1.0,), max_new_tokens=6,
        num_candidates=8,
    )  # fmt: skip
    metrics = tiny_dpo(config(tmp_path), callback, policy=loving_guide()).evaluate()
    assert metrics["eval_guided_reward_alpha_1"] > metrics["eval_guided_reward_alpha_0"] + 0.3


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="`guides` and `policy` must be given, got neither"):
        GuidedGenerationCallback(PROMPTS, share_of_w9)
    with pytest.raises(ValueError, match="`guides` and `policy` must be given, got both"):
        GuidedGenerationCallback(PROMPTS, share_of_w9, 1, policy=2)
    with pytest.raises(ValueError, match="must be different weights"):
        GuidedGenerationCallback(PROMPTS, share_of_w9, 1, alphas=(1.0, 1.0))
    with pytest.raises(ValueError, match="`alphas` must be finite"):
        GuidedGenerationCallback(PROMPTS, share_of_w9, 1, alphas=(float("nan"),))
    with pytest.raises(ValueError, match="`num_candidates` must be at least 1"):
        GuidedGenerationCallback(PROMPTS, share_of_w9, 1, num_candidates=0)


@pytest.mark.filterwarnings("ignore:The cache of `MambaForCausalLM` cannot follow rows:UserWarning")
@pytest.mark.parametrize("kind", ["mamba", "several"])
def test_guides_of_any_kind_are_traced(kind, tiny_dpo, tmp_path):
    """A state-space guide has no cache that could be joined with the policy's."""
    if kind == "mamba":
        config_of_guide = MambaConfig(
            vocab_size=32, hidden_size=16, state_size=4, num_hidden_layers=2, pad_token_id=0, eos_token_id=2
        )
        guides = MambaForCausalLM(config_of_guide).eval()
    else:
        guides = [loving_guide(), tiny_causal_lm("gemma3_text", seed=1)]
    callback = GuidedGenerationCallback(PROMPTS, share_of_w9, guides, alphas=(1.0,), max_new_tokens=6)
    metrics = tiny_dpo(config(tmp_path), callback).evaluate()
    assert metrics["eval_guided_kl_alpha_1"] > 0


def test_completions_without_an_answer_are_left_out_and_counted(tiny_dpo, tmp_path):
    def reward(completions):
        return [None if index == 0 else 1.0 for index in range(len(completions))]

    callback = GuidedGenerationCallback(PROMPTS, reward, loving_guide(), alphas=(1.0,), max_new_tokens=4, batch_size=3)
    metrics = tiny_dpo(config(tmp_path), callback).evaluate()
    assert metrics["eval_guided_reward_alpha_0"] == metrics["eval_guided_reward_alpha_1"] == 1.0
    assert metrics["eval_guided_unanswered_ratio_alpha_1"] == pytest.approx(1 / 3)

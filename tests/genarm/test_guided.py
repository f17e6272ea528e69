import pytest
import torch
from tiny import ARCHITECTURES, VOCAB, left_padded_batch, tiny_causal_lm, tiny_tokenizer
from transformers import TextStreamer
from transformers.cache_utils import DynamicLayer

from hf_reward_ext.base.lm.forward import CACHE_NAMES, cache_of
from hf_reward_ext.genarm import GenARMLogitsProcessor, GuidedCausalLM

MODES = {
    "greedy": dict(do_sample=False),
    "sampling": dict(do_sample=True, top_k=0),
    "8 samples": dict(do_sample=True, top_k=0, num_return_sequences=8),
    "beams": dict(do_sample=False, num_beams=4, num_return_sequences=3),
    "beam sampling": dict(do_sample=True, num_beams=3, top_k=0),
    "static cache": dict(do_sample=False, cache_implementation="static"),
    "prompt lookup": dict(do_sample=False, prompt_lookup_num_tokens=3),
    "the guide drafts": dict(do_sample=False, assistant_model=True),
}


def run(model, ids, mask, mode, seed=0, guide=None, processor=None):
    kwargs = dict(MODES[mode])
    if "prompt_lookup_num_tokens" in kwargs or "assistant_model" in kwargs:
        ids, mask = ids[:1, mask[0].argmax() :], mask[:1, mask[0].argmax() :]
    if "assistant_model" in kwargs:
        kwargs["assistant_model"] = guide
    if processor is not None:
        kwargs = {**kwargs, "logits_processor": [processor]}
        for name in ("assistant_model", "cache_implementation", "prompt_lookup_num_tokens"):
            kwargs.pop(name, None)  # the processor's answer without any shortcut
    torch.manual_seed(seed)
    return model.generate(ids, attention_mask=mask, max_new_tokens=10, **kwargs)


@pytest.mark.stack
@pytest.mark.parametrize("mode", MODES)
def test_random_pairs_decode_as_with_the_processor(mode):
    wrong = 0
    for draw in range(3):
        policy, guide = tiny_causal_lm("llama", seed=draw), tiny_causal_lm("llama", seed=100 + draw)
        ids, mask = left_padded_batch(seed=draw)
        ours = run(GuidedCausalLM(policy, guide, alpha=1.5), ids, mask, mode, draw, guide)
        theirs = run(policy, ids, mask, mode, draw, processor=GenARMLogitsProcessor(guide, 1.5))
        wrong += not torch.equal(ours, theirs)
    assert wrong == 0


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("mode", ["greedy", "beams", "8 samples"])
def test_architectures_mix(arch, mode):
    policy, guides = tiny_causal_lm(arch), [tiny_causal_lm("llama", seed=1), tiny_causal_lm("qwen3", seed=2)]
    ids, mask = left_padded_batch()
    ours = run(GuidedCausalLM(policy, guides, [0.5, 1.0]), ids, mask, mode)
    theirs = run(policy, ids, mask, mode, processor=GenARMLogitsProcessor(guides, [0.5, 1.0]))
    assert torch.equal(ours, theirs)


@pytest.mark.stack
def test_forward_is_the_formula_with_and_without_a_cache():
    policy, guide = tiny_causal_lm("llama", dtype=torch.float64), tiny_causal_lm("llama", seed=1, dtype=torch.float64)
    guided = GuidedCausalLM(policy, guide, alpha=0.5)
    ids = torch.randint(3, VOCAB, (2, 6))
    expected = (policy(ids).logits.log_softmax(-1) + 0.5 * guide(ids).logits.log_softmax(-1)).log_softmax(-1)
    torch.testing.assert_close(guided(ids).logits, expected)
    first = guided(ids[:, :4], use_cache=True)
    rest = guided(ids[:, 4:5], past_key_values=cache_of(first), use_cache=True)
    last = guided(ids[:, 5:], cache=cache_of(rest), use_cache=True)  # either name of transformers
    torch.testing.assert_close(torch.cat([first.logits, rest.logits, last.logits], 1), expected)
    with pytest.raises(ValueError, match="One cache must be given"):
        guided(ids, cache=cache_of(first), past_key_values=cache_of(first))
    for unknown in ("kv_store", "labels", "inputs_embeds"):
        with pytest.raises(ValueError, match=f"handle alike, got `{unknown}`"):
            guided(ids, **{unknown: torch.ones(1)})
    for kept in (1, 4, torch.tensor([1, 3])):
        chosen = kept if isinstance(kept, torch.Tensor) else slice(-kept, None)
        torch.testing.assert_close(guided(ids, logits_to_keep=kept).logits, expected[:, chosen])


@pytest.mark.stack
def test_a_schedule_follows_the_positions_that_are_kept():
    policy, guide = tiny_causal_lm("llama", dtype=torch.float64), tiny_causal_lm("llama", seed=1, dtype=torch.float64)
    guided = GuidedCausalLM(policy, guide, alpha=lambda step: 0.5 * step)
    ids = torch.randint(3, VOCAB, (2, 6))
    expected = guided(ids).logits
    for kept in (1, 4, torch.tensor([1, 3])):
        chosen = kept if isinstance(kept, torch.Tensor) else slice(-kept, None)
        torch.testing.assert_close(guided(ids, logits_to_keep=kept).logits, expected[:, chosen])


def test_weights_change_between_calls_and_per_prompt():
    policy, guides = tiny_causal_lm("llama"), [tiny_causal_lm("llama", seed=seed) for seed in (1, 2)]
    guided = GuidedCausalLM(policy, guides, alpha=0.0)
    ids, mask = left_padded_batch()
    assert torch.equal(run(guided, ids, mask, "greedy"), policy.generate(ids, attention_mask=mask, max_new_tokens=10))
    for alpha in (torch.rand(len(ids), 2) * 3, [1.0, 0.3]):
        guided.alpha = alpha
        for mode in ("greedy", "beams"):
            processor = GenARMLogitsProcessor(guides, alpha)
            assert torch.equal(run(guided, ids, mask, mode), run(policy, ids, mask, mode, processor=processor))


def test_schedules_agree_with_the_processor():
    def schedule(step):
        return 2.0 if step % 2 else 0.0

    policy, guide = tiny_causal_lm("llama"), tiny_causal_lm("llama", seed=1)
    ids, mask = left_padded_batch()
    for mode in ("greedy", "beams", "prompt lookup"):
        ours = run(GuidedCausalLM(policy, guide, schedule), ids, mask, mode)
        theirs = run(policy, ids, mask, mode, processor=GenARMLogitsProcessor(guide, schedule))
        assert torch.equal(ours, theirs)


def test_nan_names_the_model_and_the_step():
    policy, guide = tiny_causal_lm("llama"), tiny_causal_lm("llama", seed=1)

    def spoil(step):
        if step == 2:
            guide.lm_head.weight.data[3] = torch.nan
        return 1.0

    guided = GuidedCausalLM(policy, guide, spoil)
    with pytest.raises(ValueError, match="Guide 0 gave NaN at step 3"):
        guided.generate(torch.tensor([[4, 5]]), max_new_tokens=6, min_new_tokens=6)


@pytest.mark.stack
def test_streaming(capsys):
    policy, guide = tiny_causal_lm("llama"), tiny_causal_lm("llama", seed=1)
    guided = GuidedCausalLM(policy, guide)
    ids = torch.tensor([[10, 11, 12]])
    out = guided.generate(ids, max_new_tokens=5, streamer=TextStreamer(tiny_tokenizer()))
    assert capsys.readouterr().out.split() == tiny_tokenizer().decode(out[0]).split()


def test_what_one_cache_cannot_do_is_refused():
    policy, guide = tiny_causal_lm("llama"), tiny_causal_lm("llama", seed=1)
    guided = GuidedCausalLM(policy, guide)
    ids = torch.tensor([[4, 5]])
    with pytest.raises(ValueError, match="paged"):
        guided.generate(ids, cache_implementation="paged")
    with pytest.raises(ValueError, match="generate_batch"):
        guided.generate_batch([[4, 5]])
    with pytest.raises(ValueError, match="`inputs_embeds` must not be given"):
        guided.generate(inputs_embeds=torch.zeros(1, 2, 16))
    with pytest.raises(ValueError, match="own folders"):
        guided.save_pretrained("anywhere")
    with pytest.raises(ValueError, match=r"windows \[4, 8\].*GenARMLogitsProcessor"):
        GuidedCausalLM(tiny_causal_lm("gemma3_text"), tiny_causal_lm("gemma3_text", sliding_window=8))
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        GuidedCausalLM(policy, guide, alpha=[1.0, 2.0])
    guide.resize_token_embeddings(VOCAB + 8)
    with pytest.raises(ValueError, match="guide_tokenizers="):
        GuidedCausalLM(policy, guide)(ids)
    tokenizer = tiny_tokenizer()
    together = GuidedCausalLM(policy, guide, tokenizer=tokenizer, guide_tokenizers=[tokenizer])
    assert together(ids).logits.shape[-1] == VOCAB


def _append_a_layer(kwargs):
    cache = next(kwargs[name] for name in CACHE_NAMES if kwargs.get(name) is not None)
    cache.layers.append(DynamicLayer())


@pytest.mark.parametrize("looping", ["policy", "guide"])
def test_a_model_that_stores_more_layers_than_it_names_is_refused(looping):
    """As models that run their layers in a loop do: the next model's layers would be overwritten."""
    models = {"policy": tiny_causal_lm("llama"), "guide": tiny_causal_lm("llama", seed=1)}
    attention = models[looping].model.layers[-1].self_attn
    attention.layer_idx = 3
    attention.register_forward_pre_hook(lambda module, args, kwargs: _append_a_layer(kwargs), with_kwargs=True)
    guided = GuidedCausalLM(models["policy"], models["guide"])
    with pytest.raises(ValueError, match="a model of 3 layers that stores layer 3.*Use `GenARMLogitsProcessor`"):
        guided.generate(torch.tensor([[4, 5]]), max_new_tokens=2)

"""Guided decoding against a reference that runs every guide over every prefix from scratch."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny import ARCHITECTURES, PAD, VOCAB, left_padded_batch, tiny_causal_lm, tiny_tokenizer
from transformers import LogitsProcessor, LogitsProcessorList, T5Config, T5ForConditionalGeneration

from hf_reward_ext.genarm import GenARMLogitsProcessor


class Reference(LogitsProcessor):
    """No cache, no batch: each row without its padding, one guide after the other."""

    def __init__(self, guides, alpha):
        self.guides, self.alpha = guides, alpha

    @torch.no_grad()
    def __call__(self, input_ids, scores):
        rows = []
        for row, base in zip(input_ids, scores, strict=True):
            start = int((row != PAD).int().argmax())
            total = base.log_softmax(-1)
            for guide, alpha in zip(self.guides, self.alpha, strict=True):
                total = total + alpha * guide(row[None, start:]).logits[0, -1].float().log_softmax(-1)
            rows.append(total.log_softmax(-1))
        return torch.stack(rows)


MODES = {
    "greedy": dict(do_sample=False),
    "sampling": dict(do_sample=True, top_k=0),
    "8 samples": dict(do_sample=True, top_k=0, num_return_sequences=8),
    "top-p": dict(do_sample=True, top_p=0.7, temperature=0.6, num_return_sequences=2),
    "beams": dict(do_sample=False, num_beams=4, num_return_sequences=3),
    "beam sampling": dict(do_sample=True, num_beams=3, top_k=0),
    "prompt lookup": dict(do_sample=False, prompt_lookup_num_tokens=3),
    "assisted": dict(do_sample=False, assistant_model=True),
}


def run(policy, processor, ids, mask, mode, seed=0):
    kwargs = dict(MODES[mode])
    if "prompt_lookup_num_tokens" in kwargs or "assistant_model" in kwargs:
        ids, mask = ids[:1, mask[0].argmax() :], mask[:1, mask[0].argmax() :]
    if "assistant_model" in kwargs:
        kwargs["assistant_model"] = tiny_causal_lm("llama", seed=77)
    torch.manual_seed(seed)
    return policy.generate(
        ids, attention_mask=mask, logits_processor=LogitsProcessorList([processor]), max_new_tokens=10, **kwargs
    )


@pytest.mark.stack
@pytest.mark.parametrize("mode", MODES)
def test_random_pairs_of_models_decode_as_the_reference(mode):
    wrong = 0
    for draw in range(3):
        policy, guide = tiny_causal_lm("llama", seed=draw), tiny_causal_lm("llama", seed=100 + draw)
        ids, mask = left_padded_batch(seed=draw)
        ours = run(policy, GenARMLogitsProcessor(guide, alpha=1.5), ids, mask, mode, seed=draw)
        theirs = run(policy, Reference([guide], [1.5]), ids, mask, mode, seed=draw)
        wrong += not torch.equal(ours, theirs)
    assert wrong == 0


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("mode", MODES)
def test_guides_of_other_architectures(arch, mode):
    policy, guides = tiny_causal_lm("llama"), [tiny_causal_lm(arch, seed=3), tiny_causal_lm("gpt_neox", seed=4)]
    ids, mask = left_padded_batch()
    ours = run(policy, GenARMLogitsProcessor(guides, alpha=[0.7, 1.2]), ids, mask, mode)
    assert torch.equal(ours, run(policy, Reference(guides, [0.7, 1.2]), ids, mask, mode))


def test_one_processor_serves_any_sequence_of_calls():
    policy, guide = tiny_causal_lm("llama"), tiny_causal_lm("llama", seed=1)
    processor = GenARMLogitsProcessor(guide, alpha=2.0)
    batches = [left_padded_batch(seed=seed) for seed in (0, 0, 1)]
    for number, (ids, mask) in enumerate([*batches, (batches[1][0][:2], batches[1][1][:2])]):
        for mode in ("beams", "greedy", "8 samples", "prompt lookup", "assisted", "greedy"):
            ours = run(policy, processor, ids, mask, mode)
            assert torch.equal(ours, run(policy, Reference([guide], [2.0]), ids, mask, mode)), (number, mode)


def test_the_guide_reads_each_token_once_where_rows_only_grow():
    policy, guide = tiny_causal_lm("llama"), tiny_causal_lm("llama", seed=1)
    ids, mask = left_padded_batch()
    processor = GenARMLogitsProcessor(guide)
    out = run(policy, processor, ids, mask, "greedy")
    assert processor.guides[0].num_tokens_read == out[:, :-1].numel()


def test_beams_reorder_the_cache_instead_of_reading_again():
    policy, guide = tiny_causal_lm("llama"), tiny_causal_lm("llama", seed=1)
    ids, mask = left_padded_batch()
    processor = GenARMLogitsProcessor(guide)
    run(policy, processor, ids, mask, "beams")
    rows = 4 * len(ids)
    assert processor.guides[0].num_tokens_read <= rows * (ids.shape[1] + 10)


def test_scores_are_normalized_log_probabilities_and_impossible_tokens_stay_impossible():
    guide = tiny_causal_lm("llama", seed=1)
    scores = torch.randn(2, VOCAB)
    scores[0, 5] = scores[1, 7:9] = -torch.inf
    out = GenARMLogitsProcessor(guide, alpha=1.0)(torch.tensor([[4, 5], [6, 7]]), scores)
    torch.testing.assert_close(out.logsumexp(-1), torch.zeros(2), atol=1e-5, rtol=0)
    assert torch.equal(out.isinf(), scores.isinf())


def test_alpha_zero_is_the_policy_and_a_large_alpha_is_the_guide():
    guide = tiny_causal_lm("llama", seed=1)
    ids, scores = torch.tensor([[4, 5, 6]]), torch.randn(1, VOCAB)
    torch.testing.assert_close(GenARMLogitsProcessor(guide, alpha=0.0)(ids, scores), scores.log_softmax(-1))
    assert GenARMLogitsProcessor(guide, alpha=1e4)(ids, scores).argmax() == guide(ids).logits[0, -1].argmax()


@pytest.mark.stack
def test_weights_per_prompt_follow_beams_and_return_sequences():
    policy, guides = tiny_causal_lm("llama"), [tiny_causal_lm("llama", seed=seed) for seed in (1, 2)]
    ids, mask = left_padded_batch()
    alpha = torch.rand(len(ids), 2) * 3
    for mode in ("beams", "greedy"):
        together = run(policy, GenARMLogitsProcessor(guides, alpha=alpha), ids, mask, mode)
        count = len(together) // len(ids)
        for row in range(len(ids)):
            own = run(policy, Reference(guides, alpha[row].tolist()), ids[row : row + 1], mask[row : row + 1], mode)
            part = together[row * count : (row + 1) * count, : own.shape[1]]
            assert torch.equal(part, own)


def test_two_processors_in_a_row_equal_one_with_two_guides():
    policy, guides = tiny_causal_lm("llama"), [tiny_causal_lm("llama", seed=seed) for seed in (1, 2)]
    ids, mask = left_padded_batch()
    torch.manual_seed(0)
    chained = policy.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=8,
        logits_processor=[GenARMLogitsProcessor(guides[0], 0.5), GenARMLogitsProcessor(guides[1], 1.5)],
    )
    together = policy.generate(
        ids, attention_mask=mask, max_new_tokens=8, logits_processor=[GenARMLogitsProcessor(guides, [0.5, 1.5])]
    )
    assert torch.equal(chained, together)


def test_the_guides_own_rendering_of_the_prompt():
    policy, guide = tiny_causal_lm("llama"), tiny_causal_lm("llama", seed=1)
    ids = torch.tensor([[4, 5, 6], [7, 8, 9]])
    own = torch.tensor([[PAD, 10, 11, 12, 13], [14, 15, 16, 17, 18]])
    processor = GenARMLogitsProcessor(guide, prompt_ids=own)

    class WithOwnPrompt(Reference):
        def __call__(self, input_ids, scores):
            count = len(input_ids) // len(own)
            return super().__call__(
                torch.cat([own.repeat_interleave(count, 0), input_ids[:, ids.shape[1] :]], -1), scores
            )

    for mode in ("greedy", "beams", "8 samples", "greedy"):
        ours = run(policy, processor, ids, torch.ones_like(ids), mode)
        theirs = run(policy, WithOwnPrompt([guide], [1.0]), ids, torch.ones_like(ids), mode)
        assert torch.equal(ours, theirs)


def test_with_inputs_embeds_the_guide_needs_the_prompt():
    policy, guide = tiny_causal_lm("llama"), tiny_causal_lm("llama", seed=1)
    ids = torch.tensor([[4, 5, 6]])
    embeds = policy.get_input_embeddings()(ids)
    plain = policy.generate(ids, max_new_tokens=6, logits_processor=[GenARMLogitsProcessor(guide)])
    processor = GenARMLogitsProcessor(guide, prompt_ids=ids)
    for _ in range(2):
        out = policy.generate(inputs_embeds=embeds, max_new_tokens=6, logits_processor=[processor])
        assert torch.equal(out, plain[:, 3:])
    with pytest.raises(ValueError, match="inputs_embeds.*prompt_ids="):
        policy.generate(inputs_embeds=embeds, max_new_tokens=6, logits_processor=[GenARMLogitsProcessor(guide)])


def test_a_prompt_that_begins_with_the_padding_id_is_read_as_the_mask_says():
    guide = tiny_causal_lm("llama", seed=1)
    ids = torch.tensor([[PAD, 4, 5]])
    processor = GenARMLogitsProcessor(guide, prompt_attention_mask=torch.ones_like(ids))
    seen = processor(ids, torch.zeros(1, VOCAB))
    torch.testing.assert_close(seen, guide(ids).logits[:, -1].log_softmax(-1))
    inferred = GenARMLogitsProcessor(guide)(ids, torch.zeros(1, VOCAB))
    torch.testing.assert_close(inferred, guide(ids[:, 1:]).logits[:, -1].log_softmax(-1))


def test_generate_passes_the_mask_if_ids_are_ambiguous():
    policy, guide = tiny_causal_lm("llama"), tiny_causal_lm("llama", seed=1)
    ids = torch.tensor([[PAD, PAD, 5, 6], [PAD, 7, 8, 9]])  # the last one of each row begins the text
    mask = torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]])
    for mode in ("greedy", "beams"):
        together = run(policy, GenARMLogitsProcessor(guide), ids, mask, mode)
        for row, start in enumerate((1, 0)):
            own = ids[row : row + 1, start:]
            alone = run(policy, GenARMLogitsProcessor(guide), own, torch.ones_like(own), mode)
            count = len(alone)
            assert torch.equal(together[row * count : (row + 1) * count, start:][:, : alone.shape[1]], alone)


def test_caches_are_given_back_and_new_weights_are_seen():
    policy, guide = tiny_causal_lm("llama"), tiny_causal_lm("llama", seed=1)
    processor = GenARMLogitsProcessor(guide, alpha=2.0)
    ids, mask = left_padded_batch()
    run(policy, processor, ids, mask, "greedy")
    assert processor.guides[0]._readings.value.cache is None
    with torch.no_grad():
        guide.lm_head.weight.copy_(guide.lm_head.weight.flip(0))
    ours = run(policy, processor, ids, mask, "greedy")
    assert torch.equal(ours, run(policy, Reference([guide], [2.0]), ids, mask, "greedy"))


def test_a_failed_call_leaves_a_processor_that_works():
    policy, guide = tiny_causal_lm("llama"), tiny_causal_lm("llama", seed=1)
    processor = GenARMLogitsProcessor(guide)
    ids, mask = left_padded_batch()

    def stop(input_ids, scores):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        policy.generate(ids, attention_mask=mask, max_new_tokens=3, logits_processor=[processor, stop])
    for length in (5, 7):
        part = ids[:, -length:], mask[:, -length:]
        assert torch.equal(
            run(policy, processor, *part, "greedy"), run(policy, Reference([guide], [1.0]), *part, "greedy")
        )


def test_a_schedule_gets_the_number_of_tokens_written():
    policy, guide = tiny_causal_lm("llama"), tiny_causal_lm("llama", seed=1)
    ids, mask = left_padded_batch()
    seen = []
    processor = GenARMLogitsProcessor(guide, alpha=lambda step: seen.append(step) or 1.0 / (step + 1))
    for mode in ("greedy", "beams"):
        seen.clear()
        out = run(policy, processor, ids, mask, mode)
        assert seen == list(range(out.shape[1] - ids.shape[1]))


def test_rows_where_the_policy_is_certain_are_left_alone():
    guide = tiny_causal_lm("llama", seed=1)
    scores = torch.zeros(2, VOCAB)
    scores[0, 3] = 50.0  # entropy near 0; the other row log(32) = 3.47 nats
    processor = GenARMLogitsProcessor(guide, entropy_threshold=1.0)
    out = processor(torch.tensor([[4, 5], [4, 5]]), scores)
    torch.testing.assert_close(out[0], scores[0].log_softmax(-1))
    torch.testing.assert_close(out[1], guide(torch.tensor([[4, 5]])).logits[0, -1].log_softmax(-1))
    assert processor.skipped_share == 0.5
    processor(torch.tensor([[4, 5, 6]]), scores[:1])
    assert processor.guides[0].num_tokens_read == 2  # equal rows once; not run where every row is certain
    policy = tiny_causal_lm("llama")
    ids, mask = left_padded_batch()
    never = run(policy, GenARMLogitsProcessor(guide, entropy_threshold=0.0), ids, mask, "greedy")
    assert torch.equal(never, run(policy, Reference([guide], [1.0]), ids, mask, "greedy"))


@pytest.mark.stack
def test_an_adapter_guides():
    policy = tiny_causal_lm("llama")
    guide = get_peft_model(
        tiny_causal_lm("llama", seed=1), LoraConfig(target_modules="all-linear", init_lora_weights=False)
    )
    guide.eval()
    ids, mask = left_padded_batch()
    ours = run(policy, GenARMLogitsProcessor(guide), ids, mask, "beams")
    assert torch.equal(ours, run(policy, Reference([guide], [1.0]), ids, mask, "beams"))


def test_padded_vocabularies_meet_in_the_common_ids():
    policy, guide = tiny_causal_lm("llama"), tiny_causal_lm("llama", seed=1)
    guide.resize_token_embeddings(VOCAB + 8)
    tokenizer = tiny_tokenizer()
    ids = torch.tensor([[4, 5]])
    with pytest.raises(ValueError, match=r"32 tokens and the guides \[40\].*guide_tokenizers="):
        GenARMLogitsProcessor(guide)(ids, torch.zeros(1, VOCAB))
    processor = GenARMLogitsProcessor(guide, tokenizer=tokenizer, guide_tokenizers=[tokenizer])
    size = len(tokenizer)
    out = processor(ids, torch.zeros(1, VOCAB))
    torch.testing.assert_close(out[:, :size], guide(ids).logits[:, -1, :size].log_softmax(-1))
    assert out[:, size:].isneginf().all() and out.shape[-1] == VOCAB
    assert policy.generate(ids, max_new_tokens=4, logits_processor=[processor]).max() < size


def test_vocabularies_that_disagree_are_named():
    guide = tiny_causal_lm("llama", seed=1)
    other = tiny_tokenizer()
    other.add_tokens(["novel"])
    with pytest.raises(ValueError, match="novel.*policy's tokenizer"):
        GenARMLogitsProcessor(guide, tokenizer=tiny_tokenizer(), guide_tokenizers=[other])
    with pytest.raises(ValueError, match=r"each of the 1 guide\(s\), got 0"):
        GenARMLogitsProcessor(guide, tokenizer=tiny_tokenizer())


@pytest.mark.parametrize(
    ("alpha", "message"),
    [
        ([1.0, 2.0], r"shape \(2,\) for 1 guide"),
        (torch.ones(2, 3), r"shape \(2, 3\)"),
        (torch.ones(0, 1), r"shape \(0, 1\)"),
        (float("nan"), "finite"),
    ],
)
def test_weights_that_do_not_fit_are_refused(alpha, message):
    with pytest.raises(ValueError, match=message):
        GenARMLogitsProcessor(tiny_causal_lm("llama"), alpha=alpha)


def test_weights_for_another_number_of_prompts_are_refused():
    with pytest.raises(ValueError, match="got 2 for 3 generated rows"):
        GenARMLogitsProcessor(tiny_causal_lm("llama"), alpha=torch.ones(2, 1))(
            torch.full((3, 2), 4), torch.zeros(3, VOCAB)
        )


def test_other_models_are_refused():
    config = T5Config(
        vocab_size=VOCAB, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    with pytest.raises(ValueError, match="encoder-decoder"):
        GenARMLogitsProcessor(T5ForConditionalGeneration(config))
    with pytest.raises(ValueError, match="policy `T5ForConditionalGeneration` is an encoder-decoder"):
        T5ForConditionalGeneration(config).generate(
            torch.tensor([[4, 5]]), logits_processor=[GenARMLogitsProcessor(tiny_causal_lm())]
        )
    with pytest.raises(TypeError, match="A guide must be a causal LM, got 'name'"):
        GenARMLogitsProcessor("name")


def test_nan_of_a_guide_names_the_step():
    guide = tiny_causal_lm("llama", seed=1)
    processor = GenARMLogitsProcessor(guide)
    processor(torch.tensor([[4, 5]]), torch.zeros(1, VOCAB))
    with torch.no_grad():
        guide.lm_head.weight[3] = torch.nan
    with pytest.raises(ValueError, match="Guide 0 gave NaN at step 1"):
        processor(torch.tensor([[4, 5, 6]]), torch.zeros(1, VOCAB))


def test_paged_generation_is_refused_instead_of_unguided():
    policy, guide = tiny_causal_lm("llama"), tiny_causal_lm("llama", seed=1)
    with pytest.raises(ValueError, match="must not be 'paged'.*GenARMLogitsProcessor"):
        policy.generate(
            torch.tensor([[4, 5]]), cache_implementation="paged", logits_processor=[GenARMLogitsProcessor(guide)]
        )
    assert GenARMLogitsProcessor.supports_continuous_batching is False


def test_half_precision_guides_are_added_in_float32():
    guide = tiny_causal_lm("llama", seed=1, dtype=torch.bfloat16)
    ids = torch.tensor([[4, 5]])
    out = GenARMLogitsProcessor(guide)(ids, torch.zeros(1, VOCAB))
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, guide(ids).logits[:, -1].float().log_softmax(-1))

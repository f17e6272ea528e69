"""Drafts for a whole ragged batch: the tokens and the distribution of guided decoding without drafts."""

import functools
import math

import pytest
import torch
from enumerated import check_samples, enumerated, tiny_vocabulary, warm
from guided_reference import Draw, float64_lm
from peft import LoraConfig, get_peft_model
from scipy.stats import chisquare
from tiny import ARCHITECTURES, PAD, VOCAB, left_padded_batch, letter_tokenizer, tiny_causal_lm
from transformers import (
    DynamicCache,
    GPT2Config,
    GPT2LMHeadModel,
    LogitsProcessor,
    MambaConfig,
    MambaForCausalLM,
    StoppingCriteria,
    StoppingCriteriaList,
    StopStringCriteria,
    TextStreamer,
)

from hf_reward_ext.base.lm.forward import generate_cache_name
from hf_reward_ext.genarm import GenARMLogitsProcessor, GuidedCausalLM, SpeculativeOutput, speculative_generate
from hf_reward_ext.genarm.acceptance import count_accepted, draw_following

ENDS = [2, 5, 9, 13, 20]  # enough ids that random rows end at different lengths


def settings_of(mask, new_tokens=12, **kwargs):
    return dict(attention_mask=mask, max_new_tokens=new_tokens, eos_token_id=ENDS, pad_token_id=PAD) | kwargs


def drafted_tokens(guided, ids, mask, count=3, drafter=None, **kwargs):
    return guided.generate(
        ids, custom_generate=speculative_generate, drafter=drafter, num_draft_tokens=count,
        **settings_of(mask, **kwargs),
    )  # fmt: skip


def both(guided, ids, mask, count=3, drafter=None, **kwargs):
    """Tokens with and without drafts."""
    plain = guided.generate(ids, **settings_of(mask, **kwargs))
    return drafted_tokens(guided, ids, mask, count, drafter, **kwargs), plain


def random_guided(seed=0, alpha=1.0, guides=1):
    return GuidedCausalLM(
        float64_lm("llama", seed), [float64_lm("llama", 100 + seed + number) for number in range(guides)], alpha
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_tokens_equal_those_of_the_reference(architecture):
    for num_guides, mode in ((1, "greedy"), (2, "alpha (B, K)")):
        draw = Draw(architecture, num_guides, seed=0)
        guided = GuidedCausalLM(draw.policy, draw.guides, draw.alpha_of(mode))
        ids, mask = draw.prompts(mode)
        expected = draw.reference(mode)
        for drafter, count in ((None, 4), (draw.policy, 3), (float64_lm("llama", seed=77), 1)):
            drafted = drafted_tokens(guided, ids, mask, count, drafter, new_tokens=8, eos_token_id=2)
            assert torch.equal(drafted, expected), (mode, count)


@pytest.mark.parametrize("lengths", [(5, 3, 7), (1, 1), (9, 1, 2, 2, 6, 1)])
@pytest.mark.parametrize("strength", [0.3, 30.0])  # few drafts are accepted, and most
def test_rows_of_any_lengths_end_when_they_end_without_drafts(lengths, strength):
    guided = random_guided(len(lengths), strength)
    ids, mask = left_padded_batch(lengths)
    for count, new_tokens in ((1, 12), (5, 12), (8, 3), (3, 1)):
        drafted, plain = both(guided, ids, mask, count, new_tokens=new_tokens)
        assert torch.equal(drafted, plain), (count, new_tokens)


def test_a_schedule_counts_the_tokens_of_each_row():
    guided = random_guided(alpha=lambda step: 0.5 * step)
    drafted, plain = both(guided, *left_padded_batch((5, 3, 7, 2)), eos_token_id=None)
    assert torch.equal(drafted, plain)


class Remember(LogitsProcessor):
    """Forbids what a row has, and records what it was shown."""

    def __init__(self):
        self.seen = set()

    def __call__(self, input_ids, scores):
        self.seen.update(tuple(row) for row in input_ids.tolist())
        return scores.scatter(-1, input_ids, -torch.inf)


@pytest.mark.parametrize(
    "settings",
    [
        dict(min_new_tokens=5),
        dict(repetition_penalty=3.0),
        dict(no_repeat_ngram_size=2),
        dict(forced_eos_token_id=2, suppress_tokens=[7, 8]),
        dict(exponential_decay_length_penalty=(3, 1.5)),
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_processors_see_each_row_as_without_drafts(settings):
    drafted, plain = both(random_guided(), *left_padded_batch((5, 3, 7, 2)), **settings)
    assert torch.equal(drafted, plain)


def test_processors_of_others_see_the_prompt_and_the_row_alone():
    guided = random_guided()
    ids, mask = left_padded_batch((5, 3, 7))
    shown = [Remember(), Remember()]
    drafted = guided.generate(
        ids, attention_mask=mask, max_new_tokens=8, eos_token_id=None, logits_processor=[shown[0]],
        custom_generate=speculative_generate,
    )  # fmt: skip
    plain = guided.generate(ids, attention_mask=mask, max_new_tokens=8, eos_token_id=None, logits_processor=[shown[1]])
    assert torch.equal(drafted, plain)
    assert shown[1].seen <= shown[0].seen
    assert {row[: ids.shape[1]] for row in shown[0].seen} == set(map(tuple, ids.tolist()))


class After(StoppingCriteria):
    """Ends a row two tokens after its first token above 15."""

    def __call__(self, input_ids, scores, **kwargs):
        return (input_ids[:, 7:-1] > 15).any(-1)


def test_stopping_criteria_end_rows_where_they_do_without_drafts():
    tokenizer = letter_tokenizer()
    ids, mask = left_padded_batch((5, 3, 7, 2))
    stops = StopStringCriteria(tokenizer, [tokenizer.convert_ids_to_tokens(number) for number in (4, 11, 17)])
    for criterion in (After(), stops):
        criteria = StoppingCriteriaList([criterion])
        drafted, plain = both(random_guided(), ids, mask, 4, eos_token_id=2, stopping_criteria=criteria)
        assert torch.equal(drafted, plain)
        assert plain.shape[1] < ids.shape[1] + 12 or (plain == PAD).sum() > (ids == PAD).sum()


def gpt2(seed, positions):
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=VOCAB, n_positions=positions, n_embd=16, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=2,
        pad_token_id=PAD, initializer_range=0.5,
    )  # fmt: skip
    return GPT2LMHeadModel(config).double().eval()


def test_drafts_stay_within_the_positions_of_a_model():
    ids, mask = left_padded_batch((5, 3, 7))
    guided = GuidedCausalLM(gpt2(0, 16), gpt2(1, 16))
    drafted, plain = both(guided, ids, mask, 6, new_tokens=9)
    assert torch.equal(drafted, plain)


def test_a_window_that_is_full_keeps_its_rejected_tokens_out():
    policy, guide = float64_lm("gemma3_text", 0), float64_lm("gemma3_text", 1)  # a window of 4
    guided = GuidedCausalLM(policy, guide, 3.0)
    drafted, plain = both(guided, *left_padded_batch((9, 3, 12)), 5, new_tokens=16, eos_token_id=None)
    assert torch.equal(drafted, plain)


def test_adapters_are_guides_and_another_model_drafts():
    config = LoraConfig(target_modules="all-linear", init_lora_weights=False, r=4)
    torch.manual_seed(0)
    model = get_peft_model(float64_lm("llama", 0), config, adapter_name="one", autocast_adapter_dtype=False)
    model.add_adapter("two", config, autocast_adapter_dtype=False)
    guided = GuidedCausalLM.from_peft(model.eval(), ["one", "two"], alpha=torch.rand(4, 2))
    ids, mask = left_padded_batch((5, 3, 7, 2))
    for drafter in (model, float64_lm("qwen3", 3)):
        drafted, plain = both(guided, ids, mask, 4, drafter)
        assert torch.equal(drafted, plain)
    with pytest.raises(ValueError, match="`drafter` must be given where the guides are adapters"):
        guided.generate(ids, custom_generate=speculative_generate, max_new_tokens=2)


@pytest.mark.parametrize("size", [VOCAB - 9, VOCAB + 8])
def test_a_drafter_may_have_fewer_or_more_logits(size):
    guided, drafter = random_guided(), float64_lm("llama", 5)
    drafter.resize_token_embeddings(size)
    ids, mask = left_padded_batch((5, 3, 7))
    ids = ids.clamp(max=VOCAB - 10)

    class Low(LogitsProcessor):
        def __call__(self, input_ids, scores):
            return scores.index_fill(-1, torch.arange(VOCAB - 9, VOCAB), -torch.inf)

    for kwargs in ({}, dict(do_sample=True)):
        drafted, plain = both(guided, ids, mask, 4, drafter, logits_processor=[Low()], **kwargs)
        assert kwargs or torch.equal(drafted, plain)


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("do_sample", [False, True])
def test_one_forward_of_the_policy_reads_all_drafts_and_good_drafts_are_all_accepted(count, do_sample):
    policy = float64_lm("llama", 0)
    guided = GuidedCausalLM(policy, float64_lm("llama", 1), alpha=0.0)
    ids, mask = left_padded_batch((5, 3, 7))
    forwards = []
    policy.register_forward_pre_hook(lambda *_: forwards.append(1))
    # The drafter is the target, in weights of its own.
    out = guided.generate(
        ids, attention_mask=mask, max_new_tokens=12, eos_token_id=None, custom_generate=speculative_generate,
        drafter=float64_lm("llama", 0), num_draft_tokens=count, do_sample=do_sample, return_dict_in_generate=True,
    )  # fmt: skip
    assert isinstance(out, SpeculativeOutput) and out.sequences.shape == (3, 19)
    assert len(forwards) == out.num_rounds == math.ceil(12 / (count + 1))
    assert out.num_accepted == out.num_drafted > 0


@pytest.mark.parametrize(
    ("settings", "warp", "num_guides"),
    [(dict(top_k=0), lambda scores: scores, 2), (dict(top_k=3, temperature=0.7), warm, 1)],
    ids=["plain", "temperature and top-k"],
)
def test_samples_have_the_guided_distribution(settings, warp, num_guides):
    guides = [tiny_vocabulary(1), tiny_vocabulary(2)][:num_guides]
    guided = GuidedCausalLM(tiny_vocabulary(0), guides, 0.8)
    ids, mask = torch.tensor([[PAD, PAD, 3], [4, 1, 3]]), torch.tensor([[0, 0, 1], [1, 1, 1]])
    copies, length = 400, 3
    torch.manual_seed(0)
    out = guided.generate(
        ids, attention_mask=mask, do_sample=True, max_new_tokens=length, num_return_sequences=copies, eos_token_id=2,
        pad_token_id=PAD, custom_generate=speculative_generate, num_draft_tokens=2, **settings,
    )  # fmt: skip
    for row, prompt in enumerate(([3], [4, 1, 3])):
        expected = enumerated(guided, prompt, length, warp)
        check_samples(out[row * copies : (row + 1) * copies, 3:], expected)


def test_a_token_has_the_probability_of_the_target_whatever_was_drafted():
    torch.manual_seed(0)
    rows, vocab = 40_000, 6
    for scale in (0.3, 3.0):
        target, draft = torch.randn(3, vocab) * scale, torch.randn(2, vocab) * scale
        target[0, 2] = draft[1, 3] = -torch.inf
        drafts = torch.stack([torch.multinomial(one.softmax(-1), rows, replacement=True) for one in draft], dim=1)
        scores, draft_scores = target.expand(rows, -1, -1), draft.expand(rows, -1, -1)
        counts = count_accepted(scores, drafts, draft_scores)
        following = draw_following(scores, counts, draft_scores)
        for place in range(3):
            here = torch.where(counts == place, following, torch.cat([drafts, drafts[:, :1]], 1)[:, place])
            here = here[counts >= place]
            possible = target[place].softmax(-1) > 0
            found = here.bincount(minlength=vocab)
            assert not found[~possible].any()
            expected = target[place].softmax(-1)[possible].double()
            expected, found = expected / expected.sum() * len(here), found[possible]
            order = expected.argsort()
            rare = int((expected[order].cumsum(0) < 5).sum()) + 1  # together often enough for the statistic
            groups = [[values[order][:rare].sum(), *values[order][rare:]] for values in (found, expected)]
            assert chisquare(*groups).pvalue > 1e-3


def test_equal_distributions_reject_nothing_that_they_cannot_draw():
    scores = torch.zeros(1, 2, 3)
    assert int(draw_following(scores, torch.tensor([0]), scores[:, :1])) in range(3)


def test_an_undefined_distribution_names_model_and_step():
    guided = random_guided()
    rounds = []

    def spoil(module, args, output):
        rounds.append(1)
        if len(rounds) == 4:
            output.logits[1, 0] = torch.nan
        return output

    guided.base.register_forward_hook(spoil)
    with pytest.raises(ValueError, match="The policy gave NaN at step [3-9]"):
        both(guided, *left_padded_batch((5, 3, 7)), 2, eos_token_id=None)


IDS = torch.tensor([[4, 5], [6, 7]])


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(num_beams=2), "settings of beam search"),
        (dict(prompt_lookup_num_tokens=3), "settings of assisted generation"),
        (dict(streamer=True), "`streamer=` must not be given"),
        (dict(assistant_model=True), "Pass it as `drafter=`"),
        (dict(cache=True), "every call reads its prompts"),
        (dict(use_cache=False), "`use_cache` must not be False"),
        (dict(cache_implementation="static"), "got 'static'"),
        (dict(output_scores=True, return_dict_in_generate=True), "`output_scores` must be False"),
        (dict(num_draft_tokens=0), "`num_draft_tokens` must be an integer of at least 1, got 0"),
        (dict(prefix_allowed_tokens_fn=lambda row, ids: [3]), "got `PrefixConstrainedLogitsProcessor`"),
        (dict(guidance_scale=2.0), "got `UnbatchedClassifierFreeGuidanceLogitsProcessor`"),
        (dict(encoder_repetition_penalty=2.0), "got `EncoderRepetitionPenaltyLogitsProcessor`"),
        (dict(logits_processor=True), "got `GenARMLogitsProcessor`"),
        (dict(drafter="name"), "A drafter must be a causal LM, got 'name'"),
        (dict(drafter=True), "A drafter must have attention layers only"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_drafts_cannot_follow_is_refused_before_work_starts(kwargs, message):
    guided = random_guided()
    made = {
        "streamer": lambda: TextStreamer(letter_tokenizer()),
        "assistant_model": lambda: guided.reader.guides[0],
        "cache": DynamicCache,
        "logits_processor": lambda: [GenARMLogitsProcessor(guided.reader.guides[0])],
        "drafter": lambda: MambaForCausalLM(MambaConfig(vocab_size=VOCAB, hidden_size=8, num_hidden_layers=1)),
    }
    kwargs = {name: made[name]() if value is True and name in made else value for name, value in kwargs.items()}
    if "cache" in kwargs:
        kwargs = {generate_cache_name(): kwargs["cache"]}
    guided.base.register_forward_pre_hook(lambda *_: pytest.fail("work had started"))
    with pytest.raises((ValueError, TypeError), match=message):
        guided.generate(IDS, custom_generate=speculative_generate, max_new_tokens=4, **kwargs)


def test_a_prompt_without_tokens_is_refused():
    with pytest.raises(ValueError, match="`input_ids` must have at least one token"):
        random_guided().generate(IDS[:1, :0], custom_generate=speculative_generate, max_new_tokens=2)


def test_a_plain_model_is_refused():
    with pytest.raises(TypeError, match="must run a `GuidedCausalLM`, or .* got a `LlamaForCausalLM`"):
        tiny_causal_lm().generate(IDS, custom_generate=speculative_generate, max_new_tokens=2)


def test_settings_can_be_bound():
    guided = random_guided()
    bound = functools.partial(speculative_generate, num_draft_tokens=2)
    out = guided.generate(IDS, custom_generate=bound, max_new_tokens=5)
    assert torch.equal(out, guided.generate(IDS, max_new_tokens=5))

import math

import pytest
import torch
from tiny import ARCHITECTURES, EOS, PAD, left_padded_batch, letter_tokenizer, tiny_causal_lm
from tiny_judges import counted
from transformers import GenerationConfig
from transformers.generation import EosTokenCriteria

from hf_reward_ext import GenARMLogitsProcessor
from hf_reward_ext.base.lm.draws import Draws, candidate_generator, drawing
from hf_reward_ext.base.lm.prefill import SharedPrefill
from hf_reward_ext.base.lm.tokens import completion_mask_from_ids
from hf_reward_ext.best_of_n.pruning import Pruning, warm_up_threshold
from hf_reward_ext.best_of_n.staged import generate_staged
from hf_reward_ext.confidence import GroupConfidence, Length, LogitsReward, LogitsRewardModel
from hf_reward_ext.elhsr.decoding import HiddenStateReward
from hf_reward_ext.elhsr.features import teacher_forced_features
from hf_reward_ext.elhsr.model import ELHSRModel, gated_mean

ENDS = dict(eos_token_id=EOS, pad_token_id=PAD)


def reader_of(policy, head=None):
    return HiddenStateReward(policy, head or ELHSRModel.from_policy(policy))


def rewards_of(policy, head, sequences, prompt_mask, lengths):
    """Rewards of the first `lengths` completion tokens of each sequence, recomputed."""
    new = sequences.shape[1] - prompt_mask.shape[1]
    prompt_mask = prompt_mask.repeat_interleave(len(sequences) // len(prompt_mask), 0)
    attention_mask = torch.cat([prompt_mask, prompt_mask.new_ones(len(sequences), new)], -1)
    gates, rewards = head.token_rewards(teacher_forced_features(policy, head.config, sequences, attention_mask))
    mask = torch.arange(new)[None] < lengths[:, None]
    mask &= completion_mask_from_ids(sequences[:, -new:], [EOS], None)
    return gated_mean(gates[:, -new:], rewards[:, -new:], mask)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_all_are_scored_exactly(architecture):
    policy = tiny_causal_lm(architecture)
    head = ELHSRModel.from_policy(policy)
    input_ids, attention_mask = left_padded_batch()
    candidates = generate_staged(
        policy, reader_of(policy, head), input_ids, attention_mask, 8, Pruning((3, 6)), max_new_tokens=14,
        do_sample=True, suppress_tokens=[PAD], **ENDS,
    )  # fmt: skip
    expected = rewards_of(policy, head, candidates.sequences, attention_mask, candidates.num_tokens)
    torch.testing.assert_close(candidates.rewards, expected, atol=1e-5, rtol=1e-5)
    assert candidates.pruned.any() and not candidates.pruned.all()


@pytest.mark.stack
def test_the_right_candidates_are_stopped():
    policy = tiny_causal_lm()
    head = ELHSRModel.from_policy(policy)
    input_ids, attention_mask = left_padded_batch()
    settings = dict(max_new_tokens=10, do_sample=True, suppress_tokens=[PAD, EOS], **ENDS)
    torch.manual_seed(5)
    candidates = generate_staged(
        policy, HiddenStateReward(policy, head), input_ids, attention_mask, 8, Pruning((4,)), **settings
    )
    at_step = rewards_of(policy, head, candidates.sequences, attention_mask, torch.full((24,), 4)).view(3, 8)
    expected = at_step.argsort(-1, descending=True)[:, 4:].sort(-1).values
    stopped = candidates.pruned.view(3, 8)
    assert stopped.sum(-1).tolist() == [4, 4, 4]
    assert torch.equal(stopped.nonzero()[:, 1].view(3, 4), expected)
    assert candidates.num_tokens[candidates.pruned].tolist() == [4] * 12
    assert candidates.num_tokens[~candidates.pruned].tolist() == [10] * 12


def test_rows_that_stay_are_those_of_plain_decoding():
    """With greedy-like sampling (one token allowed by top_k) the survivors equal plain greedy decoding."""
    policy = tiny_causal_lm()
    input_ids, attention_mask = left_padded_batch()
    candidates = generate_staged(
        policy, reader_of(policy), input_ids, attention_mask, 4, Pruning((2, 5)), max_new_tokens=9,
        do_sample=True, top_k=1, **ENDS,
    )  # fmt: skip
    greedy = policy.generate(input_ids, attention_mask=attention_mask, do_sample=False, max_new_tokens=9)
    first = (~candidates.pruned).view(3, 4).int().argmax(-1)  # equal candidates differ by rounding, any may be pruned
    survivors = candidates.sequences.view(3, 4, -1)[torch.arange(3), first, : greedy.shape[1]]
    assert torch.equal(survivors, greedy)


def test_everyone_may_finish_before_the_end():
    policy = tiny_causal_lm()
    bias = {(EOS,): 50.0}
    input_ids, attention_mask = left_padded_batch()
    candidates = generate_staged(
        policy, reader_of(policy), input_ids, attention_mask, 4, Pruning((3,)), max_new_tokens=50,
        do_sample=True, sequence_bias=bias, **ENDS,
    )  # fmt: skip
    assert not candidates.pruned.any() and (candidates.num_tokens == 1).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(steps=()), "`steps` must be ascending completion lengths"),
        (dict(steps=(4, 2)), "ascending"),
        (dict(steps=(2, 2)), "ascending"),
        (dict(steps=(0,)), "`steps` must be an integer of at least 1, got 0"),
        (dict(steps=(2.5,)), "`steps` must be an integer"),
        (dict(steps=(2,), keep=1.0), "`keep` must be below 1 without `max_gap` and `min_reward`"),
        (dict(steps=(2,), keep=1, min_reward=math.inf), "`min_reward` must be a number, got inf"),
        (dict(steps=(2,), keep=0), "`keep` must be a number above 0 and at most 1, got 0"),
        (dict(steps=(2,), keep=math.nan), "`keep` must be a number above 0 and at most 1, got nan"),
        (dict(steps=(2,), max_gap=-1.0), "`max_gap` must be a number of at least 0, got -1"),
        (dict(steps=(2,), max_gap=math.nan), "`max_gap` must be a number of at least 0, got nan"),
        (dict(steps=(2,), max_gap="1"), "`max_gap` must be a number"),
    ],
)
def test_bad_schedules_are_refused(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Pruning(**arguments)


@pytest.mark.parametrize("measure", ["confidence", "self_certainty", GroupConfidence(window=3), Length()], ids=str)
def test_training_free_rewards_prune_too(measure):
    policy = tiny_causal_lm()
    ids, mask = left_padded_batch()
    torch.manual_seed(0)
    prune = Pruning((2, 4, 6), keep=0.6)
    settings = dict(max_new_tokens=9, do_sample=True, sequence_bias={(EOS,): 4.0}, suppress_tokens=[PAD])
    candidates = generate_staged(policy, LogitsReward(policy, measure), ids, mask, 6, prune, **settings)
    assert candidates.pruned.any() and not candidates.pruned.all()
    written = torch.arange(candidates.sequences.shape[1] - ids.shape[1]) < candidates.num_tokens[:, None]
    attention = torch.cat([mask.repeat_interleave(6, 0), written.long()], -1)
    completion = torch.cat([torch.zeros(18, ids.shape[1], dtype=torch.bool), written], -1)
    expected = LogitsRewardModel(policy, measure)(candidates.sequences, attention, completion).logits[:, 0]
    torch.testing.assert_close(candidates.rewards, expected, atol=1e-4, rtol=1e-4)


def test_candidates_below_a_reward_are_dropped_but_the_best():
    rewards = torch.tensor([[3.0, 1.0, 2.0, -torch.inf], [0.0, -1.0, -torch.inf, -2.0]])
    stay = Pruning((2,), keep=1, min_reward=1.5).leaders(0, rewards)
    assert stay.tolist() == [[True, False, True, False], [True, False, False, False]]


def test_the_threshold_is_what_a_share_of_the_warm_up_reaches():
    rewards = [5.0, 1.0, 4.0, 2.0, 3.0]
    for keep in (0.2, 0.4, 0.6, 0.8, 1.0):
        threshold = warm_up_threshold(rewards, keep)
        assert sum(reward >= threshold for reward in rewards) == round(5 * keep), (keep, threshold)
    for rewards, keep, message in [([], 0.5, "got none"), ([1.0], 0, "above 0"), ([1.0, None], 1, r"`rewards\[1\]`")]:
        with pytest.raises((ValueError, TypeError), match=message):
            warm_up_threshold(rewards, keep)


def test_survivor_counts():
    assert [Pruning((1, 2, 3, 4)).survivors(rung, 16) for rung in range(5)] == [8, 4, 2, 1, 1]


def test_only_candidates_far_below_the_best_are_dropped():
    policy = tiny_causal_lm()
    head = ELHSRModel.from_policy(policy)
    ids, mask = left_padded_batch()
    kwargs = dict(max_new_tokens=10, eos_token_id=EOS, pad_token_id=PAD, do_sample=True, top_k=0)

    def run(pruning):
        torch.manual_seed(0)
        return generate_staged(policy, reader_of(policy, head), ids, mask, 8, pruning, **kwargs)

    assert not run(Pruning((3, 6), keep=1.0, max_gap=1e6)).pruned.any()
    gap = 0.1
    pruned = run(Pruning((3,), keep=1.0, max_gap=gap))
    sequences = pruned.sequences[:, : ids.shape[1] + 3]
    prefix_mask = torch.cat([mask.repeat_interleave(8, 0), torch.ones(24, 3, dtype=torch.long)], -1)
    features = teacher_forced_features(policy, head.config, sequences, prefix_mask)[:, -3:]
    completion = completion_mask_from_ids(sequences[:, -3:], [EOS], PAD)
    rewards = head(features, completion).view(3, 8)
    behind = (rewards < rewards.max(-1, keepdim=True).values - gap).flatten()
    finished = (sequences[:, -3:] == EOS).any(-1)
    assert torch.equal(pruned.pruned, behind & ~finished) and behind.any() and not behind.all()


def head_of(policy):
    torch.manual_seed(5)
    return ELHSRModel.from_policy(policy)


def greedy(policy, ids, mask, num_candidates=2, prune=None, **settings):
    """Candidates that all write the likeliest tokens; without `prune` none of them is dropped."""
    prune = prune or Pruning((2, 3, 7), keep=1.0, max_gap=1e9)
    sampling = {} if "generation_config" in settings else dict(do_sample=True, top_k=1)
    return generate_staged(
        policy, HiddenStateReward(policy, head_of(policy)), ids, mask, num_candidates, prune, **sampling, **settings
    )


@pytest.mark.parametrize("ending", ["EOS", "criterion", "stop string", "length"])
@pytest.mark.parametrize("pad", [PAD, EOS])
def test_stages_write_what_one_call_writes(pad, ending):
    policy = tiny_causal_lm()
    ids, mask = left_padded_batch((5, 3, 7, 4, 6, 2))
    likely = policy.generate(ids, attention_mask=mask, max_new_tokens=9, do_sample=False)[:, ids.shape[1] :]
    stops = likely[:, 2:5].diagonal().tolist()  # ends within a stage, at its end, and after it
    settings = dict(max_new_tokens=9, pad_token_id=pad, eos_token_id=EOS)
    if ending == "EOS":
        settings["eos_token_id"] = [EOS, *stops]
    elif ending == "criterion":
        settings["stopping_criteria"] = [EosTokenCriteria([EOS, *stops])]
    elif ending == "stop string":
        settings["tokenizer"] = letter_tokenizer()
        settings["stop_strings"] = settings["tokenizer"].convert_ids_to_tokens(stops)
    candidates = greedy(policy, ids, mask, **settings)
    with HiddenStateReward(policy, head_of(policy)) as meter:
        plain = policy.generate(ids, attention_mask=mask, do_sample=False, **settings)
    lengths = meter.completion_mask.sum(-1).tolist()
    assert len(set(lengths)) > 2 or ending == "length"
    assert candidates.num_tokens.view(6, 2).T.tolist() == [lengths, lengths]
    torch.testing.assert_close(candidates.rewards.view(6, 2)[:, 0], meter.rewards, atol=1e-4, rtol=1e-4)
    for row, length in enumerate(lengths):
        written = candidates.sequences[2 * row, ids.shape[1] :]
        assert torch.equal(written[:length], plain[row, ids.shape[1] : ids.shape[1] + length])
        assert (written[length:] == pad).all()
    assert not candidates.pruned.any()


LIKELY_END = {(EOS,): 9.0}
SETTINGS = [
    dict(max_new_tokens=9),
    dict(max_new_tokens=9, eos_token_id=[EOS, 31], pad_token_id=EOS),
    dict(max_length=16),
    dict(),
    dict(max_new_tokens=9, min_new_tokens=8, sequence_bias=LIKELY_END),
    dict(max_new_tokens=9, min_length=12, sequence_bias=LIKELY_END),
    dict(max_new_tokens=9, repetition_penalty=1.5, no_repeat_ngram_size=2, bad_words_ids=[[31]]),
    dict(max_new_tokens=1),
]


@pytest.mark.filterwarnings("ignore:Using the model-agnostic default `max_length`")
@pytest.mark.parametrize("way", ["keywords", "an object", "the model's own"])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_settings_hold_for_all_stages_together(settings, way):
    policy = tiny_causal_lm()
    ids, mask = left_padded_batch()
    arguments = dict(do_sample=True, top_k=1, **settings)
    if way == "the model's own":
        policy.generation_config.update(**arguments)
        arguments = {}
    elif way == "an object":
        arguments = dict(generation_config=GenerationConfig(**arguments))
    candidates = generate_staged(
        policy,
        HiddenStateReward(policy, head_of(policy)),
        ids,
        mask,
        2,
        Pruning((2, 3, 7), keep=1.0, max_gap=1e9),
        **arguments,
    )
    with HiddenStateReward(policy, head_of(policy)) as meter:
        plain = policy.generate(ids, attention_mask=mask, **arguments)
    lengths = meter.completion_mask.sum(-1).tolist()
    assert candidates.num_tokens.view(3, 2).T.tolist() == [lengths, lengths]
    pad = settings.get("pad_token_id", PAD)
    for row, length in enumerate(lengths):
        written = candidates.sequences[2 * row, ids.shape[1] :]
        assert torch.equal(written[:length], plain[row, ids.shape[1] : ids.shape[1] + length])
        assert (written[length:] == pad).all()


WHOLE = {
    "beams": (dict(num_beams=2), "`num_beams`"),
    "several returns": (dict(num_return_sequences=2), "`num_return_sequences`"),
    "a forced end": (dict(forced_eos_token_id=EOS), "`forced_eos_token_id`"),
    "time": (dict(max_time=1.0), "`max_time`"),
    "guidance": (dict(guidance_scale=1.5), "`guidance_scale`"),
    "a dictionary": (dict(return_dict_in_generate=True), "`return_dict_in_generate`"),
    "a static cache": (dict(cache_implementation="static"), "`cache_implementation`"),
    "a streamer": (dict(streamer=object()), "`streamer`"),
    "a search": (dict(custom_generate=print), "`custom_generate`"),
    "a guide": (dict(logits_processor=[GenARMLogitsProcessor(tiny_causal_lm())]), "`GenARMLogitsProcessor`"),
    "no cache": (dict(use_cache=False), "`use_cache` must not be False"),
    "no room": (dict(max_length=7), "`max_length` must be above the 7 tokens"),
    "unknown": (dict(temprature=0.5), "temprature"),
    "no candidates": (dict(num_candidates=0), "`num_candidates` must be an integer of at least 1"),
}


@pytest.mark.parametrize(("settings", "message"), WHOLE.values(), ids=WHOLE)
def test_settings_of_a_whole_call_are_refused_before_anything_is_read(settings, message):
    policy = tiny_causal_lm()
    ids, mask = left_padded_batch()
    own = {name: value for name, value in settings.items() if name in vars(GenerationConfig())}
    with counted(policy) as shapes:
        with pytest.raises((ValueError, TypeError), match=message):
            greedy(policy, ids, mask, **settings)
        if own and "use_cache" not in own:
            with pytest.raises(ValueError, match=message):
                greedy(policy, ids, mask, generation_config=GenerationConfig(do_sample=True, **own))
            policy.generation_config.update(do_sample=True, **own)
            with pytest.raises(ValueError, match=message):
                greedy(policy, ids, mask)
    assert shapes == []


def test_of_equal_candidates_the_earliest_stays():
    policy = tiny_causal_lm()
    ids, mask = left_padded_batch((5, 3, 7, 4))
    for count in (3, 4, 8):
        prune = Pruning((2, 5))
        candidates = greedy(policy, ids, mask, count, prune, max_new_tokens=9, suppress_tokens=[EOS])
        stayed = [[True] * prune.survivors(1, count) + [False] * (count - prune.survivors(1, count))] * 4
        assert (~candidates.pruned).view(4, count).tolist() == stayed


def test_with_random_numbers_of_their_own_the_others_are_those_of_an_unpruned_run():
    policy = tiny_causal_lm()
    head = ELHSRModel.from_policy(policy)
    ids, mask = left_padded_batch()
    settings = dict(do_sample=True, max_new_tokens=12, suppress_tokens=[PAD], **ENDS)

    def draws() -> Draws:
        return Draws([candidate_generator(3, row.tolist(), number) for row in ids for number in range(6)])

    reader = HiddenStateReward(policy, head)
    pruned = generate_staged(policy, reader, ids, mask, 6, Pruning((3, 6)), draws=draws(), **settings)
    with drawing(policy, draws()):
        whole = SharedPrefill(policy, ids, mask).generate(6, **settings)
    assert 0 < pruned.pruned.sum() < len(pruned.pruned)
    for row, (sequence, length) in enumerate(zip(pruned.sequences, pruned.num_tokens, strict=True)):
        end = ids.shape[1] + int(length)
        assert sequence[:end].tolist() == whole[row, :end].tolist()

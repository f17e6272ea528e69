import contextlib
import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from guided_reference import float64_lm
from peft import LoraConfig, get_peft_model
from tiny import EOS, PAD, left_padded_batch, letter_tokenizer, tiny_causal_lm
from tiny_judges import counted
from torch.nn import functional as F
from transformers.generation import LogitsProcessor

from hf_reward_ext.base.lm.tokens import completion_mask_from_ids
from hf_reward_ext.confidence import (
    GroupConfidence,
    Length,
    LogitsReward,
    LogitsRewardModel,
    MeanLogProbability,
    NegativeEntropy,
    SelfCertainty,
)
from hf_reward_ext.elhsr import ELHSRModel, HiddenStateReward

ENDS = dict(eos_token_id=EOS, pad_token_id=PAD)
MEASURES = {
    "mean log-probability": MeanLogProbability(),
    "groups": GroupConfidence(window=3, top_k=4),
    "one group": GroupConfidence(window=500),
    "self-certainty": SelfCertainty(),
    "entropy": NegativeEntropy(),
    "length": Length(per_token=-0.5),
}


def by_hand(measure, logits, tokens):
    """The reward of one completion from the logits that predict each of its tokens, straight from the equations."""
    probs = logits.softmax(-1)
    if isinstance(measure, MeanLogProbability):
        return math.fsum(math.log(row[token]) for row, token in zip(probs, tokens, strict=True)) / len(tokens)
    if isinstance(measure, GroupConfidence):
        count = measure.top_k or 20
        values = [-math.fsum(map(math.log, sorted(row.tolist())[-count:])) / count for row in probs]
        width = min(measure.window, len(values))
        return min(sum(values[start : start + width]) / width for start in range(len(values) - width + 1))
    if isinstance(measure, SelfCertainty):
        size = probs.shape[-1]
        return math.fsum(math.log(1 / size / p) / size for row in probs for p in row.tolist()) / len(tokens)
    if isinstance(measure, NegativeEntropy):
        return math.fsum(p * math.log(p) for row in probs for p in row.tolist()) / len(tokens)
    return -0.5 * len(tokens)


def expected_of(policy, measure, sequences, prompt_mask, mask):
    """[`by_hand`] for every row, from one plain forward over it, without its padding."""
    rewards = []
    copies = len(sequences) // len(prompt_mask)
    for row, ids in enumerate(sequences):
        start = int((prompt_mask[row // copies] == 0).sum())
        width, length = prompt_mask.shape[1], int(mask[row].sum())
        with torch.no_grad():
            logits = policy(ids[None, start : width + length]).logits[0, width - start - 1 : -1]
        rewards.append(by_hand(measure, logits, ids[width : width + length].tolist()))
    return torch.tensor(rewards, dtype=torch.float64)


CALLS = {
    "greedy": dict(do_sample=False, max_new_tokens=7),
    "sampling": dict(do_sample=True, max_new_tokens=12, temperature=1.7, top_p=0.9),
    "several returns": dict(do_sample=True, max_new_tokens=9, num_return_sequences=3),
    "a dictionary": dict(do_sample=True, max_new_tokens=6, return_dict_in_generate=True, output_scores=True),
    "chunks": dict(do_sample=True, max_new_tokens=6, prefill_chunk_size=2),
    "a static cache": dict(do_sample=True, max_new_tokens=5, cache_implementation="static"),
    "one token": dict(do_sample=True, max_new_tokens=1),
}


@pytest.mark.stack
@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
@pytest.mark.parametrize("settings", CALLS.values(), ids=CALLS)
def test_rewards_are_those_computed_by_hand(measure, settings):
    policy = float64_lm("llama", 0)
    ids, mask = left_padded_batch()
    torch.manual_seed(0)
    with LogitsReward(policy, measure) as reader:
        out = policy.generate(ids, attention_mask=mask, suppress_tokens=[PAD], **settings, **ENDS)
    sequences = getattr(out, "sequences", out)
    written = completion_mask_from_ids(sequences[:, ids.shape[1] :], [EOS], PAD)
    assert torch.equal(reader.completion_mask, written)
    expected = expected_of(policy, measure, sequences, mask, written)
    torch.testing.assert_close(reader.rewards.double(), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("pad", [PAD, EOS])
@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_filler_after_a_stop_string_does_not_count(measure, pad):
    policy = float64_lm("llama", 0)
    ids, mask = left_padded_batch((5, 3, 7, 4))
    tokenizer = letter_tokenizer()
    likely = policy.generate(ids, attention_mask=mask, max_new_tokens=9, do_sample=False)[:, ids.shape[1] :]
    stops = tokenizer.convert_ids_to_tokens(likely[:, 2:6].diagonal().tolist())
    with LogitsReward(policy, measure) as reader:
        out = policy.generate(
            ids, attention_mask=mask, max_new_tokens=9, do_sample=False, stop_strings=stops, tokenizer=tokenizer,
            eos_token_id=EOS, pad_token_id=pad,
        )  # fmt: skip
    lengths = reader.completion_mask.sum(-1)
    assert len(set(lengths.tolist())) > 1 and reader.is_finished.any()
    expected = expected_of(policy, measure, out, mask, reader.completion_mask)
    torch.testing.assert_close(reader.rewards.double(), expected, atol=1e-6, rtol=1e-6)


def test_memory_does_not_grow_with_the_length():
    policy = tiny_causal_lm()
    ids, mask = left_padded_batch()

    def numbers(measure, length):
        with LogitsReward(policy, measure) as reader:
            policy.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=length, eos_token_id=None)
        return sum(value.numel() for value in vars(reader._running).values() if isinstance(value, torch.Tensor))

    for measure in MEASURES.values():
        assert numbers(measure, 4) == numbers(measure, 14) <= 3 * (getattr(measure, "window", 0) + 2)


def test_what_is_generated_does_not_change():
    policy = tiny_causal_lm()
    ids, mask = left_padded_batch()

    def run():
        torch.manual_seed(1)
        return policy.generate(ids, attention_mask=mask, do_sample=True, max_new_tokens=8, **ENDS)

    plain = run()
    with LogitsReward(policy), counted(policy) as shapes:
        assert torch.equal(run(), plain)
    assert len(shapes) == plain.shape[1] - ids.shape[1]  # no forward more
    assert torch.equal(run(), plain)
    assert "generate" not in vars(policy) and not policy._forward_hooks


def test_several_readers_and_a_head_read_one_call():
    policy = tiny_causal_lm()
    head = ELHSRModel.from_policy(policy)
    ids, mask = left_padded_batch()
    settings = dict(attention_mask=mask, do_sample=False, max_new_tokens=8, **ENDS)
    alone = []
    for make in [*(lambda one=one: LogitsReward(policy, one) for one in MEASURES.values())]:
        with make() as reader:
            policy.generate(ids, **settings)
        alone.append(reader.rewards)
    with HiddenStateReward(policy, head) as meter:
        policy.generate(ids, **settings)
    for head_first in (True, False):
        readers = [LogitsReward(policy, one) for one in MEASURES.values()]
        both = HiddenStateReward(policy, head)
        with contextlib.ExitStack() as stack:
            for one in [both, *readers] if head_first else [*readers, both]:
                stack.enter_context(one)
            policy.generate(ids, **settings)
        for reader, expected in zip(readers, alone, strict=True):
            assert torch.equal(reader.rewards, expected)
        assert torch.equal(both.rewards, meter.rewards)


class _AsksThePolicy(LogitsProcessor):
    """As classifier-free guidance does: a forward of the policy for itself between its own."""

    def __init__(self, policy):
        self.policy = policy

    def __call__(self, input_ids, scores):
        self.policy(input_ids[:, -1:])
        return scores


def test_other_forwards_of_the_policy_are_not_read():
    policy = tiny_causal_lm()
    ids, mask = left_padded_batch()
    rewards = []
    for processors in ([], [_AsksThePolicy(policy)]):
        with LogitsReward(policy, "mean_log_probability") as reader:
            policy.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=6, logits_processor=processors)
        rewards.append(reader.rewards)
    assert torch.equal(*rewards)


def test_threads_and_adapters_have_readers_of_their_own():
    plain = tiny_causal_lm()
    ids, mask = left_padded_batch()
    settings = dict(attention_mask=mask, do_sample=False, max_new_tokens=6)
    adapted = get_peft_model(tiny_causal_lm(), LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))

    def run(policy, measure):
        with LogitsReward(policy, measure) as reader:
            policy.generate(input_ids=ids, **settings)
        return reader.rewards

    calls = [(policy, measure) for policy in (plain, adapted) for measure in MEASURES.values()]
    alone = [run(*call) for call in calls]
    assert not torch.equal(alone[0], alone[len(MEASURES)])
    with ThreadPoolExecutor(4) as pool, LogitsReward(plain) as outer:
        together = list(pool.map(run, *zip(*calls, strict=True)))
        with pytest.raises(RuntimeError, match="No `generate` has run"):
            _ = outer.rewards  # calls of other threads
    for found, expected in zip(together, alone, strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(num_beams=2), "'beam_search'"),
        (dict(num_beams=2, do_sample=True), "'beam_sample'"),
        (dict(prompt_lookup_num_tokens=2), "'assisted_generation'"),
        (dict(assistant_model=tiny_causal_lm(seed=1)), "'assisted_generation'"),
        (dict(custom_generate=print), "`custom_generate`"),
        (dict(cache_implementation="paged"), "must not be 'paged'"),
    ],
)
def test_rows_that_change_places_are_refused_before_anything_is_read(settings, message):
    policy = tiny_causal_lm()
    ids, mask = left_padded_batch()
    with LogitsReward(policy) as reader, counted(policy) as shapes:
        with pytest.raises(ValueError, match=message):
            policy.generate(ids, attention_mask=mask, max_new_tokens=4, **settings)
    assert shapes == []
    with pytest.raises(RuntimeError, match="No `generate` has run"):
        _ = reader.rewards


def test_misuse_is_refused():
    policy = tiny_causal_lm()
    ids, mask = left_padded_batch()
    settings = dict(attention_mask=mask, do_sample=False, max_new_tokens=3)
    with pytest.raises(ValueError, match="`measure` must be one of 'confidence'.*got 'certainty'"):
        LogitsReward(policy, "certainty")
    with pytest.raises(TypeError, match="must be a `Measure` or the name of one, got a `ABCMeta`"):
        LogitsReward(policy, GroupConfidence)
    with pytest.raises(ValueError, match="at most the 32 tokens of the policy's vocabulary, got 33"):
        with LogitsReward(policy, GroupConfidence(top_k=33)):
            policy.generate(ids, **settings)
    with pytest.raises(ValueError, match="`window` must be an integer of at least 1, got 0"):
        GroupConfidence(window=0)
    with pytest.raises(TypeError, match="`top_k` must be an integer"):
        GroupConfidence(top_k=2.5)
    with pytest.raises(ValueError, match="`per_token` must be a number, got nan"):
        Length(math.nan)
    with pytest.raises(ValueError, match="must get `input_ids`.*`LogitsReward`"):
        with LogitsReward(policy):
            policy.generate(inputs_embeds=policy.get_input_embeddings()(ids), max_new_tokens=2)
    with LogitsReward(policy) as reader:
        with pytest.raises(RuntimeError, match="entered once at a time"):
            reader.__enter__()
        policy.generate(ids, **settings)
        reader.carry(torch.tensor([0, 2]))
        with pytest.raises(RuntimeError, match="must continue the 2 rows that were carried, got 3"):
            policy.generate(ids, **settings)


@pytest.mark.parametrize("reader_of", [
    lambda policy: LogitsReward(policy, GroupConfidence(window=4)),
    lambda policy: LogitsReward(policy, "mean_log_probability"),
    lambda policy: HiddenStateReward(policy, ELHSRModel.from_policy(policy)),
], ids=["groups", "mean", "head"])  # fmt: skip
def test_carried_rows_are_rewarded_for_all_calls(reader_of):
    policy = tiny_causal_lm()
    ids, mask = left_padded_batch()
    torch.manual_seed(0)
    reader = reader_of(policy)
    whole = dict(do_sample=False, eos_token_id=None)
    with reader:
        policy.generate(ids, attention_mask=mask, max_new_tokens=9, **whole)
        expected = reader.rewards[torch.tensor([2, 0])]
        first = policy.generate(ids, attention_mask=mask, max_new_tokens=3, **whole)
        reader.carry(torch.tensor([2, 0]))
        more = torch.cat([mask, mask.new_ones(3, 3)], -1)[[2, 0]]
        policy.generate(first[[2, 0]], attention_mask=more, max_new_tokens=6, **whole)
        torch.testing.assert_close(reader.rewards, expected, atol=1e-5, rtol=1e-5)
        policy.generate(ids, attention_mask=mask, max_new_tokens=9, **whole)  # nothing was carried: a new start
        torch.testing.assert_close(reader.rewards[torch.tensor([2, 0])], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_the_model_of_finished_texts_gives_the_same_rewards(measure):
    policy = float64_lm("llama", 0)
    ids, mask = left_padded_batch()
    torch.manual_seed(3)
    with LogitsReward(policy, measure) as reader:
        out = policy.generate(
            ids, attention_mask=mask, do_sample=True, max_new_tokens=8, num_return_sequences=2, suppress_tokens=[PAD],
            sequence_bias={(EOS,): 3.0}, **ENDS,
        )  # fmt: skip
    written = reader.completion_mask
    prompt_mask = mask.repeat_interleave(2, 0)
    completion = F.pad(written, (ids.shape[1], 0))
    found = LogitsRewardModel(policy, measure)(out, torch.cat([prompt_mask, written.long()], -1), completion)
    torch.testing.assert_close(found.logits[:, 0], reader.rewards.double(), atol=1e-6, rtol=1e-6)
    with pytest.raises(ValueError, match="must follow a prompt of at least one token"):
        LogitsRewardModel(policy, measure)(out, torch.ones_like(out), torch.ones_like(completion))

import pytest
import torch
from tiny import ARCHITECTURES, EOS, PAD, left_padded_batch, tiny_causal_lm

from hf_reward_ext.base.lm.tokens import completion_mask_from_ids
from hf_reward_ext.elhsr.features import teacher_forced_features
from hf_reward_ext.elhsr.model import ELHSRModel, gated_mean
from hf_reward_ext.elhsr.pruning import Pruning, generate_pruned

ENDS = dict(eos_token_id=EOS, pad_token_id=PAD)


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
    candidates = generate_pruned(
        policy, head, input_ids, attention_mask, 8, Pruning((3, 6)), max_new_tokens=14, do_sample=True,
        suppress_tokens=[PAD], **ENDS,
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
    candidates = generate_pruned(policy, head, input_ids, attention_mask, 8, Pruning((4,)), **settings)
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
    candidates = generate_pruned(
        policy, ELHSRModel.from_policy(policy), input_ids, attention_mask, 4, Pruning((2, 5)), max_new_tokens=9,
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
    candidates = generate_pruned(
        policy, ELHSRModel.from_policy(policy), input_ids, attention_mask, 4, Pruning((3,)), max_new_tokens=50,
        do_sample=True, sequence_bias=bias, **ENDS,
    )  # fmt: skip
    assert not candidates.pruned.any() and (candidates.num_tokens == 1).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(steps=()), "ascending completion lengths"),
        (dict(steps=(4, 2)), "ascending"),
        (dict(steps=(2,), keep=1.0), r"share in"),
    ],
)
def test_bad_schedules_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Pruning(**arguments)


def test_survivor_counts():
    assert [Pruning((1, 2, 3, 4)).survivors(rung, 16) for rung in range(5)] == [8, 4, 2, 1, 1]


def test_candidates_far_behind_the_best_are_dropped_and_only_those():
    policy = tiny_causal_lm()
    head = ELHSRModel.from_policy(policy)
    ids, mask = left_padded_batch()
    kwargs = dict(max_new_tokens=10, eos_token_id=EOS, pad_token_id=PAD, do_sample=True, top_k=0)

    def run(pruning):
        torch.manual_seed(0)
        return generate_pruned(policy, head, ids, mask, 8, pruning, **kwargs)

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


@pytest.mark.parametrize(("keep", "gap", "message"), [(1.0, None, "1 alone drops nothing"), (0.5, -1.0, "distance")])
def test_gaps_that_make_no_sense_are_refused(keep, gap, message):
    with pytest.raises(ValueError, match=message):
        Pruning((4,), keep, gap)

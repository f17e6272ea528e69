import math

import pytest
import torch
from tiny import EOS, PAD, left_padded_batch, tiny_causal_lm, tiny_tokenizer
from transformers import pipeline

from hf_reward_ext.base.lm.draws import Draws, candidate_generator
from hf_reward_ext.best_of_n import Resampling
from hf_reward_ext.best_of_n.resampling import systematic_ancestors
from hf_reward_ext.best_of_n.staged import generate_staged
from hf_reward_ext.confidence import GroupConfidence, LogitsReward, LogitsRewardModel
from hf_reward_ext.elhsr import ELHSRModel, HiddenStateReward


def test_everyone_has_as_many_copies_as_its_weight_on_average():
    torch.manual_seed(0)
    weights = torch.rand(5, 7).double().pow(3)
    weights /= weights.sum(-1, keepdim=True)
    offsets = (torch.arange(1000) + 0.5) / 1000
    counts = torch.zeros(5, 7)
    for offset in offsets.double():
        copies = torch.stack([row.bincount(minlength=7) for row in systematic_ancestors(weights, offset.expand(5))])
        assert (copies >= (7 * weights).floor()).all() and (copies <= (7 * weights).ceil()).all()
        counts += copies
    torch.testing.assert_close(counts / 1000, (7 * weights).float(), atol=2e-3, rtol=0)


def test_rounding_never_leaves_the_candidates():
    weights = torch.tensor([[0.0, 1.0, 0.0], [1 / 3, 1 / 3, 1 / 3]]).double()
    for offset in (0.0, 1 - 2**-53):
        found = systematic_ancestors(weights, torch.tensor([offset, offset]).double())
        assert found[0].tolist() == [1, 1, 1]
        assert found[1].tolist() == sorted(found[1].tolist()) and found[1].max() <= 2


@pytest.mark.parametrize(("steps", "temperature"), [((1,), 0.7), ((1, 2), 0.7), ((2,), 1.5)])
def test_prefixes_follow_the_policy_times_their_reward(steps, temperature):
    """On an enumerated vocabulary: all tokens and pairs of tokens, with their probabilities and rewards."""
    policy = tiny_causal_lm()
    prompt, count, length = torch.tensor([[5, 6, 7]]), 6000, steps[-1]
    torch.manual_seed(1)
    candidates = generate_staged(
        policy, LogitsReward(policy, "mean_log_probability"), prompt, torch.ones_like(prompt), count,
        Resampling(steps, temperature), do_sample=True, max_new_tokens=length + 1, top_k=0, eos_token_id=None,
        pad_token_id=PAD,
    )  # fmt: skip
    with torch.no_grad():
        first = policy(prompt).logits[0, -1].double().log_softmax(-1)
        pairs = torch.cat([prompt.repeat(32, 1), torch.arange(32)[:, None]], -1)
        second = policy(pairs).logits[:, -1].double().log_softmax(-1)
    log_probs = first if length == 1 else (first[:, None] + second).flatten()
    target = (log_probs + log_probs / length / temperature).softmax(-1)
    written = candidates.sequences[:, 3 : 3 + length]
    index = written[:, 0] if length == 1 else written[:, 0] * 32 + written[:, 1]
    found = index.bincount(minlength=len(target)) / count
    plain = log_probs.exp()
    assert (plain - target).abs().sum() / 2 > 0.2
    assert (found - target).abs().sum() / 2 < 0.06


@pytest.mark.stack
@pytest.mark.parametrize("kind", ["head", "confidence"])
def test_copies_are_continued_from_their_own_rows(kind):
    policy = tiny_causal_lm()
    head = ELHSRModel.from_policy(policy)
    measure = GroupConfidence(window=3)
    ids, mask = left_padded_batch()
    reader = HiddenStateReward(policy, head) if kind == "head" else LogitsReward(policy, measure)
    torch.manual_seed(0)
    candidates = generate_staged(
        policy, reader, ids, mask, 8, Resampling((2, 4, 6), 0.3), do_sample=True, max_new_tokens=9,
        suppress_tokens=[PAD], sequence_bias={(EOS,): 2.0}, eos_token_id=EOS, pad_token_id=PAD,
    )  # fmt: skip
    assert not candidates.pruned.any() and len(candidates.sequences) == 24
    written = torch.arange(candidates.sequences.shape[1] - ids.shape[1]) < candidates.num_tokens[:, None]
    ended = (candidates.sequences[:, ids.shape[1] :] == EOS).any(-1)
    assert ended.any() and not ended.all()
    attention = torch.cat([mask.repeat_interleave(8, 0), written.long()], -1)
    completion = torch.cat([torch.zeros(24, ids.shape[1], dtype=torch.bool), written], -1)
    if kind == "head":
        with torch.no_grad():
            states = policy(candidates.sequences, attention_mask=attention, output_hidden_states=True).hidden_states
            expected = head(states, completion)
    else:
        expected = LogitsRewardModel(policy, measure)(candidates.sequences, attention, completion).logits[:, 0]
    torch.testing.assert_close(candidates.rewards, expected, atol=1e-4, rtol=1e-4)
    prefixes = candidates.sequences[:, : ids.shape[1] + 2].view(3, 8, -1)
    assert all(len(group.unique(dim=0)) < 8 for group in prefixes)
    for prompt, group in zip(ids, prefixes, strict=True):
        assert (group[:, : ids.shape[1]] == prompt).all()  # nobody continues another prompt


def test_high_temperatures_keep_everyone():
    policy = tiny_causal_lm()
    ids, mask = left_padded_batch()
    settings = dict(do_sample=True, max_new_tokens=6, eos_token_id=None, pad_token_id=PAD)
    found = []
    for temperature in (1e9, 1e-4):
        torch.manual_seed(0)
        reader = LogitsReward(policy, "mean_log_probability")
        found.append(generate_staged(policy, reader, ids, mask, 6, Resampling((3,), temperature), **settings).sequences)
    counts = [[len(group[:, : ids.shape[1] + 3].unique(dim=0)) for group in one.view(3, 6, -1)] for one in found]
    assert counts[1] == [1, 1, 1] and all(count > 3 for count in counts[0])


def test_the_pipeline_resamples_in_waves_too():
    pipe = pipeline("reward-bon", model=tiny_causal_lm(), tokenizer=tiny_tokenizer(), reward_model="confidence")
    settings = dict(prune=Resampling((2, 4)), return_all=True, seed=0, max_new_tokens=6, batch_size=2)
    for counts in (dict(num_candidates=6), dict(num_candidates=(3, 6), stop=lambda drawn: False)):
        results = pipe(["w1 w2", "w3"], **counts, **settings)
        assert [len(group) for group in results] == [6, 6]
        assert not any(one["pruned"] for group in results for one in group)
        assert pipe(["w1 w2", "w3"], **counts, **settings) == results


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(steps=()), "`steps` must be ascending completion lengths"),
        (dict(steps=(3, 2)), "ascending"),
        (dict(steps=(2,), temperature=0), "`temperature` must be a number above 0, got 0"),
        (dict(steps=(2,), temperature=math.nan), "`temperature` must be a number above 0, got nan"),
        (dict(steps=(2,), temperature="1"), "`temperature` must be a number"),
    ],
)
def test_bad_schedules_are_refused(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Resampling(**arguments)


def test_copies_cannot_have_random_numbers_of_their_own():
    policy = tiny_causal_lm()
    ids, mask = left_padded_batch()
    draws = Draws([candidate_generator(0, [1], number) for number in range(12)])
    with pytest.raises(ValueError, match="`draws` must be left out with `Resampling`"):
        generate_staged(policy, LogitsReward(policy), ids, mask, 4, Resampling((2,), 1.0), draws=draws)

"""What guided decoding samples, by enumerating every sequence of three tokens over a vocabulary of three."""

import itertools

import pytest
import torch

from hf_reward_ext.genarm.combine import guided_logps

VOCAB = LENGTH = 3
SEQUENCES = list(itertools.product(range(VOCAB), repeat=LENGTH))
PREFIXES = [prefix for length in range(LENGTH) for prefix in itertools.product(range(VOCAB), repeat=length)]


def random_model(generator):
    """Next-token log-probabilities after every prefix."""
    return {p: torch.randn(VOCAB, generator=generator, dtype=torch.float64).log_softmax(-1) for p in PREFIXES}


def sequence_logps(model):
    return torch.stack([sum(model[y[:t]][y[t]] for t in range(LENGTH)) for y in SEQUENCES])


def conditionals(logps):
    """The next-token distributions of any distribution over sequences."""
    model = {}
    for prefix in PREFIXES:
        mass = [
            torch.stack(
                [logp for y, logp in zip(SEQUENCES, logps, strict=True) if y[: len(prefix) + 1] == (*prefix, v)]
            ).logsumexp(0)
            for v in range(VOCAB)
        ]
        model[prefix] = torch.stack(mass).log_softmax(-1)
    return model


def guided(base, arm, alpha):
    weight = torch.tensor([[alpha]], dtype=torch.float64)
    return {p: guided_logps(base[p][None], [arm[p][None]], weight, VOCAB)[0] for p in PREFIXES}


@pytest.mark.parametrize("alpha", [0.5, 1.0, 3.0])
def test_an_arm_of_token_ratios_makes_any_target(alpha):
    generator = torch.Generator().manual_seed(0)
    base = random_model(generator)
    target = torch.randn(len(SEQUENCES), generator=generator, dtype=torch.float64).log_softmax(-1)
    token_target = conditionals(target)
    arm = {p: ((token_target[p] - base[p]) / alpha).log_softmax(-1) for p in PREFIXES}
    torch.testing.assert_close(sequence_logps(guided(base, arm, alpha)), target, atol=1e-6, rtol=0)


def test_the_arm_of_a_sequence_reward_does_not_make_the_globally_normalized_product():
    generator = torch.Generator().manual_seed(0)
    base = random_model(generator)
    reward = torch.randn(len(SEQUENCES), generator=generator, dtype=torch.float64)
    arm = conditionals(reward.log_softmax(-1))  # log pi_r(y) = r(y) - const: the same preferences
    torch.testing.assert_close(sequence_logps(arm), reward.log_softmax(-1))
    product = (sequence_logps(base) + reward).log_softmax(-1)
    local = sequence_logps(guided(base, arm, 1.0))
    gap = float((local.exp() * (local - product)).sum())
    assert gap > 1e-3
    log_z = torch.stack(
        [sum((base[y[:t]] + arm[y[:t]]).logsumexp(-1) for t in range(LENGTH)) for y in SEQUENCES]
    )  # importance weights close the gap
    torch.testing.assert_close((local + log_z).log_softmax(-1), product)

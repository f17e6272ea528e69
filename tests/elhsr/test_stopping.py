import pytest
import torch
from tiny import EOS, PAD, left_padded_batch, tiny_causal_lm, tiny_tokenizer

from hf_reward_ext.elhsr import (
    ELHSRModel,
    HiddenStateReward,
    HiddenStateStoppingCriteria,
    PrefixCalibration,
    write_answer,
)

SETTINGS = dict(do_sample=False, max_new_tokens=12, eos_token_id=EOS, pad_token_id=PAD)


def calibrated(policy, slope=1.0, intercept=0.0):
    torch.manual_seed(0)
    head = ELHSRModel.from_policy(policy)
    head.config.calibration = [slope, intercept]
    return head


def expected_ends(policy, head, ids, mask, marks, probability, calibrate=None, min_tokens=1):
    """Where each row should end: the first token after the first sure mark, from the rewards of plain decoding."""
    with HiddenStateReward(policy, head) as meter:
        plain = policy.generate(ids, attention_mask=mask, **SETTINGS)
    calibrate = calibrate or (lambda rewards, lengths: head.probability(rewards))
    lengths = torch.arange(1, meter.prefix_rewards.shape[1] + 1).float().expand_as(meter.prefix_rewards)
    sure = calibrate(meter.prefix_rewards, lengths) >= probability
    marked = torch.isin(plain[:, ids.shape[1] :], marks) & sure & meter.completion_mask & (lengths >= min_tokens)
    totals = meter.completion_mask.sum(-1)
    ends = [int(row.int().argmax()) + 2 if row.any() else 99 for row in marked]
    stopped = [end <= total for end, total in zip(ends, totals.tolist(), strict=True)]
    return plain, [min(end, total) for end, total in zip(ends, totals.tolist(), strict=True)], stopped


@pytest.mark.stack
@pytest.mark.parametrize(("probability", "min_tokens"), [(0.5, 1), (0.55, 4), (0.45, 1)])
def test_rows_end_after_the_first_sure_mark(probability, min_tokens):
    policy, tokenizer = tiny_causal_lm(), tiny_tokenizer()
    head = calibrated(policy)
    ids, mask = left_padded_batch((5, 3, 7, 4, 6, 2))
    words = [f"w{number}" for number in range(0, 24, 2)]  # half of the vocabulary are marks
    marks = torch.tensor(tokenizer.convert_tokens_to_ids(words))
    plain, ends, stopped = expected_ends(policy, head, ids, mask, marks, probability, min_tokens=min_tokens)
    with HiddenStateReward(policy, head) as meter:
        stop = HiddenStateStoppingCriteria(
            meter, _Words(tokenizer), probability, at=[f"{word} " for word in words], min_tokens=min_tokens
        )
        out = policy.generate(ids, attention_mask=mask, stopping_criteria=[stop], **SETTINGS)
    assert meter.completion_mask.sum(-1).tolist() == ends
    assert stop.is_stopped.tolist() == stopped
    assert any(stop.is_stopped)
    for row, end in enumerate(ends):
        assert torch.equal(out[row, : ids.shape[1] + end], plain[row, : ids.shape[1] + end])


class _Words:
    """Decodes with a space after every word, so that no mark is the beginning of another."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def decode(self, ids, **_):
        return "".join(f"{word} " for word in self.tokenizer.convert_ids_to_tokens(ids))


def test_marks_of_several_tokens():
    policy, tokenizer = tiny_causal_lm(), tiny_tokenizer()
    ids, mask = left_padded_batch()
    plain = policy.generate(ids, attention_mask=mask, **SETTINGS)
    pair = tokenizer.convert_ids_to_tokens(plain[0, ids.shape[1] + 2 : ids.shape[1] + 4])
    with HiddenStateReward(policy, calibrated(policy, 1.0, 50.0)) as meter:  # always sure
        stop = HiddenStateStoppingCriteria(meter, _Words(tokenizer), at=f"{pair[0]} {pair[1]} ")
        policy.generate(ids, attention_mask=mask, stopping_criteria=[stop], **SETTINGS)
        assert meter.completion_mask[0].sum() == 5 and stop.is_stopped[0]
        policy.generate(ids[1:], attention_mask=mask[1:], stopping_criteria=[stop], **SETTINGS)
        assert len(stop.is_stopped) == 2  # every call starts again


def test_an_unsure_head_changes_nothing():
    policy, tokenizer = tiny_causal_lm(), tiny_tokenizer()
    ids, mask = left_padded_batch()
    plain = policy.generate(ids, attention_mask=mask, **SETTINGS)
    with HiddenStateReward(policy, calibrated(policy, 1.0, -50.0)) as meter:
        stop = HiddenStateStoppingCriteria(meter, tokenizer, at="w")
        assert torch.equal(policy.generate(ids, attention_mask=mask, stopping_criteria=[stop], **SETTINGS), plain)


def test_prefixes_have_a_calibration_of_their_own():
    policy, tokenizer = tiny_causal_lm(), tiny_tokenizer()
    head = calibrated(policy)
    ids, mask = left_padded_batch((5, 3, 7, 4, 6, 2))
    calibration = PrefixCalibration(-1.0, 0.5, 0.8, 0.1)
    marks = torch.arange(32)
    _, ends, _ = expected_ends(policy, head, ids, mask, marks, 0.6, calibration)
    with HiddenStateReward(policy, head) as meter:
        stop = HiddenStateStoppingCriteria(meter, _Words(tokenizer), 0.6, at=" ", calibration=calibration)
        policy.generate(ids, attention_mask=mask, stopping_criteria=[stop], **SETTINGS)
    assert meter.completion_mask.sum(-1).tolist() == ends and len(set(ends)) > 1


def test_the_calibration_recovers_what_made_the_labels():
    torch.manual_seed(0)
    true = PrefixCalibration(-0.5, 0.3, 0.2, 0.4)
    rewards = torch.randn(4000, 1).expand(-1, 8) + 0.0
    lengths = torch.arange(1, 9).float().expand(4000, -1)
    mask = torch.zeros(4000, 8, dtype=torch.bool)
    mask[torch.arange(4000), torch.randint(8, (4000,))] = True
    kept = rewards.masked_fill(~mask, 0)
    # Each row has one marked place: what counts as its length is the number of marked places up to there, 1.
    labels = torch.bernoulli(true(rewards[:, 0], torch.ones(4000)))
    found = PrefixCalibration.fit(kept, mask, labels)
    assert found.intercept == pytest.approx(-0.5, abs=0.15) and found.reward == pytest.approx(0.3, abs=0.15)
    labels = torch.bernoulli(true(rewards[:, 0], torch.full((4000,), 8.0)))
    found = PrefixCalibration.fit(rewards, torch.ones_like(mask), labels)
    assert found(rewards[:, 7], lengths[:, 7]).mean().item() == pytest.approx(float(labels.mean()), abs=0.05)
    for wrong, message in [(torch.ones(4000), "Pass both kinds"), (labels[:5], "each row needs one label")]:
        with pytest.raises(ValueError, match=message):
            PrefixCalibration.fit(rewards, mask, wrong)


def test_answers_are_written_after_the_words_that_ask_for_them():
    policy, tokenizer = tiny_causal_lm(), tiny_tokenizer()
    ids, mask = left_padded_batch()
    with HiddenStateReward(policy, calibrated(policy, 1.0, 50.0)) as meter:
        stop = HiddenStateStoppingCriteria(meter, tokenizer, at="w", min_tokens=2)
        out = policy.generate(ids, attention_mask=mask, stopping_criteria=[stop], **SETTINGS)
    short = dict(do_sample=False, max_new_tokens=4)
    answers = write_answer(policy, tokenizer, out, mask, meter.completion_mask, "w9 w8", **short)
    for row in range(3):
        text = out[row, (mask[row] == 0).sum() :][: mask[row].sum() + meter.completion_mask[row].sum()]
        alone = torch.cat([text, torch.tensor(tokenizer("w9 w8", add_special_tokens=False)["input_ids"])])[None]
        expected = policy.generate(alone, attention_mask=torch.ones_like(alone), **short)[0, alone.shape[1] :]
        assert torch.equal(answers[row, : len(expected)], expected)
    with pytest.raises(ValueError, match="`text` must have tokens"):
        write_answer(policy, tokenizer, out, mask, meter.completion_mask, "", **short)
    with pytest.raises(ValueError, match="each row needs both"):
        write_answer(policy, tokenizer, out, mask[:2], meter.completion_mask, "w9", **short)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(probability=0), "`probability` must be a number above 0 and at most 1"),
        (dict(probability="0.9"), "`probability` must be a number"),
        (dict(at=""), "`at` must hold the text of a mark"),
        (dict(at=[]), "`at` must hold the text of a mark"),
        (dict(at=[3]), "`at` must be text or a list of texts, got a `int`"),
        (dict(at=None), "`at` must be text or a list of texts, got a `NoneType`"),
        (dict(min_tokens=0), "`min_tokens` must be an integer of at least 1"),
        (dict(meter=tiny_causal_lm()), "`meter` must be a `HiddenStateReward`, got a `LlamaForCausalLM`"),
        (dict(tokenizer=None), "`tokenizer` must be that of the policy, got a `NoneType`"),
        (dict(calibration=(1.0, 0.0)), "`calibration` must be a `PrefixCalibration`, got a `tuple`"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_bad_options_are_refused(given, message):
    policy = tiny_causal_lm()
    meter = HiddenStateReward(policy, calibrated(policy))
    with pytest.raises((ValueError, TypeError), match=message):
        HiddenStateStoppingCriteria(**{"meter": meter, "tokenizer": tiny_tokenizer(), **given})


def test_misuse_is_refused():
    policy, tokenizer = tiny_causal_lm(), tiny_tokenizer()
    ids, mask = left_padded_batch()
    with pytest.raises(ValueError, match="The head has no calibration"):
        HiddenStateStoppingCriteria(HiddenStateReward(policy, ELHSRModel.from_policy(policy)), tokenizer)
    meter = HiddenStateReward(policy, calibrated(policy))
    stop = HiddenStateStoppingCriteria(meter, tokenizer, at="w")
    with pytest.raises(RuntimeError, match="inside the context"):
        policy.generate(ids, attention_mask=mask, stopping_criteria=[stop], **SETTINGS)
    with meter, pytest.raises(RuntimeError, match="must write rows one token after the other"):
        policy.generate(ids, attention_mask=mask, stopping_criteria=[stop], num_beams=3, **SETTINGS)

"""Where `generate` ended its rows, against a simulation of the criteria on each row's own ids."""

import threading

import pytest
import torch
from tiny import EOS, PAD, left_padded_batch, letter_tokenizer, tiny_causal_lm
from transformers import StoppingCriteria
from transformers.generation import EosTokenCriteria, StopStringCriteria

from hf_reward_ext.base.lm.row_ends import watch_row_ends

STOPS = (9, 10, 11)
LETTERS = letter_tokenizer().convert_ids_to_tokens(STOPS)
LENGTH = 12


class StopAt(StoppingCriteria):
    """Ends single rows, as stop strings do."""

    def __call__(self, input_ids, scores, **kwargs):
        return torch.isin(input_ids[:, -1], torch.tensor(STOPS))


PADS = {
    "pad is EOS": dict(eos_token_id=EOS, pad_token_id=EOS),
    "pad among EOS": dict(eos_token_id=[EOS, 17], pad_token_id=17),
    "no pad": dict(eos_token_id=[EOS, 17], pad_token_id=None),
    "own pad": dict(eos_token_id=EOS, pad_token_id=PAD),
}
ENDINGS = {
    "stop string": lambda: dict(stop_strings=LETTERS, tokenizer=letter_tokenizer()),
    "criterion": lambda: dict(stopping_criteria=[StopAt()]),
    "length": lambda: dict(min_new_tokens=LENGTH),
    "EOS": lambda: {},
    "EOS of a criterion": lambda: dict(stopping_criteria=[EosTokenCriteria([EOS, 12])]),
}
DECODINGS = {
    "greedy": dict(do_sample=False),
    "sampling": dict(do_sample=True),
    "returns": dict(do_sample=True, num_return_sequences=4),
    "beams": dict(do_sample=False, num_beams=3, num_return_sequences=2),
}


def written(row, ending, eos):
    """Tokens of a row up to the first one that ends it, and whether there is one."""
    ends = {"stop string": set(STOPS), "criterion": set(STOPS), "EOS of a criterion": {EOS, 12}}.get(ending, set())
    # A criterion of the user replaces that of `generate` where both have one type.
    ends |= set() if ending in ("EOS of a criterion", "length") else set(torch.tensor(eos).flatten().tolist())
    length = next((index + 1 for index, token in enumerate(row) if token in ends), len(row))
    return length, row[length - 1] in ends


def policy_with(pad):
    policy = tiny_causal_lm()
    for name, value in PADS[pad].items():
        setattr(policy.generation_config, name, value)
        setattr(policy.config, name, value)
    return policy


@pytest.mark.parametrize("decoding", DECODINGS)
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("pad", PADS)
def test_ends_are_those_of_the_criteria(pad, ending, decoding):
    policy = policy_with(pad)
    ids, mask = left_padded_batch()
    torch.manual_seed(3)
    settings = dict(attention_mask=mask, max_new_tokens=LENGTH, **DECODINGS[decoding])
    with watch_row_ends(policy) as ends:
        out = policy.generate(ids, **settings, **ENDINGS[ending]())
    found = ends.completion_mask(out, ids.shape[1]).sum(-1).tolist()
    rows = [written(row, ending, PADS[pad]["eos_token_id"]) for row in out[:, ids.shape[1] :].tolist()]
    expected, finished = zip(*rows, strict=True)
    assert found == list(expected)
    assert ends.is_finished(out).tolist() == list(finished)
    # The same rows in another order and among padding.
    wider = torch.nn.functional.pad(out.flip(0), (0, 2), value=PADS[pad]["pad_token_id"] or EOS)
    assert ends.completion_mask(wider, ids.shape[1]).sum(-1).tolist() == list(expected[::-1])


def test_a_row_that_ends_at_the_very_limit_is_finished():
    policy = policy_with("pad is EOS")
    ids, mask = left_padded_batch((5,))
    first = policy.generate(ids, attention_mask=mask, max_new_tokens=1, do_sample=False)[0, -1].item()
    for criteria, finished in (([EosTokenCriteria(first)], True), ([], False)):
        with watch_row_ends(policy) as ends:
            out = policy.generate(
                ids, attention_mask=mask, max_new_tokens=1, do_sample=False, stopping_criteria=criteria
            )
        assert ends.is_finished(out).tolist() == [finished] and ends.completion_mask(out, 5).all()


def test_rows_that_were_not_written_are_cut_by_their_ids():
    policy = policy_with("own pad")
    ids, mask = left_padded_batch((5,))
    with watch_row_ends(policy) as ends:
        policy.generate(ids, attention_mask=mask, max_new_tokens=3, do_sample=False)
    foreign = torch.tensor([[4, 4, 4, 4, 4, 8, EOS, 8], [4, 4, 4, 4, 4, 8, PAD, PAD]])
    assert ends.completion_mask(foreign, 5).tolist() == [[True, True, False], [True, False, False]]


def test_drafts_of_an_assistant_end_no_row():
    policy = policy_with("pad is EOS")
    ids, mask = left_padded_batch((6,))
    kwargs = dict(attention_mask=mask, max_new_tokens=LENGTH, do_sample=False)
    plain = policy.generate(ids, **kwargs)
    for draft in (dict(assistant_model=tiny_causal_lm(seed=1)), dict(assistant_early_exit=2)):
        with watch_row_ends(policy) as ends:
            out = policy.generate(ids, **kwargs, **draft)
        assert torch.equal(out, plain) and ends.completion_mask(out, 6).all()


def test_calls_of_other_threads_are_not_recorded_and_no_wrapper_remains():
    policy, other = policy_with("own pad"), tiny_causal_lm(seed=1)
    ids, mask = left_padded_batch((5,))
    before = set(vars(policy))
    with watch_row_ends(policy) as ends, watch_row_ends(policy) as second:
        out = policy.generate(ids, attention_mask=mask, max_new_tokens=4, do_sample=False)
        expected = ends.completion_mask(out, 5)
        thread = threading.Thread(target=lambda: policy.generate(ids[:, :2], max_new_tokens=7))
        thread.start()
        thread.join()
        other.generate(ids, attention_mask=mask, max_new_tokens=9)
        assert torch.equal(ends.completion_mask(out, 5), expected) and torch.equal(ends._ids, out)
        assert torch.equal(second.completion_mask(out, 5), expected)
    assert set(vars(policy)) == before


def test_a_custom_criterion_may_use_the_matching_string():
    """`StopStringCriteria` made by the user replaces that of `generate`, as its own warning says."""
    policy = policy_with("pad is EOS")
    ids, mask = left_padded_batch()
    torch.manual_seed(3)
    criteria = [StopStringCriteria(letter_tokenizer(), LETTERS)]
    with watch_row_ends(policy) as ends:
        out = policy.generate(
            ids, attention_mask=mask, max_new_tokens=LENGTH, do_sample=True, stopping_criteria=criteria
        )
    expected = [written(row, "stop string", EOS)[0] for row in out[:, ids.shape[1] :].tolist()]
    assert ends.completion_mask(out, ids.shape[1]).sum(-1).tolist() == expected

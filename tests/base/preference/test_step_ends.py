"""The last token of each step, in tokenizers of words, letters and bytes."""

import pytest
from tiny import letter_tokenizer, tiny_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from hf_reward_ext.base.preference.step_ends import find_step_ends


def byte_tokenizer():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({"<eos>": 0, **{one: index + 1 for index, one in enumerate(alphabet)}}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>")


def test_letters():
    tokenizer = letter_tokenizer()
    ids = [3, 4, 5, 6, 2]  # the last is EOS
    text = tokenizer.decode(ids, skip_special_tokens=True)
    assert len(text) == 4
    assert find_step_ends(tokenizer, ids, [text[:1], text[1:3], text[3:]]) == [0, 2, 4]
    assert find_step_ends(tokenizer, ids, [text]) == [4]


def test_a_step_may_end_inside_a_word_and_whitespace_is_not_compared():
    tokenizer = tiny_tokenizer()
    assert find_step_ends(tokenizer, [12, 13, 14], ["w", "4 w5", " w6"]) == [0, 1, 2]
    assert find_step_ends(tokenizer, [12, 13, 14], ["w4\n\n", "w5\t ", "\nw6"]) == [0, 1, 2]


@pytest.mark.parametrize(
    "steps",
    [
        ["日本\n", "é=1\n\n", "x"],
        ["a b\n", "c  ", "d\n\n", "e f"],
        ["ab", "cd", "e"],
        ["🙂", "🙂🙂\n", "."],
        ["one"],
    ],
)
@pytest.mark.parametrize("before", ["", "12 = "])
def test_bytes_of_characters_and_of_the_whitespace_after_a_step_belong_to_it(steps, before):
    tokenizer = byte_tokenizer()
    ids = [*tokenizer(before + "".join(steps))["input_ids"], tokenizer.eos_token_id]
    sizes = [len(step.encode()) for step in steps]
    by_hand = [len(before.encode()) + sum(sizes[: number + 1]) - 1 for number in range(len(steps) - 1)]
    assert find_step_ends(tokenizer, ids, steps) == [*by_hand, len(ids) - 1]


def test_an_answer_that_was_cut_inside_a_character():
    tokenizer = byte_tokenizer()
    ids = tokenizer("a\né")["input_ids"][:-1]
    assert find_step_ends(tokenizer, ids, ["a\n", tokenizer.decode(ids)[2:]]) == [1, 2]


def test_the_tokens_of_another_text_are_refused():
    with pytest.raises(ValueError, match="must be those of their text, got 'w4w5' for the steps"):
        find_step_ends(tiny_tokenizer(), [12, 13], ["w4", "w6"])

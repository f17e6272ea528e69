"""Labels of steps by rollouts, against scripted continuations and against a recomputation."""

import json

import pytest
import torch
from tiny import tiny_causal_lm, tiny_tokenizer

from hf_reward_ext.best_of_n import label_steps
from hf_reward_ext.engines import Sampling, TransformersGenerator
from hf_reward_ext.engines.generator import Generated

# Continuations of each prefix; a response is right if it ends with an exclamation mark.
SCRIPT = {
    "p|a;": ["b;c!", "x;y", "b!", "z"],
    "p|a;b;": ["c!", "c!", "c!", "d"],
    "p|x;": ["y", "y", "y", "y"],
}
ROWS = [{"prompt": "p|", "completion": "a;b;c!"}, {"prompt": "p|", "completion": "x;y"}]
LABELS = [[2 / 4, 3 / 4, 1.0], [0.0, 0.0]]


class Script:
    """A generator of scripted continuations, which records its prompts."""

    def __init__(self):
        self.prompts = []

    def generate(self, prompts, num_candidates, sampling, first=0):
        self.prompts += prompts
        texts = [one if isinstance(one, str) else one[0]["content"] + one[-1]["content"] for one in prompts]
        return [[Generated(text) for text in SCRIPT[one][:num_candidates]] for one in texts]

    def describe(self):
        return {}


def ends_right(prompts, completions):
    texts = [one if isinstance(one, str) else one[-1]["content"] for one in completions]
    return [float(text.endswith("!")) for text in texts]


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("rows_per_part", [1, 8])
def test_labels_by_hand(hard, rows_per_part):
    policy = Script()
    found = label_steps(policy, ROWS, ends_right, ";", num_rollouts=4, hard=hard, rows_per_part=rows_per_part)
    assert [row["completions"] for row in found] == [["a;", "b;", "c!"], ["x;", "y"]]
    assert [row["labels"] for row in found] == ([[1.0, 1.0, 1.0], [0.0, 0.0]] if hard else LABELS)
    assert policy.prompts == ["p|a;", "p|a;b;", "p|x;"]  # nothing is sampled after the last step


def test_the_answer_of_a_chat_is_continued():
    policy = Script()
    user = {"role": "user", "content": "p|"}
    rows = [{"prompt": [user], "completion": [{"role": "assistant", "content": "a;b;c!"}]}]
    [row] = label_steps(policy, rows, ends_right, ";", num_rollouts=4)
    assert row == {"prompt": [user], "completions": ["a;", "b;", "c!"], "labels": LABELS[0]}
    assert policy.prompts[1] == [user, {"role": "assistant", "content": "a;b;"}]


def test_rewards_are_compared_with_the_threshold_and_missing_ones_do_not_count():
    def reward(prompts, completions):
        return [None if "x" in text else 0.7 if text.endswith("!") else 0.2 for text in completions]

    found = {
        threshold: label_steps(Script(), ROWS[:1], reward, ";", num_rollouts=4, threshold=threshold)[0]["labels"]
        for threshold in (0.2, 0.7, 0.8)
    }
    assert found == {0.2: [1.0, 1.0, 1.0], 0.7: [2 / 3, 3 / 4, 1.0], 0.8: [0.0, 0.0, 0.0]}
    with pytest.raises(ValueError, match="`None` for all of step 0 of the prompt 'p|'"):
        label_steps(Script(), ROWS, reward, ";", num_rollouts=4)


@pytest.mark.parametrize(
    ("completion", "steps"),
    [
        ("a\n\nb", ["a\n\n", "b"]),
        ("a\n\n\n\nb\n\n", ["a\n\n\n\n", "b\n\n"]),
        ("\n\na\n\nb", ["\n\na\n\n", "b"]),
        ("a", ["a"]),
    ],
)
def test_a_step_of_whitespace_belongs_to_another(completion, steps):
    class Any(Script):
        def generate(self, prompts, num_candidates, sampling, first=0):
            return [[Generated("!")]] * len(prompts)

    [row] = label_steps(Any(), [{"prompt": "p", "completion": completion}], ends_right, num_rollouts=1)
    assert row["completions"] == steps and "".join(steps) == completion


def counts_w(prompts, completions):
    texts = [one if isinstance(one, str) else one[-1]["content"] for one in completions]
    return [float(len(text.split()) % 2) for text in texts]


@pytest.mark.parametrize("chat", [False, True])
def test_rollouts_are_those_of_the_generator_and_a_prefix_is_read_once(chat):
    model, tokenizer = tiny_causal_lm(), tiny_tokenizer()
    prompts = [[{"role": "user", "content": text}] if chat else text for text in ("w3 w4 ", "w5 ")]
    rows = [{"prompt": one, "completion": text} for one, text in zip(prompts, ("w6 w7 w8", "w9 w10"), strict=True)]
    sampling, policy = Sampling(max_new_tokens=5, seed=3), TransformersGenerator(model, tokenizer)
    shapes = []
    handle = model.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    found = label_steps(policy, rows, counts_w, " ", num_rollouts=6, sampling=sampling)
    handle.remove()
    read, *written = shapes
    assert read[0] == 3 and set(written) == {(3 * 6, 1)}  # three prefixes
    for row, given in zip(found, rows, strict=True):
        assert "".join(row["completions"]) == given["completion"] and row["prompt"] == given["prompt"]
        for number, label in enumerate(row["labels"][:-1], start=1):
            prefix = "".join(row["completions"][:number])
            begun = [*row["prompt"], {"role": "assistant", "content": prefix}] if chat else row["prompt"] + prefix
            [rollouts] = policy.generate([begun], 6, sampling)
            assert label == sum(len((prefix + one.text).split()) % 2 for one in rollouts) / 6
    again = label_steps(policy, rows, counts_w, " ", num_rollouts=6, sampling=sampling, rows_per_part=1)
    assert again == found
    others = [label_steps(policy, rows, counts_w, " ", num_rollouts=6, sampling=Sampling(5, seed=s)) for s in (4, 5)]
    assert others != [found, found]


@pytest.mark.parametrize("suffix", ["jsonl", "arrow"])
def test_a_killed_run_resumes_and_a_finished_file_is_read(suffix, tmp_path):
    rows = [{"prompt": "p|", "completion": "a;b;c!" if n % 2 else "x;y"} for n in range(5)]
    path = tmp_path / f"steps.{suffix}"
    calls = []

    def dies(prompts, completions):
        calls.append(len(completions))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return ends_right(prompts, completions)

    dies.__name__ = "ends_right"
    settings = dict(marks=";", num_rollouts=4, rows_per_part=2, path=path)
    with pytest.raises(KeyboardInterrupt):
        label_steps(Script(), rows, dies, **settings)
    assert not path.exists()
    policy = Script()
    found = label_steps(policy, rows, ends_right, **settings)
    assert found == label_steps(Script(), rows, ends_right, ";", num_rollouts=4) and policy.prompts == ["p|x;"]
    policy = Script()
    assert label_steps(policy, rows, ends_right, **settings) == found and not policy.prompts
    if suffix == "jsonl":
        assert [json.loads(line) for line in path.read_text().splitlines()] == found
    with pytest.raises(ValueError, match="with other settings"):
        label_steps(policy, rows, ends_right, **{**settings, "num_rollouts": 3})
    with pytest.raises(ValueError, match="other prompts or with other settings"):
        label_steps(policy, rows[1:], ends_right, **settings)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "p"}, "Row 1 of the step data: `completion` is missing"),
        ({"prompt": "", "completion": "a"}, "Row 1 of the step data: `prompt` must have text"),
        ({"prompt": "p", "completion": " "}, "`completion` must have text"),
        ({"prompt": "p", "completion": None}, "`completion` must be text or a list of messages"),
        ({"prompt": "p", "completion": [{"role": "assistant", "content": "a"}]}, "`completion` must be one message"),
        ({"prompt": [{"role": "user", "content": "p"}], "completion": [{"role": "user", "content": "a"}]},
         "must end with the assistant's message"),
    ],
)  # fmt: skip
def test_a_malformed_row_is_named_before_anything_is_sampled(row, message, tmp_path):
    policy = Script()
    with pytest.raises(ValueError, match=message):
        label_steps(policy, [ROWS[0], row], ends_right, ";", num_rollouts=4, path=tmp_path / "a.jsonl")
    assert not policy.prompts and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(generator=torch.nn.Linear(1, 1)), TypeError, "`generator` must have the methods"),
        (dict(num_rollouts=0), ValueError, "`num_rollouts` must be"),
        (dict(sampling=Sampling(temperature=0)), ValueError, "`temperature` must be positive"),
        (dict(threshold=float("nan")), ValueError, "`threshold` must be"),
        (dict(rows_per_part=0), ValueError, "`rows_per_part` must be"),
        (dict(marks="("), ValueError, "`marks` must be a regular expression"),
        (dict(scorer=3), TypeError, "must score text"),
        (dict(scorer=lambda prompts, completions, target: target), TypeError, "target"),
        (dict(rows=[]), ValueError, "The step data has no rows"),
        (dict(path="a.csv"), ValueError, "must end with '.jsonl' or '.arrow'"),
    ],
)
def test_what_cannot_be_labeled_is_refused(change, error, message):
    given = {"generator": Script(), "rows": ROWS, "scorer": ends_right, "marks": ";", **change}
    with pytest.raises(error, match=message):
        label_steps(**given)

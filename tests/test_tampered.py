"""On a transformers that renamed a keyword, everything of ours gives what it gave before or raises; never garbage."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tampered import RENAMED, tampered_llama
from tiny import EOS, PAD, left_padded_batch, tiny_causal_lm
from tiny_judges import pair_judge

import hf_reward_ext as ours

TESTS = Path(__file__).parent
ENDS = dict(eos_token_id=EOS, pad_token_id=PAD)


def llama(kind=None, seed=0):
    model = tiny_causal_lm(seed=seed)
    if kind is not None:
        model.__class__ = tampered_llama(kind)
    return model


@torch.no_grad()
def generated(model, kind, **settings):
    ids, mask = left_padded_batch()
    return model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=6, **ENDS, **settings)


def rewards(kind):
    policy = llama(kind)
    torch.manual_seed(0)
    with ours.HiddenStateReward(policy, ours.ELHSRModel.from_policy(policy)) as meter:
        generated(policy, kind)
    return meter.rewards


def channel(kind):
    torch.manual_seed(0)
    return ours.RewardTransformer.from_base(llama(kind), channel_size=4)


def texts(kind):
    ids, mask = left_padded_batch()
    torch.manual_seed(0)
    policy = llama(kind)
    return ours.ELHSRForSequenceClassification(policy, ours.ELHSRModel.from_policy(policy))(ids, mask).logits


def prefilled(kind):
    torch.manual_seed(0)
    return ours.SharedPrefill(llama(kind), *left_padded_batch()).generate(2, do_sample=True, max_new_tokens=6, **ENDS)


def judged(kind):
    judge = pair_judge(llama(kind))
    [judgment] = judge.judge(["w5 w6"], ["w7"], ["w8 w9"], mode="slow")
    return torch.tensor([judgment.probability])


SEARCH = dict(width=2, step=2, depth=1)
USES = {
    "plain generate": lambda kind: generated(llama(kind), kind),
    "processor": lambda kind: generated(
        llama(), kind, logits_processor=[ours.GenARMLogitsProcessor(llama(kind, seed=1))]
    ),
    "composite": lambda kind: generated(ours.GuidedCausalLM(llama(kind), llama(kind, seed=1)), kind),
    "composite with beams": lambda kind: generated(
        ours.GuidedCausalLM(llama(kind), llama(kind, seed=1)), kind, num_beams=3
    ),
    "rewards while generating": rewards,
    "rewards of texts": texts,
    "channel": lambda kind: channel(kind)(*left_padded_batch()).token_rewards,
    "search": lambda kind: generated(channel(kind), kind, custom_generate=ours.sla_generate, **SEARCH),
    "searching processor": lambda kind: generated(
        rt := channel(kind), kind, logits_processor=[ours.SLALogitsProcessor(rt, **SEARCH)]
    ),
    "shared prefill": prefilled,
    "judge": judged,
    "scorer of log-probabilities": lambda kind: (
        ours.GenARMRewardModel.from_causal_lm(llama(kind))(*left_padded_batch()).logits
    ),
}


@pytest.mark.stack
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", RENAMED)
@pytest.mark.filterwarnings("ignore:The cache of `TamperedLlama` cannot follow rows")  # exact, but slow
def test_a_renamed_keyword_is_refused_or_makes_no_difference(kind, use):
    expected = USES[use](None)
    try:
        found = USES[use](kind)
    except (ValueError, TypeError, RuntimeError) as error:
        old, new = RENAMED[kind]
        assert re.search(rf"{old}|{new}|cache|mask|position", str(error)), error
        return
    torch.testing.assert_close(found, expected)


def test_the_suite_fails_loudly_on_such_a_library():
    """Each of these passes on the library as it is."""
    tests = [
        "genarm/test_guided.py::test_forward_is_the_formula_with_and_without_a_cache",
        "genarm/test_decoding.py::test_the_guide_reads_each_token_once_where_rows_only_grow",
        "base/lm/test_prefill.py::test_the_prompt_is_read_once",
        "base/lm/test_prefill.py::test_the_cache_serves_several_times",
    ]
    command = [sys.executable, "-m", "pytest", "-p", "tampered", "-p", "no:cacheprovider", "-v", "--tb=line", "-m", ""]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    run = subprocess.run(
        [*command, *(str(TESTS / test) for test in tests)],
        capture_output=True, text=True, env=environment, cwd=TESTS.parent,
    )  # fmt: skip
    assert run.returncode == 1, run.stdout + run.stderr
    assert f"{len(tests)} failed" in run.stdout and " passed" not in run.stdout, run.stdout

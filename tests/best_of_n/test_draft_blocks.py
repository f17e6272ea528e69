"""Blocks by a drafter that a reward accepts: exact limits, and the distributions of RSD and GSI."""

import functools
import itertools
import math

import pytest
import torch
from enumerated import check_samples, enumerated, tiny_vocabulary, warm
from guided_reference import float64_lm
from tiny import PAD, left_padded_batch, tiny_causal_lm
from transformers import DynamicCache, TextStreamer

from hf_reward_ext.base.lm.forward import generate_cache_name
from hf_reward_ext.best_of_n import DraftBlocks, DraftBlocksOutput
from hf_reward_ext.genarm import GenARMRewardModel

ENDS = [2, 5, 9, 13, 20]


def reward(ids, mask, completion_mask):
    """A reward that depends on every token of the completion, and on nothing else."""
    columns = torch.arange(ids.shape[1]).flip(0) + 1  # counted from the end, so that padding does not matter
    return ((ids + 1) * columns * completion_mask).sum(-1).remainder(7) / 6


@pytest.mark.parametrize("threshold", [-math.inf, math.inf])
@pytest.mark.parametrize("lengths", [(5, 3, 7), (1, 1), (9, 1, 2, 2)])
def test_accepting_all_or_nothing_gives_the_greedy_tokens_of_one_model(threshold, lengths):
    policy, drafter = float64_lm("llama", 0), float64_lm("llama", 1)
    ids, mask = left_padded_batch(lengths)
    for block_tokens, ends, kwargs in (
        (1, (), {}), (3, (), dict(repetition_penalty=3.0)), (20, (), dict(min_new_tokens=5)), (5, (4, 7, 8), {}),
    ):  # fmt: skip
        settings = dict(attention_mask=mask, max_new_tokens=11, eos_token_id=ENDS, pad_token_id=PAD, **kwargs)
        blocks = DraftBlocks(drafter, reward, threshold=threshold, block_tokens=block_tokens, block_ends=ends)
        out = policy.generate(ids, custom_generate=blocks, return_dict_in_generate=True, **settings)
        alone = policy if threshold > 0 else drafter
        assert torch.equal(out.sequences, alone.generate(ids, **settings))
        assert isinstance(out, DraftBlocksOutput)
        assert out.num_accepted == (0 if threshold > 0 else out.num_blocks)
        assert (out.num_target_tokens == 0) == (threshold < 0) and out.num_draft_tokens > 0


def test_each_row_is_decided_alone():
    policy, drafter = float64_lm("llama", 0), float64_lm("llama", 1)
    ids, mask = left_padded_batch((5, 3, 7, 2))
    blocks = DraftBlocks(drafter, reward, threshold=0.5, block_tokens=2)
    settings = dict(max_new_tokens=9, eos_token_id=ENDS, pad_token_id=PAD, return_dict_in_generate=True)
    together = policy.generate(ids, attention_mask=mask, custom_generate=blocks, **settings)
    assert 0 < together.num_accepted < together.num_blocks
    accepted = 0
    for row in range(len(ids)):
        own = ids[row, mask[row].bool()][None]
        alone = policy.generate(own, attention_mask=torch.ones_like(own), custom_generate=blocks, **settings)
        written = alone.sequences[0, own.shape[1] :]
        assert torch.equal(together.sequences[row, ids.shape[1] :][: len(written)], written)
        accepted += alone.num_accepted
    assert accepted == together.num_accepted


def reward_of(prompt, text):
    ids = torch.tensor([[*prompt, *text]])
    mask = torch.ones_like(ids)
    return float(reward(ids, mask, (torch.arange(ids.shape[1]) >= len(prompt))[None]))


def expected_distribution(prompt, drafter, policy, threshold, num_candidates, beta, tilted, warp):
    """The distribution of one block, by all tuples of candidates."""
    small, big = (enumerated(model, prompt, 2, warp) for model in (drafter, policy))
    rewards = {text: reward_of(prompt, text) for text in {*small, *big}}

    def chosen(probabilities, values):
        """Probability that each text is chosen of several candidates."""
        found = dict.fromkeys(probabilities, 0.0)
        for texts in itertools.product(probabilities, repeat=num_candidates):
            together = math.prod(probabilities[text] for text in texts)
            scores = torch.tensor([(beta or 1.0) * values[text] for text in texts], dtype=torch.float64)
            if scores.max() == -math.inf:
                scores = torch.zeros_like(scores)
            for text, share in zip(texts, scores.softmax(-1).tolist(), strict=True):
                found[text] += together * share
        return found

    values = dict(rewards)
    if tilted:
        for text, probability in small.items():
            ratio = big.get(text, 0.0) / probability
            values[text] += math.log(ratio) / beta if ratio else -math.inf
    of_draft, of_policy = chosen(small, values), chosen(big, rewards)
    is_kept = {text: values[text] >= threshold and values[text] > -math.inf for text in small}
    refused = sum(share for text, share in of_draft.items() if not is_kept[text])
    texts = {*small, *big}
    return {
        text: of_draft.get(text, 0.0) * is_kept.get(text, False) + refused * of_policy.get(text, 0.0) for text in texts
    }


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        (dict(threshold=-math.inf), dict(top_k=0)),
        (dict(threshold=math.inf), dict(top_k=0)),
        (dict(threshold=0.5), dict(top_k=0)),
        (dict(threshold=0.8, num_candidates=2, beta=2.0), dict(top_k=0)),
        (dict(threshold=-math.inf, num_candidates=2, beta=2.0, tilted=True), dict(top_k=0)),
        (dict(threshold=0.6, num_candidates=2, beta=1.5, tilted=True), dict(top_k=3, temperature=1.5)),
    ],
    ids=["drafter", "policy", "RSD", "RSD of two", "GSI, all kept", "GSI"],
)
def test_samples_have_the_distribution_of_the_rule(options, settings):
    policy, drafter = tiny_vocabulary(0), tiny_vocabulary(1)
    ids, mask = torch.tensor([[PAD, PAD, 3], [4, 1, 3]]), torch.tensor([[0, 0, 1], [1, 1, 1]])
    copies = 250
    torch.manual_seed(0)
    out = policy.generate(
        ids, attention_mask=mask, do_sample=True, max_new_tokens=2, num_return_sequences=copies, eos_token_id=2,
        pad_token_id=PAD, custom_generate=DraftBlocks(drafter, reward, **options), **settings,
    )  # fmt: skip
    full = dict(num_candidates=1, beta=None, tilted=False) | options
    for row, prompt in enumerate(([3], [4, 1, 3])):
        warp = functools.partial(warm, temperature=1.5) if settings["top_k"] else lambda scores: scores
        expected = expected_distribution(prompt, drafter, policy, warp=warp, **full)
        assert sum(expected.values()) == pytest.approx(1.0)
        check_samples(out[row * copies : (row + 1) * copies, 3:], expected)


def test_many_candidates_approach_the_tilted_policy():
    """GSI's limit: the policy's distribution times the exponential of the reward."""
    policy, drafter, prompt, beta = tiny_vocabulary(0), tiny_vocabulary(0), [4, 1, 3], 1.0
    drafter.model.norm.weight.data *= 0.7  # flatter, so that the log-ratio matters
    torch.manual_seed(0)
    blocks = DraftBlocks(drafter, reward, threshold=-math.inf, num_candidates=16, beta=beta, tilted=True)
    out = policy.generate(
        torch.tensor([prompt]), do_sample=True, top_k=0, max_new_tokens=2, num_return_sequences=100, eos_token_id=2,
        pad_token_id=PAD, custom_generate=blocks,
    )  # fmt: skip
    weights = {
        text: share * math.exp(beta * reward_of(prompt, text)) for text, share in enumerated(policy, prompt, 2).items()
    }
    check_samples(out[:, 3:], {text: weight / sum(weights.values()) for text, weight in weights.items()})


def test_a_reward_model_reads_the_texts_so_far():
    judge = GenARMRewardModel.from_causal_lm(tiny_causal_lm("llama", seed=4), length_normalization=True)
    ids, mask = left_padded_batch((5, 3))
    settings = dict(attention_mask=mask, max_new_tokens=6, eos_token_id=ENDS, pad_token_id=PAD)
    found = []

    def read(*texts):
        names = ("input_ids", "attention_mask", "completion_mask")
        found.append(judge(**dict(zip(names, texts, strict=True))).logits[:, 0])
        return found[-1]

    policy, drafter = tiny_causal_lm("llama", seed=0), tiny_causal_lm("llama", seed=1)
    outs = []
    for own in (judge, read):
        blocks = DraftBlocks(drafter, own, threshold=-3.0, block_tokens=2)
        outs.append(policy.generate(ids, custom_generate=blocks, **settings))
    assert torch.equal(*outs) and len(torch.cat(found).unique()) > 2


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (dict(threshold="high"), TypeError, "`threshold` must be a number, got 'high'"),
        (dict(threshold=math.nan), TypeError, "`threshold` must be a number"),
        (dict(num_candidates=0), ValueError, "`num_candidates` must be an integer of at least 1"),
        (dict(block_tokens=0), ValueError, "`block_tokens` must be an integer of at least 1"),
        (dict(num_candidates=2), ValueError, "`beta` must be given"),
        (dict(tilted=True), ValueError, "`beta` must be given"),
        (dict(beta=1.0), ValueError, "and only then, got 1.0. Leave it out"),
        (dict(num_candidates=2, beta=0.0), ValueError, "`beta` must be a number"),
        (dict(block_ends=[0.5]), TypeError, "Token ids must be integers"),
        (dict(reward=tiny_causal_lm), TypeError, "`reward` must be a reward model of finished texts"),
        (dict(reward=3), TypeError, "got a `int`"),
        (dict(drafter="small"), TypeError, "A drafter must be a causal LM, got 'small'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_options_are_checked_when_they_are_given(options, kind, message):
    given = dict(drafter=tiny_causal_lm(), reward=reward, threshold=0.5) | options
    if given["reward"] is tiny_causal_lm:
        given["reward"] = tiny_causal_lm()
    with pytest.raises(kind, match=message):
        DraftBlocks(**given)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(num_beams=2), "settings of beam sample"),
        (dict(streamer=True), "`streamer=` must not be given"),
        (dict(assistant_model=True), "Pass the drafter to `DraftBlocks`"),
        (dict(cache=True), "every call reads its prompts"),
        (dict(use_cache=False), "`use_cache` must not be False"),
        (dict(cache_implementation="static"), "got 'static'"),
        (dict(output_scores=True, return_dict_in_generate=True), "`output_scores` must be False"),
        (dict(prefix_allowed_tokens_fn=lambda row, ids: [3]), "got `PrefixConstrainedLogitsProcessor`"),
        (dict(), "`do_sample` must be True with several candidates"),
    ],
    ids=["beams", "streamer", "assistant", "cache", "no cache", "static", "scores", "prefix", "greedy"],
)
def test_calls_that_the_loop_cannot_run_are_refused_before_work_starts(kwargs, message):
    policy, drafter = tiny_causal_lm(), tiny_causal_lm(seed=1)
    blocks = DraftBlocks(drafter, reward, threshold=0.5, num_candidates=2, beta=1.0)
    kwargs = dict(do_sample="do_sample" not in message, **kwargs)
    if "streamer" in kwargs:
        kwargs["streamer"] = TextStreamer(None)  # pyright: ignore
    if "assistant_model" in kwargs:
        kwargs["assistant_model"] = drafter
    if kwargs.pop("cache", False):
        kwargs[generate_cache_name()] = DynamicCache()
    for model in (policy, drafter):
        model.register_forward_pre_hook(lambda *_: pytest.fail("work had started"))
    with pytest.raises(ValueError, match=message):
        policy.generate(torch.tensor([[4, 5]]), custom_generate=blocks, max_new_tokens=3, **kwargs)


def test_drafters_and_rewards_that_do_not_fit_are_refused():
    policy, ids = tiny_causal_lm(), torch.tensor([[4, 5]])
    with pytest.raises(ValueError, match="The drafter must have the tokens of the policy, got 5 logits for 32"):
        policy.generate(ids, custom_generate=DraftBlocks(tiny_vocabulary(0), reward, threshold=0.5), max_new_tokens=3)
    for wrong in (lambda ids, *_: torch.zeros(len(ids) + 1), lambda ids, *_: torch.full((len(ids),), math.nan)):
        with pytest.raises(ValueError, match="`reward` must return one finite number for each of 1 texts"):
            policy.generate(ids, custom_generate=DraftBlocks(policy, wrong, threshold=0.5), max_new_tokens=3)
    for wrong in (None, ["1.0"], {"reward": 1.0}):
        with pytest.raises(TypeError, match=f"`reward` must return a tensor .* got a `{type(wrong).__name__}`"):
            blocks = DraftBlocks(policy, lambda *_, found=wrong: found, threshold=0.5)
            policy.generate(ids, custom_generate=blocks, max_new_tokens=3)

import pytest
import torch
from tiny import ARCHITECTURES, left_padded_batch, tiny_causal_lm
from tiny_judges import counted, pair_prompt, random_rows
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM

import hf_reward_ext.fast_slow.decode.written_judgment as slow_path
from hf_reward_ext.base.lm.forward import cache_name
from hf_reward_ext.fast_slow.decode.decoding import FastSlowGenerationMixin, FastSlowStoppingCriteria, judge_rows
from hf_reward_ext.fast_slow.decode.prefill import forward, read_prompts
from hf_reward_ext.fast_slow.judge.gate import ALWAYS, NEVER, Gate, read_verdicts

LENGTHS = (9, 4, 13, 6, 11, 5)
IDS = torch.tensor([18, 19])
SLOW = Gate(ALWAYS, ALWAYS)


def middle_gate(logits):
    """A gate that splits a batch in two."""
    verdicts = read_verdicts(logits, IDS, Gate())
    return Gate(verdicts.intuition.median().item() + 1e-6, NEVER)


def fresh_logits(model, ids):
    return model(input_ids=torch.tensor([ids])).logits[0].float()


@pytest.mark.stack
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_fast_verdicts_equal_a_forward_of_each_row_alone(architecture):
    model = tiny_causal_lm(architecture)
    rows = random_rows(LENGTHS)
    alone = torch.stack([fresh_logits(model, row)[-1] for row in rows])
    torch.testing.assert_close(read_prompts(model, rows, 0).logits, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_shared_beginning_is_read_once_where_the_cache_allows(architecture):
    model = tiny_causal_lm(architecture)
    beginnings, ends = random_rows((20, 17), seed=1), random_rows((3, 5, 1, 2, 4), seed=2)
    owners = [0, 1, 0, 1, 1]
    rows = [beginnings[owner] + end for owner, end in zip(owners, ends, strict=True)]
    alone = torch.stack([fresh_logits(model, row)[-1] for row in rows])
    with counted(model) as shapes:
        prefill = read_prompts(model, rows, 0, shared=owners)
    torch.testing.assert_close(prefill.logits, alone, atol=1e-4, rtol=1e-4)
    shares = "sliding_window" not in ARCHITECTURES[architecture] or architecture == "mistral"
    assert shapes == ([(2, 20), (5, 5)] if shares else [(5, 23)])
    batch = judge_rows(model, rows, pair_prompt(), SLOW, shared=owners, max_new_tokens=12)
    assert_written_like_a_fresh_forward(model, rows, batch.writings)


def assert_written_like_a_fresh_forward(model, rows, writings):
    """Every greedy token is the likeliest one in a forward of the whole text, and verdict logits are its logits."""
    compared = 0
    for row, votes in zip(rows, writings, strict=True):
        for writing in votes:
            logits = fresh_logits(model, row + writing.ids)[len(row) - 1 : -1]
            forced = 1 + len(pair_prompt().prefix_ids)
            chosen = logits.gather(-1, torch.tensor(writing.ids)[:, None])[forced:, 0]
            torch.testing.assert_close(chosen, logits[forced:].max(-1).values, atol=1e-4, rtol=1e-4)
            if writing.verdict_logits is not None:
                torch.testing.assert_close(writing.verdict_logits, logits[-1, IDS], atol=1e-4, rtol=1e-4)
                compared += 1
    return compared


@pytest.mark.stack
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_slow_path_from_the_reused_cache_equals_a_fresh_forward(architecture):
    model = tiny_causal_lm(architecture)
    rows = random_rows(LENGTHS)
    prompt = pair_prompt()
    gate = middle_gate(read_prompts(model, rows, 0).logits)
    greedy = judge_rows(model, rows, prompt, gate, max_new_tokens=20)
    assert 0 < sum(map(bool, greedy.writings)) < len(rows)
    assert_written_like_a_fresh_forward(model, rows, greedy.writings)
    sampled = judge_rows(model, rows, prompt, SLOW, num_votes=8, temperature=5.0, max_new_tokens=60)
    votes = [(row, vote) for row, votes in enumerate(sampled.writings) for vote in votes]
    reached = [(row, vote) for row, vote in votes if vote.verdict_logits is not None]
    assert len(reached) >= 5
    for row, vote in reached:
        fresh = fresh_logits(model, rows[row] + vote.ids)[-2, IDS]
        torch.testing.assert_close(vote.verdict_logits, fresh, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_logit_of_the_slow_path_equals_a_fresh_forward(architecture, monkeypatch):
    """Over the whole vocabulary, at every step, with confident rows already gone from the left-padded batch."""
    model = tiny_causal_lm(architecture)
    rows = random_rows(LENGTHS)
    gate = middle_gate(read_prompts(model, rows, 0).logits)
    monkeypatch.setattr(slow_path.MarkerMatcher, "__call__", lambda self, ids: False)  # nobody finishes
    steps = []

    def recorded(*args):
        steps.append(forward(*args))
        return steps[-1]

    monkeypatch.setattr(slow_path, "forward", recorded)
    batch = judge_rows(model, rows, pair_prompt(), gate, max_new_tokens=12, eos_ids=())
    written = [row for row, votes in enumerate(batch.writings) if votes]
    assert 0 < len(written) < len(rows) and {len(step) for step in steps} == {len(written)}
    for place, row in enumerate(written):
        ids = batch.writings[row][0].ids
        fresh = fresh_logits(model, rows[row] + ids)[len(rows[row]) + 1 : -1]
        cached = torch.stack([step[place] for step in steps])
        assert fresh.shape == cached.shape == (10, 32)
        torch.testing.assert_close(cached, fresh, atol=1e-4, rtol=1e-4)


def test_a_stopped_row_never_costs_more_than_one_token():
    model = tiny_causal_lm()
    rows = random_rows(LENGTHS)
    gate = middle_gate(read_prompts(model, rows, 0).logits)
    with counted(model) as shapes:
        batch = judge_rows(model, rows, pair_prompt(), gate, max_new_tokens=20)
    escalated = [row for row, votes in enumerate(batch.writings) if votes]
    assert shapes[0] == (6, 13) and shapes[1] == (len(escalated), 2)
    assert all(new == 1 and count <= len(escalated) for count, new in shapes[2:])
    assert [batch.num_tokens[row] for row in range(6) if row not in escalated] == [1] * (6 - len(escalated))
    assert all(batch.num_tokens[row] == len(batch.writings[row][0].ids) for row in escalated)
    with counted(model) as shapes:
        judge_rows(model, rows, pair_prompt(), Gate(NEVER, NEVER))
    assert shapes == [(6, 13)]


def test_keys_and_values_are_kept_only_where_somebody_may_go_on():
    model = tiny_causal_lm()
    rows = random_rows(LENGTHS)
    kept, dropped = read_prompts(model, rows, 0), read_prompts(model, rows, 0, keep_cache=False)
    assert kept.cache.get_seq_length() == 13 and dropped.cache is None
    torch.testing.assert_close(kept.logits, dropped.logits)
    caches = []
    handle = model.register_forward_pre_hook(
        lambda module, args, kwargs: caches.append(kwargs.get(cache_name(model))), with_kwargs=True
    )
    judge_rows(model, rows, pair_prompt(), Gate(NEVER, NEVER))
    judge_rows(model, rows, pair_prompt(), Gate(NEVER, 1e-9))
    handle.remove()
    assert caches[0] is None and caches[1] is not None


def test_finished_rows_leave_the_batch():
    model = tiny_causal_lm()
    rows = random_rows(LENGTHS)
    with counted(model) as shapes:
        batch = judge_rows(model, rows, pair_prompt(), SLOW, num_votes=6, temperature=5.0, max_new_tokens=60)
    lengths = [len(vote.ids) for votes in batch.writings for vote in votes]
    assert shapes[2][0] == 36 and shapes[-1][0] < 18
    # Stragglers of a quarter of the batch at most are carried along.
    assert sum(count for count, _ in shapes[1:]) <= sum(lengths) / 0.75 + len(lengths)


def test_several_votes_are_counted_once_for_the_shared_verdict():
    model = tiny_causal_lm()
    batch = judge_rows(model, random_rows((5,)), pair_prompt(), SLOW, num_votes=3, temperature=2.0, max_new_tokens=9)
    votes = batch.writings[0]
    assert len(votes) == 3 and len({vote.ids[0] for vote in votes}) == 1
    assert batch.num_tokens == [1 + sum(len(vote.ids) - 1 for vote in votes)]
    with pytest.raises(ValueError, match="`temperature` must be above 0 with `num_votes=2`"):
        judge_rows(model, random_rows((5,)), pair_prompt(), SLOW, num_votes=2)


def test_a_forced_first_verdict_opens_the_judgment():
    model = tiny_causal_lm()
    rows = random_rows((5, 7))
    for verdict in (0, 1):
        batch = judge_rows(model, rows, pair_prompt(), SLOW, first_verdicts=torch.full((2,), verdict), max_new_tokens=5)
        assert [votes[0].ids[0] for votes in batch.writings] == [IDS[verdict].item()] * 2


class TinyJudge(FastSlowGenerationMixin, LlamaForCausalLM):
    pass


@pytest.mark.stack
def test_the_mixin_judges_padded_batches_like_lists():
    model = tiny_causal_lm()
    judge = TinyJudge(model.config).eval()
    judge.load_state_dict(model.state_dict())
    input_ids, mask = left_padded_batch()
    gate = Gate(ALWAYS, NEVER)
    batch = judge.generate_judgment(input_ids, mask, judge_prompt=pair_prompt(), gate=gate, max_new_tokens=8)
    rows = [row[kept].tolist() for row, kept in zip(input_ids, mask.bool(), strict=True)]
    other = judge_rows(model, rows, pair_prompt(), gate, max_new_tokens=8)
    assert [votes[0].ids for votes in batch.writings] == [votes[0].ids for votes in other.writings]


def stop(model, criteria, input_ids, mask, **kwargs):
    return model.generate(
        input_ids, attention_mask=mask, stopping_criteria=[criteria], max_new_tokens=6, pad_token_id=0, **kwargs,
    )  # fmt: skip


@pytest.mark.stack
def test_plain_generate_stops_confident_rows_after_one_token():
    model = tiny_causal_lm()
    input_ids, mask = left_padded_batch(LENGTHS)
    logits = model(input_ids=input_ids, attention_mask=mask, position_ids=(mask.cumsum(-1) - 1).clamp(min=0)).logits
    gate = middle_gate(logits[:, -1])
    criteria = FastSlowStoppingCriteria(IDS, 13, gate.intuition_threshold, NEVER)
    out = stop(model, criteria, input_ids, mask, logits_processor=[criteria.first_logits], do_sample=False)
    expected = read_verdicts(logits[:, -1], IDS, gate).escalated
    assert criteria.verdicts.escalated.tolist() == expected.tolist()
    assert 0 < expected.sum() < 6
    plain = model.generate(input_ids, attention_mask=mask, max_new_tokens=6, pad_token_id=0)
    assert torch.equal(out[expected, 13:], plain[expected, 13:])
    assert torch.equal(out[~expected, 13:14], plain[~expected, 13:14]) and (out[~expected, 14:] == 0).all()


def test_a_batch_of_confident_rows_costs_one_forward():
    model = tiny_causal_lm()
    input_ids, mask = left_padded_batch()
    criteria = FastSlowStoppingCriteria(IDS, 7, NEVER, NEVER)
    with counted(model) as shapes:
        out = stop(model, criteria, input_ids, mask, output_scores=True, return_dict_in_generate=True)
    assert shapes == [(3, 7)] and out.sequences.shape == (3, 8)


def test_the_criteria_read_raw_scores_however_tokens_are_sampled():
    model = tiny_causal_lm()
    input_ids, mask = left_padded_batch()
    seen = []
    for settings in ({"do_sample": False}, {"do_sample": True, "temperature": 3.0, "top_k": 2}):
        criteria = FastSlowStoppingCriteria(IDS, 7, 0.5, 0.5)
        stop(model, criteria, input_ids, mask, logits_processor=[criteria.first_logits], **settings)
        seen.append(criteria.verdicts.distribution)
    torch.testing.assert_close(seen[0], seen[1])


def test_one_criteria_object_serves_many_calls():
    model = tiny_causal_lm()
    criteria = FastSlowStoppingCriteria(IDS, 7, ALWAYS, NEVER)
    kwargs = dict(output_scores=True, return_dict_in_generate=True)
    for seed in (0, 1):
        input_ids, mask = left_padded_batch(seed=seed)
        fresh = FastSlowStoppingCriteria(IDS, 7, ALWAYS, NEVER)
        stop(model, criteria, input_ids, mask, **kwargs)
        stop(model, fresh, input_ids, mask, **kwargs)
        assert torch.equal(criteria.verdicts.scores, fresh.verdicts.scores)


def test_pairs_of_rows_stop_together():
    model = tiny_causal_lm()
    input_ids, mask = left_padded_batch((5, 6, 7, 8))
    criteria = FastSlowStoppingCriteria(IDS, 8, 0.3, 0.0, pairing="orders")
    out = stop(model, criteria, input_ids, mask, logits_processor=[criteria.first_logits])
    stopped = (out[:, 9:] == 0).all(-1)
    assert torch.equal(stopped[0::2], stopped[1::2])
    assert torch.equal(~stopped[0::2], criteria.verdicts.escalated)


def test_missing_or_cut_scores_are_refused():
    model = tiny_causal_lm()
    input_ids, mask = left_padded_batch()
    criteria = FastSlowStoppingCriteria(IDS, 7)
    with pytest.raises(RuntimeError, match="gave no scores of the first token"):
        stop(model, criteria, input_ids, mask)
    with pytest.raises(RuntimeError, match="top-k or top-p has cut"):
        stop(model, criteria, input_ids, mask, output_scores=True, return_dict_in_generate=True, do_sample=True,
             top_k=3)  # fmt: skip
    with pytest.raises(ValueError, match="must have two or more ids"):
        FastSlowStoppingCriteria([3], 7)


# Judges that need care: nothing but states, states beside attention, no cache, a cache of their own, no position ids.
UNUSUAL = {
    "mamba": dict(state_size=4, time_step_rank=2),
    "falcon_mamba": dict(state_size=4, time_step_rank=2),
    "mamba2": dict(state_size=4, num_heads=4, head_dim=8, n_groups=1, chunk_size=4),
    "lfm2": dict(layer_types=["conv", "full_attention"], num_key_value_heads=2),
    "openai-gpt": dict(n_positions=64),
    "bart": dict(decoder_layers=2, decoder_attention_heads=4, decoder_ffn_dim=32, d_model=16),
    "recurrent_gemma": dict(num_hidden_layers=3, num_key_value_heads=1, lru_width=16, attention_window_size=4),
}


def small_model(architecture, seed=0, **overrides):
    sizes = dict(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        initializer_range=0.5, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    config = AutoConfig.for_model(architecture, **{**sizes, **UNUSUAL.get(architecture, {}), **overrides})
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()


@pytest.mark.parametrize("architecture", UNUSUAL)
def test_unusual_judges_equal_a_fresh_forward(architecture):
    model = small_model(architecture)
    rows = random_rows(LENGTHS)
    batch = judge_rows(model, rows, pair_prompt(), SLOW, max_new_tokens=8)
    for row, score in zip(rows, batch.verdicts.scores.tolist(), strict=True):
        first, second = fresh_logits(model, row)[-1, IDS].tolist()
        assert score == pytest.approx(first - second, abs=1e-3)
    assert_written_like_a_fresh_forward(model, rows, batch.writings)


@pytest.mark.parametrize("architecture", ["llama", "lfm2", "mamba"])
@pytest.mark.parametrize("max_new_tokens", [3, 4, 8, 13])
def test_no_row_is_longer_than_asked(architecture, max_new_tokens):
    """Whichever row ends first, and whether or not it leaves the batch."""
    for seed in range(6):
        model = small_model(architecture, seed)
        rows = random_rows(LENGTHS, seed)
        with counted(model) as shapes:
            batch = judge_rows(
                model, rows, pair_prompt(), SLOW, num_votes=2, temperature=3.0, max_new_tokens=max_new_tokens
            )
        lengths = [len(vote.ids) for votes in batch.writings for vote in votes]
        assert max(lengths) <= max_new_tokens and len(shapes) <= max_new_tokens
        cut = [vote for votes in batch.writings for vote in votes if vote.is_cut]
        assert cut and all(vote.verdict is None and len(vote.ids) == max_new_tokens for vote in cut)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_judgments_end_with_the_context(architecture):
    """Tables of positions have no row beyond it; each row ends at its own place, whatever its batch."""
    model = small_model(architecture, max_position_embeddings=24)
    rows = random_rows((20, 6, 12, 9))
    together = judge_rows(model, rows, pair_prompt(), SLOW, max_new_tokens=30, eos_ids=())
    for row, votes in zip(rows, together.writings, strict=True):
        alone = judge_rows(model, [row], pair_prompt(), SLOW, max_new_tokens=30, eos_ids=()).writings[0][0]
        assert votes[0].ids == alone.ids and votes[0].is_cut == alone.is_cut
        assert len(row) + len(votes[0].ids) <= 24
        assert votes[0].is_cut == (len(row) + len(votes[0].ids) == 24 and votes[0].verdict is None)

import functools
import json
import random
import string
import threading

import pytest
import torch
from sla_models import VOCABULARY, ragged_prompts, tiny_transformer
from sla_reference import model_functions, reference_search
from tiny import ARCHITECTURES, left_padded_batch, tiny_causal_lm, tiny_tokenizer
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    PreTrainedTokenizerFast,
    StaticCache,
    StoppingCriteria,
    StoppingCriteriaList,
    StopStringCriteria,
    TextIteratorStreamer,
)

from hf_reward_ext.base.lm.forward import generate_cache_name, run_forward
from hf_reward_ext.elhsr import ELHSRModel
from hf_reward_ext.sla import RewardTransformer, SLALogitsProcessor, SLAOutput, sla_generate
from hf_reward_ext.sla.generate_arguments import without_sampling

PAD = 0


@pytest.fixture(scope="module")
def rt():
    return tiny_transformer(0)


def completions(sequences, prompt_length, eos):
    """Tokens of each row up to its EOS."""
    rows = []
    for row in sequences[:, prompt_length:].tolist():
        ends = [index for index, token in enumerate(row) if token in eos]
        rows.append(row[: ends[0] + 1] if ends else row)
    return rows


def both(rt, inputs, shape, **kwargs):
    """Tokens of the two front ends, which have to be the same."""
    names = dict(zip(("width", "step", "depth"), shape, strict=True))
    fast = rt.generate(**inputs, custom_generate=sla_generate, **names, **kwargs)
    plain = rt.generate(**inputs, logits_processor=[SLALogitsProcessor(rt, **names)], **kwargs)
    assert torch.equal(fast, plain)
    return fast


def test_both_front_ends_equal_brute_force_on_a_thousand_cases():
    rng = random.Random(0)
    cases = ended = 0
    shapes = set()
    while cases < 1000:
        rt = tiny_transformer(cases)
        lengths = [rng.randint(1, 6) for _ in range(rng.randint(1, 16))]
        input_ids, attention_mask = ragged_prompts(lengths, seed=cases)
        eos = rng.sample(range(1, VOCABULARY), rng.randint(1, 2))
        max_new = rng.randint(1, 14)
        shape = [[rng.choice(values) for _ in lengths] for values in ((1, 2, 3), (1, 2, 3, 4, 5), (0, 1, 2))]
        inputs = dict(input_ids=input_ids, attention_mask=attention_mask)
        found = both(rt, inputs, shape, max_new_tokens=max_new, eos_token_id=eos, pad_token_id=PAD)
        functions = model_functions(rt)
        for row, length in enumerate(lengths):
            prompt = input_ids[row, -length:].tolist()
            settings = [values[row] for values in shape]
            expected = sum(reference_search(*functions, prompt, *settings, max_new, set(eos)), [])
            written = found[row, input_ids.shape[1] :].tolist()
            assert written == expected + [PAD] * (len(written) - len(expected)), (cases, row, settings)
            ended += expected[-1] in eos
            shapes.add(tuple(settings))
        cases += len(lengths)
    print(f"{cases} prompts, {len(shapes)} of 45 settings, {ended} ended by EOS: the same tokens")
    assert ended > 200 and len(shapes) == 3 * 5 * 3


@pytest.mark.stack
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_equals_brute_force(architecture):
    rt = tiny_transformer(1, architecture)
    input_ids, attention_mask = ragged_prompts((5, 2, 7), seed=3)
    inputs = dict(input_ids=input_ids, attention_mask=attention_mask)
    found = both(rt, inputs, (2, 3, 1), max_new_tokens=12, eos_token_id=5, pad_token_id=PAD)
    functions = model_functions(rt)
    for row, length in enumerate((5, 2, 7)):
        expected = sum(reference_search(*functions, input_ids[row, -length:].tolist(), 2, 3, 1, 12, {5}), [])
        written = found[row, 7:].tolist()
        assert written == expected + [PAD] * (len(written) - len(expected))


@pytest.mark.parametrize("shape", [(1, 3, 2), (2, 50, 2)], ids=["width 1", "step beyond the length"])
def test_degenerate_settings_are_greedy(rt, shape):
    input_ids, attention_mask = ragged_prompts((5, 2, 7), seed=1)
    inputs = dict(input_ids=input_ids, attention_mask=attention_mask)
    settings = dict(max_new_tokens=15, eos_token_id=[5, 6], pad_token_id=PAD)
    assert torch.equal(both(rt, inputs, shape, **settings), rt.generate(**inputs, **settings))


def test_a_constant_reward_is_greedy(rt):
    input_ids, attention_mask = ragged_prompts((5, 2, 7), seed=1)
    settings = dict(max_new_tokens=15, eos_token_id=[], pad_token_id=PAD)
    found = rt.base.generate(
        input_ids, attention_mask=attention_mask, custom_generate=sla_generate, width=3, step=2, depth=1,
        reward=lambda step: torch.zeros(len(step.input_ids)), **settings,
    )  # fmt: skip
    assert torch.equal(found, rt.generate(input_ids, attention_mask=attention_mask, **settings))


def test_one_processor_serves_many_calls_and_loops_of_ones_own():
    rt = tiny_transformer(0)
    rt.base.generation_config.eos_token_id = None
    processor = SLALogitsProcessor(rt, width=2, step=3, depth=1)
    settings = dict(max_new_tokens=9, pad_token_id=PAD, eos_token_id=None)
    outputs = []
    for lengths in ((4,), (3, 6), (4,)):
        input_ids, attention_mask = ragged_prompts(lengths, seed=5)
        inputs = dict(input_ids=input_ids, attention_mask=attention_mask)
        expected = rt.generate(**inputs, custom_generate=sla_generate, width=2, step=3, depth=1, **settings)
        assert torch.equal(rt.generate(**inputs, logits_processor=[processor], **settings), expected)
        outputs.append(expected)
    assert torch.equal(outputs[0], outputs[2])
    ids, _ = ragged_prompts((4,), seed=5)
    for _ in range(6):  # without a length limit; its chunks are those of a longer search
        ids = torch.cat([ids, processor(ids, torch.zeros(1, VOCABULARY)).argmax(-1, keepdim=True)], dim=-1)
    assert torch.equal(ids, outputs[0][:, : ids.shape[1]])


def test_sampling_flags_do_not_matter(rt):
    input_ids, _ = ragged_prompts((4,), seed=2)
    settings = dict(max_new_tokens=9, eos_token_id=[], pad_token_id=PAD)
    greedy = both(rt, dict(input_ids=input_ids), (2, 3, 1), **settings)
    sampled = both(rt, dict(input_ids=input_ids), (2, 3, 1), do_sample=True, temperature=0.7, **settings)
    assert torch.equal(greedy, sampled)


class Forbid(LogitsProcessor):
    def __init__(self, *tokens):
        self.tokens = list(tokens)

    def __call__(self, input_ids, scores):
        scores = scores.clone()
        scores[:, self.tokens] = -torch.inf
        return scores


@pytest.mark.stack
def test_other_processors_act_on_every_leaf(rt):
    input_ids, attention_mask = ragged_prompts((5, 2), seed=4)
    shape, forbidden = dict(width=2, step=2, depth=1), (3, 4, 7)
    settings = dict(max_new_tokens=12, eos_token_id=5, pad_token_id=PAD, min_new_tokens=4)
    inputs = dict(input_ids=input_ids, attention_mask=attention_mask)
    fast = rt.generate(
        **inputs, custom_generate=sla_generate, logits_processor=[Forbid(*forbidden)], **shape, **settings
    )
    plain = rt.generate(**inputs, logits_processor=[Forbid(*forbidden), SLALogitsProcessor(rt, **shape)], **settings)
    assert torch.equal(fast, plain)
    assert not torch.isin(fast[:, 5:], torch.tensor(forbidden)).any()
    assert not (fast[:, 5:9] == 5).any()
    only_one = rt.generate(
        **inputs, custom_generate=sla_generate, **shape, max_new_tokens=8, eos_token_id=[], pad_token_id=PAD,
        logits_processor=[Forbid(*(token for token in range(VOCABULARY) if token != 9))],
    )  # fmt: skip
    assert (only_one[:, 5:] == 9).all()


def letter_tokenizer():
    """One token for each letter: what stop strings are matched against."""
    letters = ["<pad>", "<bos>", "<eos>", "<unk>", *string.ascii_lowercase]
    backend = Tokenizer(models.WordLevel({letter: index for index, letter in enumerate(letters)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>", padding_side="left")


def test_stop_strings_as_ready_criteria_end_single_leaves():
    tokenizer, stops = letter_tokenizer(), ["b", "cd", "q", "x"]
    rt = RewardTransformer.from_base(tiny_causal_lm(), channel_size=8).eval()
    torch.nn.init.normal_(rt.reward_channel.head[0].weight)
    inputs = tokenizer(["hello", "wo"], return_tensors="pt", padding=True, return_token_type_ids=False)
    criteria = StoppingCriteriaList([StopStringCriteria(tokenizer, stops)])
    settings = dict(max_new_tokens=20, stopping_criteria=criteria, eos_token_id=[], pad_token_id=PAD)
    found = both(rt, inputs, (2, 3, 1), **settings)
    texts = [tokenizer.decode([token for token in row if token != PAD]) for row in found[:, 5:].tolist()]
    assert any(text.endswith(stop) for text in texts for stop in stops)
    for text in texts:
        assert not any(stop in text[:-1] for stop in stops)
        assert text.endswith(tuple(stops)) or len(text) == 20


@pytest.mark.stack
def test_chunks_stream_as_token_ids_in_the_promised_rhythm(rt):
    input_ids, attention_mask = ragged_prompts((5, 2), seed=6)
    forwards = []
    handle = rt.base.register_forward_hook(lambda *_: forwards.append(1))
    chunks = []

    def on_chunk(chunk):
        chunks.append((len(forwards), chunk.prompt_index, list(chunk), chunk.is_last))

    out = rt.generate(
        input_ids, attention_mask=attention_mask, custom_generate=sla_generate, width=2, step=[3, 4], depth=[1, 2],
        on_chunk=on_chunk, max_new_tokens=24, eos_token_id=[], pad_token_id=PAD,
    )  # fmt: skip
    handle.remove()
    for index, (step, depth) in enumerate([(3, 1), (4, 2)]):
        own = [chunk for chunk in chunks if chunk[1] == index]
        assert sum((chunk[2] for chunk in own), []) == out[index, 5:].tolist()
        assert [chunk[0] for chunk in own[:-1]] == [
            (depth + 1) * step + 1 + step * number for number in range(len(own) - 1)
        ]
        assert all(len(chunk[2]) == step for chunk in own[:-1])
        assert [chunk[3] for chunk in own] == [False] * (len(own) - 1) + [True]
    assert len(forwards) == 24


def test_a_text_iterator_streamer_can_be_bound():
    tokenizer = tiny_tokenizer()
    rt = RewardTransformer.from_base(tiny_causal_lm(), channel_size=8).eval()
    inputs = tokenizer("w1 w2 w3", return_tensors="pt", return_token_type_ids=False)
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, timeout=20)
    search = functools.partial(sla_generate, width=2, step=3, depth=1, on_chunk=streamer)
    results = []
    thread = threading.Thread(
        target=lambda: results.append(rt.generate(**inputs, custom_generate=search, max_new_tokens=12))
    )
    thread.start()
    text = "".join(streamer)
    thread.join()
    assert text.split() == tokenizer.decode(results[0][0, 3:]).split()


def test_costs_and_tree_are_reported(rt):
    input_ids, _ = ragged_prompts((5,), seed=7)
    out = rt.generate(
        input_ids, custom_generate=sla_generate, width=2, step=3, depth=1, return_tree=True, max_new_tokens=20,
        eos_token_id=[], pad_token_id=PAD,
    )  # fmt: skip
    assert isinstance(out, SLAOutput) and out.num_forwards == 20 and out.max_rows == 4
    assert out.num_row_tokens == 3 + 3 * 2 + 13 * 4
    tree = json.loads(json.dumps(out.trees[0]))
    path, node = [], tree
    while node is not None:
        path += node["tokens"]
        confirmed = [child for child in node["children"] if child["is_confirmed"]]
        assert len(confirmed) <= 1
        node = confirmed[0] if confirmed else None
    assert path == out.sequences[0, 5:].tolist()
    assert out.rewards.shape == (1,)


def test_rewards_of_the_output_are_the_means_of_the_answer(rt):
    input_ids, _ = ragged_prompts((5,), seed=7)
    out = rt.generate(
        input_ids, custom_generate=sla_generate, width=2, step=3, depth=1, return_dict_in_generate=True,
        max_new_tokens=10, eos_token_id=[], pad_token_id=PAD,
    )  # fmt: skip
    with torch.no_grad():
        rewards = rt(input_ids=out.sequences).token_rewards[0, 4:-1]
    assert out.rewards.item() == pytest.approx(rewards[: len(rewards)].mean().item(), abs=1e-6)


def test_a_cache_with_the_beginning_of_the_prompt_is_read_on(rt):
    input_ids, _ = ragged_prompts((6,), seed=8)
    settings = dict(
        custom_generate=sla_generate, width=2, step=2, depth=1, max_new_tokens=9, eos_token_id=[], pad_token_id=PAD
    )
    expected = rt.generate(input_ids, **settings)
    cache = DynamicCache(config=rt.base.config)
    with torch.no_grad():
        run_forward(rt.base, input_ids[:, :4], cache=cache)
    assert torch.equal(rt.generate(input_ids, **{generate_cache_name(): cache}, **settings), expected)


def test_number_lists_follow_num_return_sequences(rt):
    input_ids, attention_mask = ragged_prompts((5, 2), seed=9)
    torch.manual_seed(0)
    out = rt.generate(
        input_ids, attention_mask=attention_mask, custom_generate=sla_generate, width=[2, 3], step=2, depth=0,
        branch_temperature=5.0, num_return_sequences=4, do_sample=True, max_new_tokens=10, eos_token_id=[],
        pad_token_id=PAD,
    )  # fmt: skip
    assert out.shape == (8, 15)
    assert len(torch.unique(out[:4], dim=0)) > 1 and (out[:4, :5] == input_ids[0]).all()


def test_entropy_threshold_saves_rows(rt):
    input_ids, _ = ragged_prompts((5,), seed=7)
    rows = []
    for threshold in (None, 1.0, 100.0):
        out = rt.generate(
            input_ids, custom_generate=sla_generate, width=2, step=2, depth=1, branch_entropy=threshold,
            return_dict_in_generate=True, max_new_tokens=20, eos_token_id=[], pad_token_id=PAD,
        )  # fmt: skip
        rows.append(out.num_row_tokens)
    assert rows[0] > rows[1] > rows[2] == 19
    assert torch.equal(out.sequences, rt.generate(input_ids, max_new_tokens=20, eos_token_id=[], pad_token_id=PAD))


@pytest.mark.stack
@pytest.mark.parametrize(
    "options",
    [
        dict(aggregate="mean"),
        dict(score_prompt=False),
        dict(stop_when_finished_leads=True),
        dict(branch_entropy=1.0),
        dict(branch_temperature=2.0),
        dict(reward=lambda step: step.input_ids[:, -1].double()),
    ],
    ids=lambda options: next(iter(options)),
)
def test_options_act_alike_in_both_front_ends(rt, options):
    input_ids, attention_mask = ragged_prompts((5, 2, 7), seed=3)
    settings = dict(max_new_tokens=14, eos_token_id=[5, 6], pad_token_id=PAD)
    shape = dict(width=3, step=2, depth=1)
    found = {}
    for name, chosen in (("plain", {}), ("option", options)):
        torch.manual_seed(0)
        fast = rt.generate(
            input_ids, attention_mask=attention_mask, custom_generate=sla_generate, **shape, **chosen, **settings
        )
        torch.manual_seed(0)
        processor = SLALogitsProcessor(rt, **shape, **chosen)
        by_processor = rt.generate(input_ids, attention_mask=attention_mask, logits_processor=[processor], **settings)
        assert torch.equal(fast, by_processor)
        found[name] = fast
    if "stop_when_finished_leads" not in options and "score_prompt" not in options:  # may change nothing here
        assert not torch.equal(found["plain"], found["option"])


def test_a_budget_gives_the_best_so_far(rt):
    input_ids, _ = ragged_prompts((5,), seed=7)
    out = rt.generate(
        input_ids, custom_generate=sla_generate, width=2, step=2, depth=1, token_budget=15,
        return_dict_in_generate=True, max_new_tokens=50, eos_token_id=[], pad_token_id=PAD,
    )  # fmt: skip
    assert 15 <= out.num_row_tokens < 19 and 5 < out.sequences.shape[1] - 5 < 10


class StopAfter(StoppingCriteria):
    """As a time limit: from some moment on every row is done."""

    def __init__(self, calls):
        self.calls = calls

    def __call__(self, input_ids, scores, **kwargs):
        self.calls -= 1
        return torch.full((len(input_ids),), self.calls <= 0)


def test_a_time_limit_ends_all_prompts_with_an_answer(rt):
    input_ids, attention_mask = ragged_prompts((5, 2), seed=7)
    out = rt.generate(
        input_ids, attention_mask=attention_mask, custom_generate=sla_generate, width=2, step=3, depth=1,
        stopping_criteria=[StopAfter(6)], max_new_tokens=50, eos_token_id=[], pad_token_id=PAD,
    )  # fmt: skip
    assert out.shape == (2, 11)


def test_any_other_token_reward(rt):
    base = rt.base
    input_ids, attention_mask = ragged_prompts((5, 2), seed=7)
    settings = dict(
        input_ids=input_ids, attention_mask=attention_mask, custom_generate=sla_generate, width=2, step=2, depth=1,
        max_new_tokens=9, eos_token_id=[], pad_token_id=PAD,
    )  # fmt: skip
    by_channel = rt.generate(**settings)
    assert torch.equal(base.generate(**settings, reward=rt), by_channel)
    assert torch.equal(base.generate(**settings, reward=rt.reward_channel), by_channel)

    guide = tiny_causal_lm(vocab_size=VOCABULARY, seed=3, num_hidden_layers=1).double()
    head = ELHSRModel.from_policy(base).double()
    found = {
        "guide": base.generate(**settings, reward=guide),
        "head": base.generate(**settings, reward=head),
        "tokens": base.generate(**settings, reward=lambda step: step.input_ids[:, -1].double()),
    }

    @torch.no_grad()
    def logp(prefix):
        return guide(torch.tensor([prefix])).logits[0, -2].log_softmax(-1)[prefix[-1]].item()

    @torch.no_grad()
    def gated(prefix):
        states = base(torch.tensor([prefix]), output_hidden_states=True).hidden_states
        gates, rewards = head.token_rewards(states)
        return rewards[0, -1].item(), gates[0, -1].item()

    next_top, _ = model_functions(rt)
    for row, length in enumerate((5, 2)):
        prompt = input_ids[row, -length:].tolist()
        for name, reward in (("guide", logp), ("head", gated), ("tokens", lambda prefix: float(prefix[-1]))):
            expected = sum(reference_search(next_top, reward, prompt, 2, 2, 1, 9, set()), [])
            assert found[name][row, 5:].tolist() == expected, name


def test_refusals(rt):
    input_ids = torch.tensor([[3, 4, 5]])
    search = dict(custom_generate=sla_generate, max_new_tokens=4, eos_token_id=[], pad_token_id=PAD)
    processor = [SLALogitsProcessor(rt)]
    with pytest.raises(ValueError, match="StaticLayer.*only dynamic attention caches"):
        rt.generate(input_ids, **search, cache_implementation="static")
    with pytest.raises(ValueError, match="only dynamic attention caches"):
        cache = StaticCache(config=rt.base.config, max_cache_len=16)
        rt.generate(input_ids, **search, **{generate_cache_name(): cache})
    with pytest.raises(ValueError, match="`num_beams` must be 1 .*got 2"):
        rt.generate(input_ids, **search, num_beams=2)
    with pytest.raises(ValueError, match="beam search with a `SLALogitsProcessor`"):
        rt.generate(input_ids, logits_processor=processor, num_beams=2, max_new_tokens=4)
    with pytest.raises(ValueError, match="assisted generation with a `SLALogitsProcessor`"):
        rt.generate(input_ids, logits_processor=processor, prompt_lookup_num_tokens=2, max_new_tokens=4)
    with pytest.raises(ValueError, match="`streamer=`.*`on_chunk=`"):
        rt.generate(input_ids, **search, streamer=TextIteratorStreamer(tiny_tokenizer()))
    with pytest.raises(ValueError, match="`streamer=`.*`on_chunk=`"):
        bound = functools.partial(sla_generate, width=2)
        rt.generate(input_ids, custom_generate=bound, streamer=TextIteratorStreamer(tiny_tokenizer()))
    with pytest.raises(ValueError, match="stop strings"):  # `generate` does not pass their tokenizer on
        rt.generate(input_ids, **search, stop_strings=["a"], tokenizer=tiny_tokenizer())
    with pytest.raises(ValueError, match="`assistant_model=`"):
        rt.generate(input_ids, **search, assistant_model=rt.base)
    for way in (search, dict(logits_processor=processor)):
        with pytest.raises(ValueError, match="must not be 'paged'"):
            rt.generate(input_ids, **way, cache_implementation="paged")
    with pytest.raises(ValueError, match="`inputs_embeds` must be None"):
        rt.generate(inputs_embeds=torch.zeros(1, 3, 16, dtype=torch.float64), **search)
    with pytest.raises(ValueError, match="`use_cache` must not be False"):
        rt.generate(input_ids, **search, use_cache=False)
    with pytest.raises(ValueError, match="must be given for a `LlamaForCausalLM`.*pass `reward=`"):
        rt.base.generate(input_ids, **search)
    with pytest.raises(TypeError, match="`reward` must be .*got a `int`"):
        rt.base.generate(input_ids, **search, reward=3)
    with pytest.raises(TypeError, match="`on_chunk` must be a callable or a streamer.*got a `int`"):
        rt.generate(input_ids, **search, on_chunk=3)
    with pytest.raises(ValueError, match="`width` has 2 numbers, but there are 1 prompts"):
        rt.generate(input_ids, **search, width=[2, 3])
    with pytest.raises(ValueError, match="shape \\(2,\\).*each of its 1 rows"):
        rt.generate(input_ids, **search, reward=lambda step: torch.zeros(2))
    with pytest.raises(ValueError, match="has NaN"):
        rt.generate(input_ids, **search, reward=lambda step: torch.full((1,), torch.nan))


SHIPPED = {  # generation configs of today's checkpoints, and every other setting of sampling
    "qwen3": dict(temperature=0.6, top_k=3, top_p=0.95),
    "llama3": dict(temperature=0.6, top_p=0.9),
    "other": dict(min_p=0.2, typical_p=0.9, epsilon_cutoff=0.1, eta_cutoff=0.1, top_h=0.5, temperature=3.0),
}


@pytest.mark.parametrize("shipped", SHIPPED)
@pytest.mark.parametrize("way", ["search", "processor"])
def test_settings_of_sampling_change_nothing(rt, way, shipped):
    input_ids, attention_mask = ragged_prompts((6, 3), seed=8)
    options = dict(width=3, step=2, depth=1, branch_entropy=2.0)
    ours = dict(custom_generate=sla_generate, **options)
    if way == "processor":
        ours = dict(logits_processor=[SLALogitsProcessor(rt, **options)])
    settings = dict(attention_mask=attention_mask, max_new_tokens=9, eos_token_id=[], pad_token_id=PAD, **ours)
    expected = rt.generate(input_ids, do_sample=False, **settings)
    for cutoff in (SHIPPED[shipped], {}):
        assert torch.equal(rt.generate(input_ids, do_sample=True, **cutoff, **settings), expected)


def test_what_generate_adds_for_sampling_is_what_the_search_drops(rt):
    """The contract with the names of transformers' classes."""
    every = {name: value for settings in SHIPPED.values() for name, value in settings.items()}
    prepared = {}
    for do_sample in (False, True):
        config = GenerationConfig(do_sample=do_sample, repetition_penalty=1.1, **(every if do_sample else {}))
        prepared[do_sample] = rt._get_logits_processor(config, input_ids_seq_length=3)
    assert len(prepared[True]) == len(prepared[False]) + len(every)
    kept = without_sampling(prepared[True], GenerationConfig(do_sample=True))
    assert [type(one) for one in kept] == [type(one) for one in prepared[False]]


def test_a_channel_of_another_base_is_refused(rt):
    other = tiny_causal_lm(hidden_size=24)
    with pytest.raises(ValueError, match=r"hidden_size=24.*reward channel was trained with `hidden_size=16`"):
        other.generate(torch.tensor([[3, 4]]), custom_generate=sla_generate, reward=rt, max_new_tokens=2)


def test_a_policy_without_attention_caches_is_refused():
    rt = RewardTransformer.from_base(tiny_causal_lm(), channel_size=8)
    settings = {"custom_generate": sla_generate, "max_new_tokens": 2, generate_cache_name(): DynamicCache()}
    with pytest.raises(ValueError, match="only dynamic attention caches"):
        rt.generate(torch.tensor([[3, 4]]), **settings)


@pytest.mark.stack
def test_adapters_follow_into_the_search():
    from peft import LoraConfig, get_peft_model

    base = get_peft_model(tiny_causal_lm(), LoraConfig(target_modules="all-linear", init_lora_weights=False)).eval()
    rt = RewardTransformer.from_base(base, channel_size=8).eval()
    input_ids, attention_mask = left_padded_batch((4, 2))
    inputs = dict(input_ids=input_ids, attention_mask=attention_mask)
    found = both(rt, inputs, (1, 3, 1), max_new_tokens=8, pad_token_id=PAD)
    assert torch.equal(found, base.generate(**inputs, max_new_tokens=8, pad_token_id=PAD))
    both(rt, inputs, (2, 2, 1), max_new_tokens=8, pad_token_id=PAD)

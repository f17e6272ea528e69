"""`generate(custom_generate=folder)` writes the tokens of our own decoding; nothing is dropped in silence."""

import functools
import importlib.util
import re
from importlib.metadata import requires

import pytest
import torch
from fake_hub import hub, named_policy  # noqa: F401
from packaging.requirements import Requirement
from peft import LoraConfig, get_peft_model
from tiny import left_padded_batch, tiny_causal_lm
from tokenizers import Tokenizer, decoders, models
from transformers import (
    AutoModelForCausalLM,
    NoBadWordsLogitsProcessor,
    PreTrainedTokenizerFast,
    StoppingCriteriaList,
    StopStringCriteria,
    TextStreamer,
)

from hf_reward_ext import GenARMLogitsProcessor
from hf_reward_ext.hub import GenARMCustomGenerate, SLACustomGenerate
from hf_reward_ext.sla import RewardTransformer, sla_generate

IDS, MASK = left_padded_batch()
INPUTS = {"input_ids": IDS, "attention_mask": MASK}
TRUSTED = dict(trust_remote_code=True, max_new_tokens=8)  # said by the user, as here


@pytest.fixture
def policy(hub):  # noqa: F811
    return named_policy()


@pytest.fixture
def guide():
    return tiny_causal_lm(seed=1)


@pytest.fixture
def rt(policy):
    rt = RewardTransformer.from_base(policy, channel_size=4)
    for parameter in rt.reward_channel.parameters():
        torch.nn.init.normal_(parameter)
    return rt


def letters():
    """A tokenizer whose tokens are letters, for criteria on strings."""
    words = ["<pad>", "<bos>", "<eos>", "<unk>", *"abcdefghijklmnopqrstuvwxyz01"]
    backend = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, [], unk_token="<unk>"))
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


def guided(policy, guides, alpha=1.0, **kwargs):
    torch.manual_seed(0)
    processor = GenARMLogitsProcessor(guides, alpha)
    return policy.generate(**INPUTS, max_new_tokens=8, logits_processor=[processor], **kwargs)


def carried(policy, folder, **kwargs):
    torch.manual_seed(0)
    return policy.generate(**{**INPUTS, **TRUSTED, **kwargs}, custom_generate=str(folder))


MODES = {
    "greedy": dict(do_sample=False),
    "sampling": dict(do_sample=True, num_return_sequences=3),
    "beams": dict(num_beams=3),
    "a static cache": dict(cache_implementation="static"),
}


@pytest.mark.stack
@pytest.mark.parametrize("mode", MODES)
def test_guided_tokens_are_those_of_the_processor(policy, guide, tmp_path, mode):
    GenARMCustomGenerate(guide, 0.7, policy="me/policy").save_pretrained(tmp_path / "guided")
    expected = guided(policy, guide, 0.7, **MODES[mode])
    assert torch.equal(carried(policy, tmp_path / "guided", **MODES[mode]), expected)
    assert not torch.equal(carried(policy, tmp_path / "guided", alpha=0.0), guided(policy, guide, 0.7))


def test_the_prompt_may_come_first(policy, guide, tmp_path):
    GenARMCustomGenerate(guide, policy="me/policy").save_pretrained(tmp_path / "guided")
    found = policy.generate(IDS, attention_mask=MASK, custom_generate=str(tmp_path / "guided"), **TRUSTED)
    assert torch.equal(found, guided(policy, guide))


def test_several_guides_by_model_by_name_and_as_an_adapter(policy, guide, tmp_path):
    tiny_causal_lm(seed=2).save_pretrained("me/harmless")
    config = LoraConfig(target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    adapter = get_peft_model(AutoModelForCausalLM.from_pretrained("me/policy"), config).eval()
    carrier = GenARMCustomGenerate([guide, "me/harmless", adapter], [0.5, 0.3, 0.9], policy="me/policy")
    carrier.save_pretrained(tmp_path / "guided")
    guides = [guide, AutoModelForCausalLM.from_pretrained("me/harmless"), adapter]
    expected = guided(policy, guides, [0.5, 0.3, 0.9])
    assert torch.equal(carried(policy, tmp_path / "guided"), expected)
    found = carried(policy, tmp_path / "guided", guides=[guide, "me/harmless"], alpha=torch.tensor([1.0, 2.0]))
    assert torch.equal(found, guided(policy, guides[:2], [1.0, 2.0]))


def test_guides_follow_after_other_processors_streamers_assistants_and_stop_strings(policy, guide, tmp_path, capsys):
    GenARMCustomGenerate(guide, policy="me/policy").save_pretrained(tmp_path / "guided")
    one = {"input_ids": IDS[2:], "attention_mask": MASK[2:]}
    plain = functools.partial(policy.generate, **one, max_new_tokens=8)
    free = plain(logits_processor=[GenARMLogitsProcessor(guide)])
    forbidden = int(free[0, IDS.shape[1]])
    bad_words = NoBadWordsLogitsProcessor([[forbidden]], eos_token_id=2)
    expected = plain(logits_processor=[bad_words, GenARMLogitsProcessor(guide)])
    assert forbidden not in expected[0, IDS.shape[1] :]
    assert torch.equal(carried(policy, tmp_path / "guided", **one, logits_processor=[bad_words]), expected)
    found = carried(policy, tmp_path / "guided", **one, assistant_model=tiny_causal_lm(seed=5))
    assert torch.equal(found, free)
    tokenizer = letters()
    found = carried(policy, tmp_path / "guided", **one, streamer=TextStreamer(tokenizer, skip_prompt=True))
    assert torch.equal(found, free)
    assert capsys.readouterr().out.strip() == tokenizer.decode(free[0, IDS.shape[1] :])
    word = tokenizer.decode(free[0, IDS.shape[1] + 2])
    stopped = carried(policy, tmp_path / "guided", **one, stop_strings=[word], tokenizer=tokenizer)
    assert stopped.shape[1] <= IDS.shape[1] + 3 and torch.equal(stopped, free[:, : stopped.shape[1]])


SEARCH = dict(width=2, step=2, depth=1)


def searched(rt, **kwargs):
    return rt.generate(**{**INPUTS, "max_new_tokens": 8, **SEARCH, **kwargs}, custom_generate=sla_generate)


@pytest.mark.stack
def test_searched_tokens_are_those_of_sla_generate(policy, rt, tmp_path):
    SLACustomGenerate(rt, **SEARCH).save_pretrained(tmp_path / "search")
    expected = searched(rt)
    assert torch.equal(carried(policy, tmp_path / "search"), expected)
    assert not torch.equal(expected, policy.generate(**INPUTS, max_new_tokens=8))
    deeper = searched(rt, width=3, depth=2, score_prompt=False)
    assert torch.equal(carried(policy, tmp_path / "search", width=3, depth=2, score_prompt=False), deeper)
    tree = carried(policy, tmp_path / "search", return_tree=True)
    assert torch.equal(tree.sequences, expected) and len(tree.trees) == len(IDS)
    assert torch.equal(carried(rt, tmp_path / "search"), expected)  # its own channel
    assert torch.equal(carried(policy, tmp_path / "search", reward=rt.reward_channel), expected)


def test_the_search_streams_and_stops_at_strings(policy, rt, tmp_path, capsys):
    SLACustomGenerate(rt, **SEARCH).save_pretrained(tmp_path / "search")
    tokenizer = letters()
    one = {"input_ids": IDS[2:], "attention_mask": MASK[2:]}
    expected = searched(rt, **one)
    streamer = TextStreamer(tokenizer, skip_prompt=True)
    assert torch.equal(carried(policy, tmp_path / "search", **one, streamer=streamer), expected)
    assert capsys.readouterr().out.strip() == tokenizer.decode(expected[0, IDS.shape[1] :])
    word = tokenizer.decode(expected[0, IDS.shape[1] + 1])
    criteria = StoppingCriteriaList([StopStringCriteria(tokenizer, [word])])
    stopped = searched(rt, **one, stopping_criteria=criteria)
    assert not torch.equal(stopped, expected)
    found = carried(policy, tmp_path / "search", **one, stop_strings=[word], tokenizer=tokenizer)
    assert torch.equal(found, stopped) and policy.generation_config.stop_strings is None
    assert torch.equal(carried(policy, tmp_path / "search", **one, tokenizer=tokenizer), expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(assistant_model=object()), "`assistant_model` must be None .*got a `object`. Leave it out"),
        (dict(synced_gpus=True), "`synced_gpus` must be False .*Gather the weights"),
        (dict(streamer=object(), on_chunk=print), "`streamer` and `on_chunk` must not be given together"),
        (dict(stop_strings=["w1"]), "stop strings|tokenizer"),
        (dict(num_beams=2), "`num_beams` must be 1 .*got 2"),
        (dict(cache_implementation="paged"), "paged"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value),
)
def test_what_the_search_would_drop_is_refused(policy, rt, tmp_path, given, message):
    SLACustomGenerate(rt, **SEARCH).save_pretrained(tmp_path / "search")
    with pytest.raises(ValueError, match=message):
        carried(policy, tmp_path / "search", **given)


def test_another_policy_and_a_paged_cache_are_refused(policy, rt, guide, tmp_path):
    SLACustomGenerate(rt, **SEARCH).save_pretrained(tmp_path / "search")
    with pytest.raises(ValueError, match="hidden_size"):
        carried(tiny_causal_lm(hidden_size=32), tmp_path / "search")
    GenARMCustomGenerate(guide, policy="me/policy").save_pretrained(tmp_path / "guided")
    with pytest.raises(ValueError, match="paged"):
        carried(policy, tmp_path / "guided", cache_implementation="paged")


def test_nothing_runs_unless_the_user_trusts_it(policy, guide, tmp_path):
    GenARMCustomGenerate(guide, policy="me/policy").save_pretrained(tmp_path / "guided")
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        carried(policy, tmp_path / "guided", trust_remote_code=False)


@pytest.mark.stack
@pytest.mark.parametrize("method", ["guided", "search"])
def test_a_repository_may_carry_the_policy_too(policy, rt, guide, tmp_path, method):
    folder = tmp_path / "all"
    policy.save_pretrained(folder)
    if method == "guided":
        GenARMCustomGenerate(guide, policy="me/policy").save_pretrained(folder)
        expected = guided(policy, guide)
    else:
        SLACustomGenerate(rt, **SEARCH).save_pretrained(folder)
        expected = searched(rt)
    loaded = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    loaded.config._name_or_path = policy.config.name_or_path
    assert torch.equal(loaded.generate(**INPUTS, max_new_tokens=8), expected)
    plain = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.equal(plain.generate(**INPUTS, max_new_tokens=8), policy.generate(**INPUTS, max_new_tokens=8))


def test_the_code_is_short_and_its_requirements_are_what_transformers_understands(policy, guide, tmp_path):
    GenARMCustomGenerate(guide, policy="me/policy").save_pretrained(tmp_path / "guided")
    code = tmp_path / "guided/custom_generate/generate.py"
    spec = importlib.util.spec_from_file_location("carried", code)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PATH_OR_REPO == str(tmp_path / "guided") and len(code.read_text().splitlines()) < 20
    bounds = tmp_path / "guided/custom_generate/requirements.txt"
    lines = bounds.read_text().split()
    assert lines[:2] == ["hf_reward_ext>=0.1.0", "hf_reward_ext<0.2"]
    ours = [Requirement(line) for line in requires("hf_reward_ext") if "extra ==" not in line]
    loads = {r.name: r.specifier for r in ours if r.name in {"transformers", "trl", "torch", "peft"}}
    assert len(loads) == 4 and all(len(specifier) for specifier in loads.values())
    assert {f"{name}{bound}" for name, specifier in loads.items() for bound in specifier} <= set(lines)
    bounds.write_text("\n".join(re.sub("transformers<.*", "transformers<5.1", line) for line in lines))
    with pytest.raises(ImportError, match=r"transformers<5.1 \(installed: "):
        carried(policy, tmp_path / "guided")


def test_what_no_one_else_could_load_is_refused(policy, guide, tmp_path):
    with pytest.raises(TypeError, match="`alpha` must be a float .*got a `Tensor`"):
        GenARMCustomGenerate(guide, torch.tensor([1.0]), policy="me/policy")
    unnamed = get_peft_model(tiny_causal_lm(), LoraConfig(target_modules=["q_proj"]))
    with pytest.raises(ValueError, match="The adapter 'default' must have a base with a name.*merge_and_unload"):
        GenARMCustomGenerate(unnamed, policy="me/policy")
    with pytest.raises(ValueError, match="base has no name"):
        SLACustomGenerate(RewardTransformer.from_base(tiny_causal_lm(), channel_size=4))
    joint = RewardTransformer.from_base(policy, channel_size=4, policy_folder="policy")
    with pytest.raises(ValueError, match="base was trained with it"):
        SLACustomGenerate(joint)


def test_a_folder_that_was_moved_says_so(policy, guide, tmp_path):
    GenARMCustomGenerate(guide, policy="me/policy").save_pretrained(tmp_path / "guided")
    (tmp_path / "guided").rename(tmp_path / "moved")
    with pytest.raises(ValueError, match="nothing is there: the folder was moved"):
        carried(policy, tmp_path / "moved")
    assert torch.equal(carried(policy, tmp_path / "moved", guides=guide), guided(policy, guide))


def test_loading_arguments_reach_the_parts_and_not_the_decoding(policy, rt, tmp_path):
    SLACustomGenerate(rt, **SEARCH).save_pretrained(tmp_path / "search")
    found = carried(policy, tmp_path / "search", revision="main", local_files_only=True)
    assert torch.equal(found, searched(rt))

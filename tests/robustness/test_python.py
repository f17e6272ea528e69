"""What Python refuses, with the message: numbers out of range, models of another kind, names, verdicts, templates."""

import math

import pytest
import torch
from datasets import Dataset
from method_trainers import CLASSES, trainer_of
from tiny import left_padded_batch, tiny_causal_lm, tiny_tokenizer
from tiny_judges import VERDICTS, pair_judge
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, pipeline

from hf_reward_ext.base.stats.intervals import composite_with_interval, mean_with_interval
from hf_reward_ext.base.training.known_text import require_known_text
from hf_reward_ext.best_of_n import Pruning
from hf_reward_ext.elhsr import ELHSRModel
from hf_reward_ext.evaluation import evaluate_best_of_n, evaluate_preferences
from hf_reward_ext.fast_slow import FastSlowRewardModel, Gate, JudgeTemplate
from hf_reward_ext.genarm import GenARMLogitsProcessor, GuidedCausalLM
from hf_reward_ext.sla import RewardTransformer, SLALogitsProcessor, sla_generate

IDS, MASK = left_padded_batch((6, 4))
PAIRS = [{"prompt": f"w{n}", "chosen": " w3", "rejected": " w4"} for n in range(3)]
GROUPS = [{"prompt": f"w{n}", "completions": [" w3", " w4"], "labels": [1, 0]} for n in range(3)]

SIZES = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1)


def ones(prompts, completions):
    return [float(index) for index in range(len(completions))]


def vit():
    config = AutoConfig.for_model("vit", patch_size=4, image_size=8, num_attention_heads=1, **SIZES)
    return AutoModel.from_config(config)


def classifier():
    return AutoModelForSequenceClassification.from_config(
        AutoConfig.for_model("llama", vocab_size=32, num_attention_heads=1, num_key_value_heads=1, **SIZES)
    )


NO_NUMBERS = [math.nan, math.inf, -1.0]
NO_MODELS = {"ViT": vit, "classifier": classifier, "text": lambda: "policy", "None": lambda: None}


@pytest.mark.parametrize("value", NO_NUMBERS)
@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("entropy_threshold", lambda value: GenARMLogitsProcessor(tiny_causal_lm(), entropy_threshold=value)),
        (
            "branch_entropy",
            lambda value: SLALogitsProcessor(RewardTransformer.from_base(tiny_causal_lm(), 8), branch_entropy=value),
        ),
        ("intuition_threshold", lambda value: Gate(intuition_threshold=value)),
        ("max_gap", lambda value: Pruning((2,), max_gap=value)),
        ("confidence", lambda value: evaluate_preferences(ones, PAIRS, confidence=value)),
        ("confidence", lambda value: evaluate_best_of_n(ones, GROUPS, confidence=value)),
        ("confidence", lambda value: mean_with_interval(torch.ones(3).numpy(), confidence=value)),
        ("confidence", lambda value: composite_with_interval({"a": [1.0, 0.0]}, {"a": 1.0}, confidence=value)),
        ("num_resamples", lambda value: evaluate_preferences(ones, PAIRS, num_resamples=value)),
        ("batch_size", lambda value: evaluate_best_of_n(ones, GROUPS, batch_size=value)),
    ],
)
def test_numbers_out_of_range(name, use, value):
    if name == "intuition_threshold" and value == math.inf:
        value = math.nan  # infinity escalates everything
    with pytest.raises((ValueError, TypeError), match=f"`{name}` must be "):
        use(value)


@pytest.mark.parametrize("kind", NO_MODELS)
@pytest.mark.parametrize(
    "use",
    [
        lambda model: GuidedCausalLM(model, tiny_causal_lm()),
        lambda model: GuidedCausalLM(tiny_causal_lm(), model),
        lambda model: GenARMLogitsProcessor(model),
        lambda model: ELHSRModel.from_policy(model),
        lambda model: FastSlowRewardModel(model, tiny_tokenizer(), VERDICTS),
        lambda model: pipeline("reward-bon", model=model, tokenizer=tiny_tokenizer(), reward_model=ones),
    ],
    ids=["policy", "guide", "processor", "head", "judge", "pipeline"],
)
def test_what_is_no_causal_lm(use, kind, request):
    if kind in ("text", "None") and "pipeline" in request.node.name:
        pytest.skip("transformers loads it by its name, or asks for it")
    with pytest.raises(TypeError, match="must be a causal LM, got "):
        use(NO_MODELS[kind]())


@pytest.mark.parametrize("method", CLASSES)
def test_a_tokenizer_of_more_tokens_than_the_model(method, tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["z1", "z2"])
    with pytest.raises(ValueError, match="`model` must have an embedding for each of the tokenizer's 34 ids, got 32"):
        trainer_of(method, tmp_path, Dataset.from_list(PAIRS), tokenizer=tokenizer)


@pytest.mark.parametrize("method", CLASSES)
@pytest.mark.parametrize("side", ["train", "eval"])
def test_a_tokenizer_of_another_vocabulary(method, side, tmp_path):
    foreign = [{"prompt": "x", "chosen": " y z", "rejected": " z"}] * 3
    rows = {"train": PAIRS, "eval": None, side: foreign}
    data = {name: None if part is None else Dataset.from_list(part) for name, part in rows.items()}
    with pytest.raises(ValueError, match=rf"`processing_class` .* of the {side} data are its unknown token '<unk>'"):
        trainer_of(method, tmp_path, data["train"], data["eval"])


def test_chats_and_groups_of_another_vocabulary():
    chat = [[{"role": "user", "content": [{"type": "text", "text": "x"}]}], [{"role": "user", "content": "y"}]]
    for row in ({"prompt": chat[0], "completions": chat}, {"prompt": "w1 w2", "completions": ["x", "y z"]}):
        with pytest.raises(ValueError, match="are its unknown token"):
            require_known_text([row], tiny_tokenizer(), "train", 32)
    require_known_text([{"prompt": "w1 x", "completion": " w2"}], tiny_tokenizer(), "train", 32)


@pytest.mark.parametrize("method", CLASSES)
def test_a_special_token_without_an_embedding_is_refused_only_in_the_data(method, tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|spare|>"]})
    trainer_of(method, tmp_path, Dataset.from_list(PAIRS), tokenizer=tokenizer)
    rows = [*PAIRS, {"prompt": "w1", "chosen": " w3 <|spare|>", "rejected": " w4"}]
    with pytest.raises(ValueError, match="for each token of the train data, got 32 and the id 32"):
        trainer_of(method, tmp_path, Dataset.from_list(rows), tokenizer=tokenizer)


def test_a_guide_with_fewer_tokens_names_the_id():
    policy, guide = tiny_causal_lm(), tiny_causal_lm(vocab_size=12)
    ids = torch.tensor([[3, 20, 5]])
    with pytest.raises(ValueError, match="A guide must have the tokens of the policy.* 12 embeddings got the id 20"):
        policy.generate(ids, max_new_tokens=2, logits_processor=[GenARMLogitsProcessor(guide)])


def test_a_search_that_no_memory_holds():
    channel = RewardTransformer.from_base(tiny_causal_lm(), 8)
    with pytest.raises(ValueError, match="at most 65536 leaves.* width=8 and depth=6 with 2097152"):
        channel.generate(
            IDS, attention_mask=MASK, custom_generate=sla_generate, width=8, step=1, depth=6, max_new_tokens=20
        )


@pytest.mark.parametrize("slot", ["{foo}", "{prompt.__class__}", "{prompt[0]}", "{prompt:>9000000000}", "{prompt!r}"])
def test_slots_of_a_template(slot):
    with pytest.raises(ValueError, match="must have plain slots among prompt, response_a"):
        JudgeTemplate(user=slot)


def test_a_mode_is_one_of_three():
    with pytest.raises(ValueError, match="`mode` must be one of 'gated', 'fast', 'slow', got 'Fast'"):
        pair_judge().judge(["w3"], ["w4"], ["w5"], mode="Fast")


def test_a_judge_gives_an_empty_response_a_number():
    assert math.isfinite(pair_judge().judge(["w3"], [""], ["w5"], mode="fast")[0].score)

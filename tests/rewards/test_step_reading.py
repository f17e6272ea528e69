"""Rewards of steps from one forward, against a forward of each prefix."""

import json

import pytest
import torch
from cli_files import write_rows
from tiny import EOS, tiny_causal_lm, tiny_tokenizer
from torch.nn.modules.module import register_module_forward_pre_hook
from transformers import LlamaForCausalLM, LlamaModel, pipeline

from hf_reward_ext import ELHSRForSequenceClassification, ELHSRModel, GenARMRewardModel
from hf_reward_ext.cli.main import main
from hf_reward_ext.rewards import ModelReward, StepReward, TokenRewardMean, aggregate_steps
from hf_reward_ext.sla import RewardTransformer
from hf_reward_ext.sla.text_classifier import RewardTransformerForSequenceClassification

PROMPTS = ["w3 w4 ", "w5 ", "w6 w7 w8 "]
TEXTS = ["w9 w10 w2 w11 w2 w12", "w13 w14", "w15 w2 w2 w16 w17 w18 w2"]
# Numbers of completion tokens up to the end of each step of a response; the last one has EOS too.
ENDS = [[3, 5, 7], [3], [2, 3, 8]]


def models():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        channel = RewardTransformer.from_base(tiny_causal_lm(), channel_size=8)
        head = ELHSRModel.from_policy(tiny_causal_lm())
    arm = tiny_causal_lm(seed=3)
    return {
        "channel": channel,
        "head": ELHSRForSequenceClassification(tiny_causal_lm(), head),
        "sum of log-probabilities": GenARMRewardModel.from_causal_lm(arm, beta=0.5),
        "mean of log-probabilities": GenARMRewardModel.from_causal_lm(arm, length_normalization=True),
    }


def slow_values(model, tokenizer, prompt, text, ends):
    """The reward of each prefix by a forward of its own tokens."""
    start = tokenizer(prompt)["input_ids"]
    ids = [*start, *tokenizer(text)["input_ids"], EOS]
    scored = RewardTransformerForSequenceClassification(model) if isinstance(model, RewardTransformer) else model
    found = []
    for end in ends:
        given = torch.tensor([ids[: len(start) + end]])
        mask = torch.arange(given.shape[1])[None] >= len(start)
        with torch.no_grad():
            found.append(float(scored(given, torch.ones_like(given), mask).logits))
    return found


def forwards_of(call):
    """The result of a call, and the number of forwards of language models."""
    count = []
    handle = register_module_forward_pre_hook(
        lambda module, _: count.append(module) if isinstance(module, LlamaModel) else None
    )
    try:
        return call(), len(count)
    finally:
        handle.remove()


@pytest.mark.parametrize("name", ["channel", "head", "sum of log-probabilities", "mean of log-probabilities"])
def test_one_forward_reads_the_rewards_of_all_prefixes(name):
    model, tokenizer = models()[name], tiny_tokenizer()
    reward = StepReward(model, "w2", tokenizer=tokenizer)
    reward.step_rewards(PROMPTS, TEXTS)  # an autoregressive reward model checks its fused head once
    found, count = forwards_of(lambda: reward.step_rewards(PROMPTS, TEXTS))
    slow = [slow_values(model, tokenizer, *row) for row in zip(PROMPTS, TEXTS, ENDS, strict=True)]
    assert count == 1
    for own, expected in zip(found, slow, strict=True):
        assert own == pytest.approx(expected, abs=1e-4)
    small = StepReward(model, "w2", tokenizer=tokenizer, batch_size=1).step_rewards(PROMPTS, TEXTS)
    assert [one for own in small for one in own] == pytest.approx([one for own in found for one in own], abs=1e-4)
    # The last prefix is the whole text, whose reward every other scorer of the model returns too.
    whole = ModelReward(model, tokenizer).score(PROMPTS, TEXTS)
    assert [own[-1] for own in found] == pytest.approx(whole, abs=1e-4)


@pytest.mark.parametrize("aggregation", ["min", "last", "mean", "product"])
def test_aggregations_of_what_was_read(aggregation):
    model, tokenizer = models()["channel"], tiny_tokenizer()
    options = dict(aggregation=aggregation, probabilities=aggregation == "product")
    found = StepReward(model, "w2", tokenizer=tokenizer, **options).score(PROMPTS, TEXTS)
    for reward, row in zip(found, zip(PROMPTS, TEXTS, ENDS, strict=True), strict=True):
        values = slow_values(model, tokenizer, *row)
        if aggregation == "product":
            values = [1 / (1 + 2.718281828459045**-value) for value in values]
        assert reward == pytest.approx(aggregate_steps(values, aggregation), abs=1e-4)


def test_the_answer_of_a_chat_and_differences():
    model, tokenizer = models()["head"], tiny_tokenizer()
    chats = [[{"role": "user", "content": prompt.strip()}] for prompt in PROMPTS]
    answers = [[{"role": "assistant", "content": text}] for text in TEXTS]
    values = StepReward(model, "w2", tokenizer=tokenizer).step_rewards(chats, answers)
    for own, prompt, text, ends in zip(values, PROMPTS, TEXTS, ENDS, strict=True):
        shown = f"user : {prompt} assistant : "
        assert own == pytest.approx(slow_values(model, tokenizer, shown, text, ends), abs=1e-4)
    credits = StepReward(model, "w2", tokenizer=tokenizer, credit="difference").step_rewards(chats, answers)
    assert [sum(own) for own in credits] == pytest.approx([own[-1] for own in values], abs=1e-4)


def test_an_empty_response_is_one_step():
    reward = StepReward(models()["channel"], "w2", tokenizer=tiny_tokenizer())
    assert [len(own) for own in reward.step_rewards(["w3", "w3"], ["", " "])] == [1, 1]


def test_the_mean_of_token_rewards_is_read_as_a_mean():
    model, tokenizer = models()["sum of log-probabilities"], tiny_tokenizer()
    scorer = TokenRewardMean(model, tokenizer).model_scorer
    found = StepReward(scorer, "w2").step_rewards(PROMPTS, TEXTS)
    for own, row in zip(found, zip(PROMPTS, TEXTS, ENDS, strict=True), strict=True):
        sums = slow_values(model, tokenizer, *row)
        assert own == pytest.approx([one / end for one, end in zip(sums, row[2], strict=True)], abs=1e-4)


def test_the_pipeline_ranks_by_steps():
    policy, tokenizer = tiny_causal_lm(), tiny_tokenizer()
    reward = StepReward(models()["channel"], " ", tokenizer=tokenizer, aggregation="min")
    pipe = pipeline("reward-bon", model=policy, tokenizer=tokenizer, reward_model=reward)
    found = pipe("w3 w4 ", num_candidates=6, max_new_tokens=5, return_all=True, seed=1, return_full_text=False)
    texts = [one["generated_text"] for one in found]
    assert [one["score"] for one in found] == pytest.approx(reward.score(["w3 w4 "] * 6, texts), abs=1e-4)
    assert found == sorted(found, key=lambda one: -one["score"]) and len({one["score"] for one in found}) > 1


def test_bon_ranks_by_steps(tmp_path, capsys):
    tokenizer = tiny_tokenizer()
    tiny_causal_lm().save_pretrained(tmp_path / "policy")
    tokenizer.save_pretrained(tmp_path / "policy")
    base = LlamaForCausalLM.from_pretrained(tmp_path / "policy")
    for name, model in (("channel", RewardTransformer.from_base(base, 8)), ("head", ELHSRModel.from_policy(base))):
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        line = ["bon", "--model", f"{tmp_path}/policy", "--reward_model", f"{tmp_path}/{name}", "--step_marks", " "]
        line += ["--num_candidates", "4", "--max_new_tokens", "5", "--step_aggregation", "mean", "--json"]
        assert main([*line, "--data", write_rows(tmp_path / "rows.jsonl", [{"prompt": "w3 w4 "}])]) == 0
        [row] = json.loads(capsys.readouterr().out)["rows"]
        reward = StepReward(f"{tmp_path}/{name}", " ", aggregation="mean")
        assert row["rewards"] == pytest.approx(reward.score(["w3 w4 "] * 4, row["completions"]), abs=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--step_aggregation", "last"], "--step_aggregation and --step_probabilities go with --step_marks"),
        (["--step_marks", ";", "--step_aggregation", "product"], "--step_aggregation product multiplies"),
        (["--step_marks", "("], "--step_marks '(' is no regular expression"),
        (["--step_marks", "x*"], "--step_marks 'x*' matches the empty text"),
        (["--step_marks", ";", "--prune_at", "4"], "--step_marks reads finished candidates"),
    ],
)
def test_options_that_do_not_go_with_steps_are_refused(options, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["bon", "--reward_model", "head", "--prompt", "w3", *options])
    assert message in capsys.readouterr().err

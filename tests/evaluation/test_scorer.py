"""Whatever scores text can be evaluated, and says the same as when it is asked by hand."""

import numpy as np
import pytest
import torch
from tiny import tiny_causal_lm, tiny_tokenizer
from tiny_judges import VERDICTS, pair_judge, point_judge
from transformers import AutoModelForSequenceClassification, LlamaConfig, LlamaForSequenceClassification

from hf_reward_ext import (
    ELHSRForSequenceClassification,
    ELHSRModel,
    GenARMRewardModel,
    TextScorer,
    evaluate_preferences,
)
from hf_reward_ext.base.scoring.completion import CompletionScorer
from hf_reward_ext.base.scoring.pair import PairScorer
from hf_reward_ext.base.scoring.scorer import as_scorer
from hf_reward_ext.sla import RewardTransformer, RewardTransformerForSequenceClassification

ROWS = [
    {"prompt": f"w{n} w4 w5", "chosen": f" w{n + 6} w{n + 7}", "rejected": f" w{n + 1} w2 w{n + 3} w9"}
    for n in range(8)
]


def classifier(seed=0):
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_labels=1, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(seed)
    return LlamaForSequenceClassification(config).eval()


def elhsr():
    policy = tiny_causal_lm()
    return ELHSRForSequenceClassification(policy, ELHSRModel.from_policy(policy))


def channel():
    rt = RewardTransformer.from_base(tiny_causal_lm(), channel_size=4)
    for parameter in rt.reward_channel.parameters():
        torch.nn.init.normal_(parameter)
    return RewardTransformerForSequenceClassification(rt).eval()


def test_a_reward_model_of_trl_reads_prompt_and_completion_as_one_text():
    model, tokenizer = classifier(), tiny_tokenizer()
    result = evaluate_preferences(model, ROWS, tokenizer=tokenizer, batch_size=3)
    for row, record in zip(ROWS, result.rows, strict=True):
        for side in ("chosen", "rejected"):
            ids = tokenizer(row["prompt"] + row[side], return_tensors="pt", return_token_type_ids=False)
            expected = model(**ids).logits.item()
            assert record[f"{side}_scores"] == [pytest.approx(expected, abs=1e-5)]
    assert result.scorer == "LlamaForSequenceClassification"


@pytest.mark.parametrize("make", [elhsr, channel, lambda: GenARMRewardModel.from_causal_lm(tiny_causal_lm()).eval()])
def test_models_get_the_start_of_the_completion(make):
    torch.manual_seed(0)
    model, tokenizer = make(), tiny_tokenizer()
    result = evaluate_preferences(model, ROWS, tokenizer=tokenizer, batch_size=3)
    row = ROWS[0]
    prompt = tokenizer(row["prompt"])["input_ids"]
    whole = torch.tensor([tokenizer(row["prompt"] + row["chosen"])["input_ids"] + [tokenizer.eos_token_id]])
    mask = torch.arange(whole.shape[1])[None] >= len(prompt)
    with torch.no_grad():
        expected = model(input_ids=whole, attention_mask=torch.ones_like(whole), completion_mask=mask).logits.item()
    assert result.rows[0]["chosen_scores"] == [pytest.approx(expected, abs=1e-4)]


def test_a_model_is_loaded_by_its_folder(tmp_path):
    classifier().save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    by_name = evaluate_preferences(str(tmp_path), ROWS)
    by_object = evaluate_preferences(classifier(), ROWS, tokenizer=tiny_tokenizer())
    margins = [np.array([row["margins"] for row in result.rows]) for result in (by_name, by_object)]
    np.testing.assert_allclose(*margins, atol=1e-6)
    loaded = TextScorer(AutoModelForSequenceClassification.from_pretrained(tmp_path), tiny_tokenizer())
    assert evaluate_preferences(loaded, ROWS)["accuracy"] == by_name["accuracy"]


def test_a_judge_is_loaded_by_its_folder(tmp_path):
    judge = point_judge()
    judge.save_pretrained(tmp_path)
    by_name, by_object = evaluate_preferences(str(tmp_path), ROWS), evaluate_preferences(judge, ROWS)
    np.testing.assert_allclose(by_name.rows[0]["margins"], by_object.rows[0]["margins"], atol=1e-4)


@pytest.mark.parametrize("threshold", [0.0, 1.01], ids=["fast", "written"])
@pytest.mark.parametrize("both_orders", [True, False])
def test_a_judge_of_pairs_is_asked_in_both_orders(both_orders, threshold):
    settings = dict(intuition_threshold=threshold, distribution_threshold=threshold)
    judge, one_order = (pair_judge(both_orders=both, **settings) for both in (both_orders, False))
    assert isinstance(as_scorer(judge), PairScorer)
    columns = [[row[name] for row in ROWS] for name in ("prompt", "chosen", "rejected")]
    result = evaluate_preferences(judge, ROWS)
    first = np.array([judgment.score for judgment in one_order.judge(*columns)])
    second = -np.array([judgment.score for judgment in one_order.judge(columns[0], columns[2], columns[1])])
    decisions = [judgment.score for judgment in judge.judge(*columns)] if both_orders else (first + second) / 2
    np.testing.assert_allclose([row["margins"][0] for row in result.rows], decisions, atol=1e-4)
    assert result["accuracy"].value == np.mean(np.array(decisions) > 0)
    assert result["agreement"].value == np.mean(np.sign(first) == np.sign(second))
    assert result.rows[0]["chosen_scores"] is None
    # The rule of JudgeBench looks at each order by itself.
    rows = [
        dict(question=prompt, response_A=chosen, response_B=rejected, label="A>B", source="livecodebench")
        for prompt, chosen, rejected in zip(*columns, strict=True)
    ]
    strict = evaluate_preferences(judge, rows, format="judgebench")["accuracy"].value
    assert strict == np.mean((first > 0) & (second > 0))


def test_pointwise_verdicts_give_rewards():
    judge = point_judge(verdicts=VERDICTS)
    result = evaluate_preferences(judge, ROWS)
    expected = judge.score([row["prompt"] for row in ROWS], [row["chosen"] for row in ROWS])
    np.testing.assert_allclose([row["chosen_scores"][0] for row in result.rows], expected, atol=1e-5)


def test_prompts_of_benchmarks_become_messages_for_models_with_a_chat_template():
    model, tokenizer = classifier(), tiny_tokenizer()
    row = {"input": "w3 w4", "output_1": "w5", "output_2": "w6", "label": 1}
    result = evaluate_preferences(model, [row], format="llmbar", tokenizer=tokenizer)
    messages = [{"role": "user", "content": "w3 w4"}, {"role": "assistant", "content": "w5"}]
    expected = TextScorer(model, tokenizer)([messages[:1]], [messages[1:]])
    assert result.rows[0]["chosen_scores"] == [pytest.approx(expected.item(), abs=1e-6)]
    plain = evaluate_preferences(model, [row], format="llmbar", tokenizer=tokenizer, conversational=False)
    expected = TextScorer(model, tokenizer)(["w3 w4"], ["w5"])
    assert plain.rows[0]["chosen_scores"] == [pytest.approx(expected.item(), abs=1e-6)]


def test_callables_get_batches_of_the_asked_size():
    sizes = []

    def score(prompts, responses):
        sizes.append(len(responses))
        return torch.arange(len(responses), dtype=torch.bfloat16)

    evaluate_preferences(score, ROWS, batch_size=6)
    assert sizes == [6, 6, 4]


def test_small_differences_are_not_rounded_away():
    assert evaluate_preferences(lambda p, r: [1 + 1e-12 * len(one) for one in r], [ROWS[0]])["accuracy"].value == 0
    row = {"prompt": "p", "chosen": "longer", "rejected": "short"}
    assert evaluate_preferences(lambda p, r: [1 + 1e-12 * len(one) for one in r], [row])["accuracy"].value == 1


def test_a_bar_shows_the_progress(capsys):
    evaluate_preferences(lambda prompts, responses: [0.0] * len(responses), ROWS, batch_size=4, show_progress=True)
    assert "scoring" in capsys.readouterr().err
    evaluate_preferences(lambda prompts, responses: [0.0] * len(responses), ROWS, batch_size=4)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("scorer", "error", "message"),
    [
        (lambda prompts, responses: [0.0], ValueError, r"returned shape \(1,\) for 16 responses"),
        (lambda prompts, responses: [float("nan")] * len(responses), ValueError, "NaN or infinity for 16 of 16"),
        (3, TypeError, "`scorer` is a `int`"),
        (classifier(), TypeError, "without its tokenizer"),
        (ELHSRModel.from_policy(tiny_causal_lm()), TypeError, "head alone reads hidden states"),
    ],
)
def test_scorers_that_do_not_score_are_refused(scorer, error, message):
    with pytest.raises(error, match=message):
        evaluate_preferences(scorer, ROWS)


def test_messages_are_scored_as_in_training():
    model, tokenizer = elhsr(), tiny_tokenizer()
    prompt = [{"role": "user", "content": "w3 w4"}]
    with_text = CompletionScorer(model, tokenizer)([prompt], ["w5"])
    with_messages = CompletionScorer(model, tokenizer)([prompt], [[{"role": "assistant", "content": "w5"}]])
    assert with_text.item() == with_messages.item()

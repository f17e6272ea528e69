from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny import tiny_causal_lm
from tiny_judges import TEMPLATE, VERDICTS, counted, pair_judge, point_judge
from transformers import AutoModelForSequenceClassification

from hf_reward_ext.fast_slow import FastSlowRewardModel, Gate
from hf_reward_ext.fast_slow.judge.gate import ALWAYS, NEVER

PROMPTS = ["w4 w5", "w6", "w4 w5", "w7 w8 w9 w4 w4 w5", "w5"]
ONE = ["w12 w13", "w14", "w15 w16 w17", "w12", "w20 w21"]
TWO = ["w22", "w13 w12 w12", "w16", "w18 w4", "w21 w20 w4"]


def middle(judge, rows=(PROMPTS, ONE, TWO)):
    """The judge with a gate that escalates some of the decisions."""
    values = sorted(one.intuition for one in judge.judge(*rows, mode="fast"))
    judge.gate = judge.gate.with_thresholds((values[1] + values[3]) / 2, NEVER)
    return judge


def test_probabilities_are_those_of_the_verdict_logits():
    judge = pair_judge()
    for prompt, a, b, judgment in zip(PROMPTS, ONE, TWO, judge.judge(PROMPTS, ONE, TWO, mode="fast"), strict=True):
        logits = [
            judge.causal_lm(torch.tensor([judge.judge_prompt.encode(prompt, *pair)])).logits[0, -1, [18, 19]]
            for pair in ((a, b), (b, a))
        ]
        margin = 0.5 * ((logits[0][0] - logits[0][1]) - (logits[1][0] - logits[1][1]))
        assert judgment.probability == pytest.approx(torch.sigmoid(margin).item(), abs=1e-5)
        assert judgment.mode == "fast" and judgment.num_tokens == 2 and judgment.text in VERDICTS


def test_swapping_the_responses_flips_every_probability():
    judge = middle(pair_judge())
    for mode in ("fast", "gated", "slow"):
        forward = judge.judge(PROMPTS, ONE, TWO, mode=mode)
        backward = judge.judge(PROMPTS, TWO, ONE, mode=mode)
        for one, other in zip(forward, backward, strict=True):
            assert one.probability == pytest.approx(1 - other.probability, abs=1e-4)
            assert one.mode == other.mode and one.intuition == pytest.approx(other.intuition, abs=1e-4)


def test_results_do_not_depend_on_batches_and_keep_their_order():
    judge = middle(pair_judge())
    together = judge.judge(PROMPTS, ONE, TWO)
    judge.batch_size = 2
    assert {one.mode for one in together} == {"fast", "slow"}
    for number, judgment in enumerate(judge.judge(PROMPTS, ONE, TWO)):
        alone = judge.judge(*[[column[number]] for column in (PROMPTS, ONE, TWO)])[0]
        for other in (alone, together[number]):
            assert judgment.probability == pytest.approx(other.probability, abs=1e-4)
            assert (judgment.mode, judgment.text, judgment.row_tokens) == (other.mode, other.text, other.row_tokens)


def test_thresholds_decide_who_is_escalated():
    judge = pair_judge()
    for level, mode in ((NEVER, "fast"), (ALWAYS, "slow")):
        judge.gate = judge.gate.with_thresholds(level, level)
        gated, forced = judge.judge(PROMPTS, ONE, TWO), judge.judge(PROMPTS, ONE, TWO, mode=mode)
        assert [one.probability for one in gated] == pytest.approx([one.probability for one in forced])
        assert {one.mode for one in gated} == {mode}


def test_orders_that_disagree_have_no_intuition():
    judge = pair_judge()
    judgments = judge.judge(PROMPTS * 4, ONE + ONE[1:] + ONE[:1] + TWO + TWO[::-1], TWO + TWO + ONE + ONE, mode="fast")
    inconsistent = [one for one in judgments if one.fast_scores[0] * one.fast_scores[1] > 0]
    assert 0 < len(inconsistent) < len(judgments)
    assert all(one.intuition == 0 and not one.consistent for one in inconsistent)
    assert all(one.intuition > 0 and one.consistent for one in judgments if one not in inconsistent)


def test_unparsable_judgments_fall_back_to_the_fast_score_and_say_so():
    judge = pair_judge(max_new_tokens=3)  # no room for a verdict
    for fast, slow in zip(
        judge.judge(PROMPTS, ONE, TWO, mode="fast"), judge.judge(PROMPTS, ONE, TWO, mode="slow"), strict=True
    ):
        assert slow.mode == "slow" and not slow.parsed and fast.parsed
        assert slow.probability == pytest.approx(fast.probability, abs=1e-5)
        assert slow.num_tokens == 6 and slow.final_verdicts == [[None], [None]]


def test_votes_are_kept_and_counted():
    judge = pair_judge(num_votes=6, sampling_temperature=5.0, max_new_tokens=60)
    judgments = judge.judge(PROMPTS, ONE, TWO, mode="slow")
    assert all(len(votes) == 6 for one in judgments for votes in one.final_verdicts)
    parsed = [one for one in judgments if any(score is not None for votes in one.vote_scores for score in votes)]
    assert parsed
    assert any(one.probability != pytest.approx(one.fast_probability, abs=1e-3) for one in parsed)


def test_one_order_costs_one_row():
    judge = pair_judge(both_orders=False)
    assert [one.num_tokens for one in judge.judge(PROMPTS, ONE, TWO, mode="fast")] == [1] * 5


def test_binary_scores_are_log_odds_and_their_differences_judge_pairs():
    judge = point_judge()
    scores = judge.score(PROMPTS, ONE, mode="fast")
    logits = [judge.causal_lm(torch.tensor([judge.judge_prompt.encode(*row)])).logits[0, -1] for row in
              zip(PROMPTS, ONE, strict=True)]  # fmt: skip
    torch.testing.assert_close(scores, torch.stack([row[18] - row[19] for row in logits]), atol=1e-4, rtol=1e-4)
    pairs = judge.judge(PROMPTS, ONE, TWO, mode="fast")
    expected = torch.sigmoid(scores - judge.score(PROMPTS, TWO, mode="fast"))
    torch.testing.assert_close(torch.tensor([one.probability for one in pairs]), expected, atol=1e-4, rtol=1e-4)
    assert [one.num_tokens for one in pairs] == [2] * 5


def test_scale_scores_are_expected_values():
    judge = point_judge("rating", ("w10", "w11", "w12"))
    scores = judge.score(PROMPTS, ONE, mode="fast")
    logits = judge.causal_lm(torch.tensor([judge.judge_prompt.encode(PROMPTS[0], ONE[0])])).logits[0, -1]
    p = logits[[18, 19, 20]].softmax(-1)
    assert scores[0].item() == pytest.approx((p[2] - p[0]).item(), abs=1e-5)
    assert all(one.intuition != one.intuition for one in judge.judge(PROMPTS, ONE, mode="fast"))
    judge.gate = replace(judge.gate, reference_score=0.1, temperature=0.2)
    for one in judge.judge(PROMPTS, ONE, mode="fast"):
        assert one.intuition == pytest.approx(
            abs(2 / (1 + 2.718281828 ** -((one.fast_scores[0] - 0.1) / 0.2)) - 1), abs=1e-5
        )


def test_written_scores_replace_fast_ones_where_unsure():
    judge = point_judge(sampling_temperature=5.0, num_votes=6, max_new_tokens=60)
    judge.gate = judge.gate.with_thresholds(0.9, NEVER)
    judgments = judge.judge(PROMPTS, ONE)
    assert {one.mode for one in judgments} == {"fast", "slow"}


def test_responses_to_one_question_are_read_in_one_batch():
    judge = point_judge()
    prompts = ["w4 " * 30, "w5 " * 20] * 3
    with counted(judge.causal_lm) as shapes:
        judge.score(prompts, ["w12", "w13 w14", "w15", "w16", "w17 w18 w19", "w20"], mode="fast")
    assert len(shapes) == 2 and shapes[0][0] == 2 and shapes[1][0] == 6


def test_wrong_lists_are_refused():
    judge = pair_judge()
    with pytest.raises(ValueError, match=r"`responses_b` must be given for the verdicts \('w10', 'w11'\)"):
        judge.score(PROMPTS, ONE)
    with pytest.raises(ValueError, match=r"must have one length, got \[1, 5\]"):
        judge.judge(PROMPTS[:1], ONE, TWO)


def test_training_mode_comes_back():
    judge = pair_judge()
    judge.causal_lm.train()
    judge.judge(PROMPTS, ONE, TWO)
    assert judge.causal_lm.training


def test_save_and_load_keep_every_judgment(tmp_path):
    judge = middle(pair_judge(gate=Gate(0.9, 0.5, rule="and", distribution="top_gap")))
    judge.config.slow_temperature = 1.7
    judge.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.glob("*.safetensors")} == {"model.safetensors"}
    for loaded in (
        FastSlowRewardModel.from_pretrained(tmp_path, attn_implementation="eager"),
        AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=1, attn_implementation="eager"),
    ):
        assert loaded.gate == judge.gate and loaded.judge_prompt.template == TEMPLATE
        assert loaded.config.slow_temperature == 1.7 and loaded.config.problem_type == "regression"
        assert loaded.judge(PROMPTS, ONE, TWO) == judge.judge(PROMPTS, ONE, TWO)


def test_an_adapter_is_saved_alone(tmp_path):
    base = tiny_causal_lm()
    model = get_peft_model(base, LoraConfig(target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM"))
    judge = pair_judge(model)
    judge.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.glob("*.safetensors")} == {"adapter_model.safetensors"}
    loaded = FastSlowRewardModel.from_pretrained(tmp_path, base=tiny_causal_lm())
    assert loaded.judge(PROMPTS, ONE, TWO) == judge.judge(PROMPTS, ONE, TWO)


def test_texts_are_scored_like_by_any_sequence_classifier():
    judge = point_judge()
    texts = [f"{prompt} {response}" for prompt, response in zip(PROMPTS, ONE, strict=True)]
    batch = judge.tokenizer(texts, padding=True, padding_side="right", return_tensors="pt")
    logits = judge(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    assert logits.shape == (5, 1)
    torch.testing.assert_close(logits[:, 0], judge.score([""] * 5, texts))
    with pytest.raises(ValueError, match="compare two"):
        pair_judge()(input_ids=batch["input_ids"])

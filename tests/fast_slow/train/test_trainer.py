import pytest
import torch
from datasets import Dataset, IterableDataset
from peft import LoraConfig
from tiny import ARCHITECTURES, tiny_causal_lm, tiny_tokenizer
from tiny_judges import POINTWISE, TEMPLATE, VERDICTS, pair_judge, point_judge

from hf_reward_ext.fast_slow import FastSlowConfig, FastSlowRewardModel, FastSlowTrainer
from hf_reward_ext.fast_slow.judge.confidence import fast_score
from hf_reward_ext.fast_slow.train.data_collator import JudgeCollator
from hf_reward_ext.fast_slow.train.preference_pairs import encode_pair

WORDS = [f"w{number}" for number in range(12, 22)]


def rows(count=16, judged=True):
    """Responses that end with w12 are better; judgments say which one does."""
    found = []
    for number in range(count):
        first, second = WORDS[number % 7 + 2], WORDS[number % 5 + 3]
        written = [
            {"about": side, "first_verdict": VERDICTS[number % 2], "text": f" {end}", "verdict": VERDICTS[place]}
            for place, (side, end) in enumerate((("chosen", "w12"), ("rejected", "w13")))
        ]
        found.append(
            {
                "prompt": f"w4 {WORDS[number % 9]}",
                "chosen": f"{first} w12",
                "rejected": f"{second} w13",
                "judgments": written if judged else [],
            }
        )
    return found


def config(folder, **kwargs):
    settings = dict(
        verdicts=list(VERDICTS), max_steps=2, per_device_train_batch_size=4, learning_rate=1e-3, report_to="none",
        use_cpu=True, gradient_checkpointing=False, logging_steps=1, save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    return FastSlowConfig(str(folder), **{**settings, **kwargs})


def trainer(folder, model=None, data=None, template=TEMPLATE, eval_data=None, peft_config=None, **kwargs):
    return FastSlowTrainer(
        model or tiny_causal_lm(),
        config(folder, **kwargs),
        train_dataset=data or Dataset.from_list(rows()),
        eval_dataset=eval_data,
        processing_class=tiny_tokenizer(),
        template=template,
        **({"peft_config": peft_config} if peft_config else {}),
    )


def batch_of(one, count=4):
    collator = JudgeCollator(0, 1 + len(one.judge_prompt.prefix_ids))
    return collator([encode_pair(row, one.judge_prompt) for row in rows(count)])


def test_the_loss_by_hand(tmp_path):
    one = trainer(tmp_path, score_temperature=2.0, center_rewards_coefficient=0.1, verdict_weight=0.3)
    one.model.eval()
    loss = one.compute_loss(one.model, batch_of(one)).item()
    prompt, expected = one.judge_prompt, []
    for row in rows(4):
        encoded = encode_pair(row, prompt)
        terms, margins = [], []
        for side, sign in (("chosen", 1), ("rejected", -1)):
            ids, continuation = encoded[f"{side}_prompt_ids"], encoded[f"{side}_judgments"][0]
            logits = one.model(torch.tensor([ids + continuation])).logits[0].float()
            first = logits[len(ids) - 1]
            margins.append(first[18] - first[19])
            logps = logits.log_softmax(-1)[len(ids) - 1 : -1].gather(-1, torch.tensor(continuation)[:, None])
            target = 18 if side == "chosen" else 19
            terms.append(
                -torch.nn.functional.logsigmoid(sign * margins[-1] / 2.0)
                - 0.3 * first.log_softmax(-1)[target]
                - logps[1 + len(prompt.prefix_ids) :].mean()
            )
        expected.append(sum(terms) / 2 + 0.1 * (margins[0] + margins[1]) ** 2)
    assert loss == pytest.approx(torch.stack(expected).mean().item(), rel=1e-4)


@pytest.mark.parametrize("architecture", ["qwen3", "gemma3_text", "gpt_neox"])
def test_padding_and_batches_do_not_change_the_loss(tmp_path, architecture):
    assert architecture in ARCHITECTURES
    one = trainer(tmp_path, tiny_causal_lm(architecture))
    one.model.eval()
    collator = JudgeCollator(0, 2)
    encoded = [encode_pair(row, one.judge_prompt) for row in rows(3)]
    encoded[1]["chosen_prompt_ids"] = encoded[1]["chosen_prompt_ids"] + [9, 9, 9]
    alone = [one.compute_loss(one.model, collator([row])).item() for row in encoded]
    together = one.compute_loss(one.model, collator(encoded)).item()
    assert together == pytest.approx(sum(alone) / 3, rel=1e-4)


def test_the_comparison_reaches_verdict_rows_of_the_head_only(tmp_path):
    one = trainer(tmp_path, verdict_weight=0.0, judgment_weight=0.0, center_rewards_coefficient=0.0)
    one.compute_loss(one.model, batch_of(one)).backward()
    touched = one.model.lm_head.weight.grad.abs().sum(-1) > 0
    assert touched.nonzero().squeeze(-1).tolist() == [18, 19]


def test_the_first_verdict_of_a_judgment_is_not_learned(tmp_path):
    one = trainer(tmp_path, bradley_terry_weight=0.0, verdict_weight=0.0, center_rewards_coefficient=0.0)
    states = []
    handle = one.model.model.norm.register_forward_hook(lambda module, args, output: states.append(output))
    batch = batch_of(one)
    loss = one.compute_loss(one.model, batch)
    states[0].retain_grad()
    loss.backward()
    handle.remove()
    first = batch["input_ids"].shape[1] - batch["continuation_ids"].shape[1] - 1
    gradient = states[0].grad.abs().sum((0, 2))
    # Columns that predict the first verdict and the prefix get none; the text does.
    assert (gradient[: first + 2] == 0).all() and (gradient[first + 2 : first + 4] > 0).all()


def test_pointwise_responses_are_compared_with_each_other(tmp_path):
    one = trainer(
        tmp_path, template=POINTWISE, kind="binary", verdict_weight=0.0, judgment_weight=0.0,
        center_rewards_coefficient=0.0,
    )  # fmt: skip
    one.model.eval()
    encoded = [encode_pair(row, one.judge_prompt) for row in rows(4)]
    loss = one.compute_loss(one.model, JudgeCollator(0, 2)(encoded)).item()
    scores = [
        [fast_score(one.model(torch.tensor([row[f"{side}_prompt_ids"]])).logits[:, -1, [18, 19]]) for row in encoded]
        for side in ("chosen", "rejected")
    ]
    difference = torch.cat(scores[0]) - torch.cat(scores[1])
    assert loss == pytest.approx(-torch.nn.functional.logsigmoid(difference).mean().item(), rel=1e-4)


def test_a_margin_asks_for_more(tmp_path):
    data = Dataset.from_list([{**row, "margin": 3.0} for row in rows()])
    plain, asked = trainer(tmp_path), trainer(tmp_path, data=data)
    plain.model.eval(), asked.model.eval()
    batch = next(iter(asked.get_train_dataloader()))
    assert batch["margin"].tolist() == [3.0] * 4
    without = {name: value for name, value in batch.items() if name != "margin"}
    assert asked.compute_loss(asked.model, batch) > plain.compute_loss(plain.model, without)


@pytest.mark.stack
def test_training_learns_fast_verdicts_and_judgments_and_saves_a_judge(tmp_path):
    one = trainer(
        tmp_path, max_steps=60, per_device_train_batch_size=16, learning_rate=1e-2,
        eval_data=Dataset.from_list(rows(8)),
    )  # fmt: skip
    before = one.evaluate()
    one.train()
    after = one.evaluate()
    assert after["eval_accuracy"] == 1.0 and after["eval_verdict_mass"] > 0.9 > before["eval_verdict_mass"]
    assert after["eval_judgment_loss"] < 0.2 < before["eval_judgment_loss"]
    assert {"eval_consistency", "eval_margin", "eval_bradley_terry_loss"} <= set(after)
    one.save_model()
    judge = FastSlowRewardModel.from_pretrained(tmp_path)
    assert judge.judge_prompt.template == TEMPLATE and judge.config.verdicts == list(VERDICTS)
    judge.config.max_new_tokens = 12
    data = rows(8)
    columns = [[row[name] for row in data] for name in ("prompt", "chosen", "rejected")]
    for mode in ("fast", "slow"):
        judgments = judge.judge(*columns, mode=mode)
        assert all(row.probability > 0.5 for row in judgments)
    assert all(row.parsed for row in judgments) and "w12" in judgments[0].text
    assert one.judge.judge(*columns, mode="fast")[0].score == pytest.approx(
        judge.judge(*columns, mode="fast")[0].score, rel=1e-3
    )


@pytest.mark.stack
def test_lora_is_trained_and_saved_alone(tmp_path):
    lora = LoraConfig(target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    one = trainer(tmp_path, peft_config=lora)
    one.train()
    one.save_model()
    assert {path.name for path in tmp_path.glob("*.safetensors")} == {"adapter_model.safetensors"}
    loaded = FastSlowRewardModel.from_pretrained(tmp_path, base=tiny_causal_lm())
    assert loaded.judge(["w4"], ["w12"], ["w13"], mode="fast")[0].score == pytest.approx(
        one.judge.judge(["w4"], ["w12"], ["w13"], mode="fast")[0].score, rel=1e-3
    )


def test_a_judge_keeps_its_prompt_and_verdicts(tmp_path):
    judge = point_judge()
    one = FastSlowTrainer(judge, config(tmp_path, verdicts=["A", "B"]), train_dataset=Dataset.from_list(rows()))
    assert one.judge_prompt.template == POINTWISE and one.judge_prompt.kind == "binary"
    one.train()
    assert one.judge.config.kind == "binary"


def test_streams_and_pairs_without_judgments_train(tmp_path):
    data = IterableDataset.from_generator(lambda: iter(rows(12, judged=False)))
    one = trainer(tmp_path, data=data)
    one.train()
    logged = [row for row in one.state.log_history if "judgment_loss" in row]
    assert logged and all(row["judgment_loss"] == 0 for row in logged)


def test_training_resumes_from_a_checkpoint(tmp_path):
    settings = dict(max_steps=4, save_strategy="steps", save_steps=2)
    whole = trainer(tmp_path, **settings)
    whole.train()
    resumed = trainer(tmp_path, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
    assert FastSlowRewardModel.from_pretrained(tmp_path / "checkpoint-2").config.verdicts == list(VERDICTS)


def test_wrong_settings_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`kind` must be .*got 'pair'"):
        config(tmp_path, kind="pair")
    with pytest.raises(ValueError, match="`judgment_weight` must be .*got -1"):
        config(tmp_path, judgment_weight=-1)
    with pytest.raises(ValueError, match="`score_temperature` must be .*got 0"):
        config(tmp_path, score_temperature=0)
    with pytest.raises(ValueError, match="`processing_class` must be given: .* has no name"):
        FastSlowTrainer(tiny_causal_lm(), config(tmp_path), train_dataset=Dataset.from_list(rows()), template=TEMPLATE)


def test_the_card_loads_the_judge(tmp_path):
    one = trainer(tmp_path)
    one.create_model_card()
    text = (tmp_path / "README.md").read_text()
    assert f"FastSlowRewardModel.from_pretrained({str(tmp_path)!r})" in text and "2603.20212" in text
    pair_judge().save_pretrained(tmp_path / "judge")
    assert "judge.judge(" in (tmp_path / "judge" / "README.md").read_text()

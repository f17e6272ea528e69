import pytest
import torch
from peft import LoraConfig
from tiny import tiny_causal_lm, tiny_tokenizer
from tiny_judges import VERDICTS, pair_prompt, point_prompt, scale_prompt
from trl import GRPOConfig, GRPOTrainer

from hf_reward_ext.fast_slow import (
    FastSlowGRPOTrainer,
    FastSlowRewardModel,
    JudgePrompt,
    counterfactual_prefixes,
    slow_verdict_reward,
)
from hf_reward_ext.fast_slow.train.verdict_reward import final_verdict

ROWS = [{"prompt": f"w4 w{n}", "chosen": "w12 w13", "rejected": f"w{n + 3}"} for n in range(5, 9)]


def test_each_judge_prompt_occurs_once_with_each_first_verdict():
    prompt = pair_prompt()
    data = counterfactual_prefixes(ROWS[:1], prompt)
    ids = [prompt.tokenizer(text)["input_ids"] for text in data["prompt"]]
    chosen_first = prompt.encode("w4 w5", "w12 w13", "w8")
    rejected_first = prompt.encode("w4 w5", "w8", "w12 w13")
    given = [[verdict, *prompt.prefix_ids] for verdict in prompt.first_ids.tolist()]
    assert sorted(ids) == sorted([shown + one for shown in (chosen_first, rejected_first) for one in given])
    assert data["first_verdict"] == ["w10", "w11", "w11", "w10"]  # right, wrong, right, wrong
    assert data["right_verdicts"] == [["w10"], ["w10"], ["w11"], ["w11"]]


def test_pointwise_and_scale_rows():
    data = counterfactual_prefixes(ROWS[:1], point_prompt())
    assert data["right_verdicts"] == [["w10"], ["w10"], ["w11"], ["w11"]]
    scale = counterfactual_prefixes(ROWS[:1], scale_prompt())
    assert scale["first_verdict"] == ["w12", "w10", "w10", "w12"]
    assert scale["right_verdicts"] == [["w12"], ["w12"], ["w10", "w11"], ["w10", "w11"]]


def test_without_a_judge_prompts_are_plain_text():
    data = counterfactual_prefixes([{"prompt": "2+2?", "chosen": "4", "rejected": "5"}])
    assert data[0]["prompt"].endswith("\n\nVerdict: A\nAnalysis:")
    assert "[Response A]\n4" in data[0]["prompt"] and "[Response A]\n5" in data[2]["prompt"]


def test_a_template_that_writes_bos_is_not_tokenized_with_a_second_one():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ bos_token + ' ' }}" + tokenizer.chat_template
    from tokenizers.processors import TemplateProcessing

    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", tokenizer.bos_token_id)]
    )
    prompt = JudgePrompt(tokenizer, ("w10", "w11"), pair_prompt().template)
    data = counterfactual_prefixes(ROWS[:1], prompt)
    ids = tokenizer(data[0]["prompt"])["input_ids"]
    assert ids == prompt.encode("w4 w5", "w12 w13", "w8") + [int(prompt.first_ids[0]), *prompt.prefix_ids]
    assert ids.count(tokenizer.bos_token_id) == 1


def test_rewards_by_hand():
    texts = ["so A.\nFinal: A", "so\nFinal: B. \nFinal: A", "nothing", "\nFinal:", "\nFinal:A", "\nFinal: Apple"]
    rewards = slow_verdict_reward(texts, [["A"]] * 6, ["\nFinal:"] * 6)
    assert rewards == [1.0, -1.0, -1.0, -1.0, 1.0, -1.0]
    chat = [[{"role": "assistant", "content": "\nFinal: 4"}]]
    assert slow_verdict_reward(chat, [["4", "5"]], "\nFinal:", prompts=["x"]) == [1.0]
    assert final_verdict("1+1=2#No", "#") == "No"


def grpo(folder, trainer_class=GRPOTrainer, prompt=None, **kwargs):
    prompt = prompt or pair_prompt()
    args = GRPOConfig(
        str(folder), max_steps=1, per_device_train_batch_size=8, num_generations=4, max_completion_length=8,
        learning_rate=1e-2, report_to="none", use_cpu=True, bf16=False, gradient_checkpointing=False,
        save_strategy="no", disable_tqdm=True, logging_steps=1, temperature=2.0,
    )  # fmt: skip
    data = counterfactual_prefixes(ROWS, prompt)
    common = dict(train_dataset=data, processing_class=prompt.tokenizer)
    if trainer_class is GRPOTrainer:
        return GRPOTrainer(tiny_causal_lm(), slow_verdict_reward, args, **common)
    return trainer_class(tiny_causal_lm(), args, judge_prompt=prompt, **common, **kwargs)


def inputs_of(prompt):
    """A batch as GRPO makes it, of two judge prompts of different length with made-up rollouts."""
    shown = [prompt.encode("w4 w5", "w12 w13", "w8"), prompt.encode("w4 w6", "w9", "w12 w13 w13")]
    rows = [ids + [int(prompt.first_ids[0]), *prompt.prefix_ids] for ids in shown]
    width = max(map(len, rows))
    padded = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    return {
        "prompt_ids": padded,
        "prompt_mask": (padded != 0).long(),
        "completion_ids": torch.randint(3, 32, (2, 5)),
        "completion_mask": torch.ones(2, 5, dtype=torch.long),
        "advantages": torch.tensor([1.0, -1.0]),
        "num_items_in_batch": torch.tensor(10),
    }


@pytest.mark.parametrize("weight", [0.0, 0.1])
def test_the_policy_gradient_falls_on_the_judgment_only(tmp_path, weight):
    one = grpo(tmp_path, FastSlowGRPOTrainer, fast_loss_weight=weight)
    one.model.train()
    inputs = inputs_of(one.judge_prompt)
    shown = [row[kept].tolist()[:-2] for row, kept in zip(*map(inputs.get, ("prompt_ids", "prompt_mask")), strict=True)
             for kept in [kept.bool()]]  # fmt: skip
    one._favorable = {tuple(ids): place == 0 for place, ids in enumerate(shown)}
    one.current_gradient_accumulation_steps = 1
    states = []
    handle = one.model.model.norm.register_forward_hook(lambda module, args, output: states.append(output))
    loss = one.compute_loss(one.model, inputs)
    handle.remove()
    for state in states:
        state.retain_grad()
    loss.backward()
    width = inputs["prompt_ids"].shape[1]
    gradient = states[0].grad.abs().sum((0, 2))
    # Columns before the judgment predict the prompt, the first verdict and the prefix.
    assert (gradient[: width - 1] == 0).all() and (gradient[width - 1 : -1] > 0).all()
    if weight:
        fast = states[1].grad.abs().sum((0, 2))
        assert states[1].shape[1] == width - 2 and fast[-1] > 0 and (fast[:-1] == 0).all()
    else:
        assert len(states) == 1


def test_the_fast_term_by_hand(tmp_path):
    one = grpo(tmp_path, FastSlowGRPOTrainer, fast_loss_weight=0.5, score_temperature=2.0)
    one.model.eval()
    rows = counterfactual_prefixes(ROWS[:1], one.judge_prompt)
    inputs = [one.judge_prompt.tokenizer(text)["input_ids"] for text in rows["prompt"]]
    width = max(map(len, inputs))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in inputs])
    term = one._fast_loss(one.model, ids, (ids != 0).long())
    expected = []
    for row, right in zip(inputs, rows["right_verdicts"], strict=True):
        logits = one.model(torch.tensor([row[:-2]])).logits[0, -1]
        sign = 1 if right == ["w10"] else -1
        expected.append(-torch.nn.functional.logsigmoid(sign * (logits[18] - logits[19]) / 2.0))
    assert term.item() == pytest.approx(torch.stack(expected).mean().item(), rel=1e-4)


@pytest.mark.stack
@pytest.mark.parametrize("trainer_class", [GRPOTrainer, FastSlowGRPOTrainer])
def test_a_step_of_stage_two_runs(tmp_path, trainer_class):
    one = grpo(tmp_path, trainer_class)
    before = one.model.lm_head.weight.detach().clone()
    one.train()
    logged = [row for row in one.state.log_history if "rewards/slow_verdict_reward/mean" in row]
    assert logged and -1 <= logged[0]["rewards/slow_verdict_reward/mean"] <= 1
    if trainer_class is FastSlowGRPOTrainer:
        assert logged[0]["fast_loss"] > 0
        assert not torch.equal(before, one.model.lm_head.weight)


def test_an_adapter_is_trained_alone_and_the_judge_keeps_it(tmp_path):
    lora = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    one = grpo(tmp_path, FastSlowGRPOTrainer, peft_config=lora)
    frozen = {name: value.clone() for name, value in one.model.named_parameters() if "lora" not in name}
    one.train()
    assert all(torch.equal(value, dict(one.model.named_parameters())[name]) for name, value in frozen.items())
    assert any(value.abs().sum() > 0 for name, value in one.model.named_parameters() if "lora_B" in name)
    judge = FastSlowRewardModel(one.model, one.judge_prompt.tokenizer, VERDICTS, template=one.judge_prompt.template)
    assert 0 < judge.judge(["w4"], ["w12"], ["w13"], mode="fast")[0].probability < 1


def test_a_scale_has_no_fast_term(tmp_path):
    with pytest.raises(ValueError, match="`fast_loss_weight` must be 0 for ratings, got 0.1"):
        grpo(tmp_path, FastSlowGRPOTrainer, scale_prompt())
    assert grpo(tmp_path, FastSlowGRPOTrainer, scale_prompt(), fast_loss_weight=0).fast_loss_weight == 0

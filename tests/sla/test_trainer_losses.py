"""Options of the losses: a margin by pair, mixtures of experts, and templates that bring tokens."""

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from tiny import BOS, EOS, PAD, VOCAB, tiny_causal_lm
from trainer_methods import METHODS, TEXTS
from transformers import AutoConfig, AutoModelForCausalLM

from hf_reward_ext.sla import RewardTransformer


def transformer():
    torch.manual_seed(0)
    return RewardTransformer.from_base(tiny_causal_lm(), channel_size=4)


@pytest.mark.parametrize("loss_type", ["sequence_bt", "token_bt"])
def test_a_margin_column_shifts_the_comparison(loss_type, tmp_path):
    margins = [0.0, 0.5, 1.0, 5.0, 0.0, 2.0, 0.1, 3.0]
    rows = [{**row, "margin": margin} for row, margin in zip(TEXTS, margins, strict=True)]
    settings = dict(loss_type=loss_type, token_bt_scale=2.0, token_bt_margin=0.25)
    trainer = METHODS["sla"].build(tmp_path, transformer(), rows, settings=settings)
    found = trainer.evaluate(Dataset.from_list(rows))["eval_loss"]
    batch = trainer.data_collator(list(trainer.train_dataset))
    with torch.no_grad():
        rewards = trainer.model(batch["input_ids"], batch["attention_mask"]).token_rewards
    expected = []
    for pair, margin in enumerate(margins):
        chosen, rejected = (rewards[row][batch["completion_mask"][row]] for row in (pair, pair + len(margins)))
        if loss_type == "sequence_bt":
            scaled = chosen.mean() - rejected.mean() - margin
        else:
            length = max(len(chosen), len(rejected))
            sides = [torch.cat([side, side[-1:].expand(length - len(side))]) for side in (chosen, rejected)]
            scaled = 2.0 * (sides[0] - sides[1] - 0.25 - margin)
        expected.append(-torch.nn.functional.logsigmoid(scaled).mean().item())
    assert found == pytest.approx(sum(expected) / len(expected), abs=1e-5)


@pytest.mark.parametrize("loss_type", ["sequence_ce", "token_ce"])
def test_losses_that_compare_nothing_refuse_a_margin(loss_type, tmp_path):
    rows = [{**row, "margin": 1.0} for row in TEXTS]
    with pytest.raises(
        ValueError, match=f"train dataset must not have a column `margin` with `loss_type='{loss_type}'`"
    ):
        METHODS["sla"].build(tmp_path, rows=rows, settings=dict(loss_type=loss_type))


EXPERTS = {
    "mixtral": dict(num_local_experts=4, num_experts_per_tok=2, num_key_value_heads=2),
    "qwen3_moe": dict(
        num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, num_key_value_heads=2, head_dim=8
    ),
}


def experts(kind, **settings):
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind, vocab_size=VOCAB, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS, **EXPERTS[kind], **settings,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("adapter", [False, True], ids=["whole", "lora"])
@pytest.mark.parametrize("kind", EXPERTS)
@pytest.mark.parametrize("method", METHODS)
def test_mixtures_of_experts_train(method, kind, adapter, tmp_path):
    if method == "elhsr" and adapter:
        pytest.skip("ELHSR leaves the policy as it is")
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM") if adapter else None
    trainer = METHODS[method].build(tmp_path, experts(kind), peft_config=lora)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}
    trainer.train()
    assert any(not torch.equal(p, before[name]) for name, p in trainer.model.named_parameters() if name in before)


def test_the_router_is_balanced_where_the_config_asks(tmp_path):
    def router_loss(**settings):
        trainer = METHODS["genarm"].build(tmp_path, experts("qwen3_moe", **settings))
        trainer.train()
        row = trainer.state.log_history[0]
        return row.get("router_loss"), row["loss"], row.get("preference_loss")

    assert router_loss(output_router_logits=False)[0] is None
    balance, loss, preference = router_loss(output_router_logits=True, router_aux_loss_coef=0.5)
    assert loss == pytest.approx(preference + 0.5 * balance, abs=1e-3)

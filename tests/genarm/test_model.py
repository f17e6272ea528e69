import pytest
import torch
from architectures.build import tiny_model
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from tiny import PAD, VOCAB, left_padded_batch, tiny_causal_lm, tiny_tokenizer
from transformers import AutoModelForSequenceClassification

from hf_reward_ext.genarm import GenARMRewardModel


@torch.no_grad()
def by_hand(model, ids, first):
    """Log-probability of every token from `first` on."""
    logps = model(ids[None]).logits[0].log_softmax(-1)
    return [float(logps[t - 1, ids[t]]) for t in range(first, len(ids))]


def test_rewards_are_the_log_probabilities_of_the_completion():
    model = tiny_causal_lm()
    ids = torch.tensor([[3, 4, 5, 6, 7]])
    mask = torch.tensor([[False, False, True, True, True]])
    out = GenARMRewardModel.from_causal_lm(model, beta=0.5)(ids, completion_mask=mask)
    expected = [0.5 * value for value in by_hand(model, ids[0], 2)]
    torch.testing.assert_close(out.token_rewards[0], torch.tensor([0.0, 0.0, *expected]))
    assert out.logits.shape == (1, 1)
    torch.testing.assert_close(out.logits[0, 0], torch.tensor(sum(expected)))


def test_padding_on_either_side_and_company_do_not_matter():
    model = GenARMRewardModel.from_causal_lm(tiny_causal_lm())
    ids, mask = left_padded_batch()
    together = model(ids, mask)
    right = torch.full_like(ids, PAD)
    for row in range(len(ids)):
        own = ids[row][mask[row].bool()]
        right[row, : len(own)] = own
        alone = model(own[None])
        torch.testing.assert_close(together.logits[row], alone.logits[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            together.token_rewards[row, -len(own) :], alone.token_rewards[0], atol=1e-5, rtol=1e-5
        )
    torch.testing.assert_close(model(right).logits, together.logits, atol=1e-5, rtol=1e-5)


def test_the_reward_of_a_token_comes_from_the_previous_position_and_is_at_the_token():
    lm = tiny_causal_lm(hidden_size=VOCAB, num_hidden_layers=1)
    with torch.no_grad():  # its state is the token itself: after token v it is sure of v + 1
        for projection in (lm.model.layers[0].self_attn.o_proj, lm.model.layers[0].mlp.down_proj):
            projection.weight.zero_()
        lm.model.embed_tokens.weight.copy_(torch.eye(VOCAB))
        lm.lm_head.weight.copy_(100 * torch.eye(VOCAB).roll(1, dims=0))
    rewards = GenARMRewardModel.from_causal_lm(lm)(torch.tensor([[5, 6, 7, 20, 21]])).token_rewards[0]
    expected = torch.tensor([0.0, 0.0, 0.0, -100 * VOCAB**0.5, 0.0])  # the norm scales a unit vector
    torch.testing.assert_close(rewards, expected, atol=1e-2, rtol=1e-4)


def test_save_load_and_the_sequence_classification_contract(tmp_path):
    model = GenARMRewardModel.from_causal_lm(tiny_causal_lm(), beta=0.1)
    ids = torch.randint(3, VOCAB, (2, 6))
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "config.json", "model.safetensors"}
    for loaded in (
        GenARMRewardModel.from_pretrained(tmp_path),
        AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=1),
    ):
        assert loaded.config.problem_type == "regression" and loaded.config.num_labels == 1
        torch.testing.assert_close(loaded(ids).logits, model(ids).logits)


def test_no_logits_of_all_positions_are_made():
    lm = tiny_causal_lm()
    model = GenARMRewardModel.from_causal_lm(lm)
    widths = []
    lm.lm_head.register_forward_hook(lambda _, args, output: widths.append(output.shape[1]))
    for _ in range(2):
        assert model(torch.randint(3, VOCAB, (2, 40))).logits.shape == (2, 1)
    assert widths == [16]  # once, to compare the fused head with the model's own


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_:FutureWarning")
def test_grpo_takes_the_folder_as_a_reward(tmp_path):
    tokenizer = tiny_tokenizer()
    GenARMRewardModel.from_causal_lm(tiny_causal_lm()).save_pretrained(tmp_path / "rm")
    tokenizer.save_pretrained(tmp_path / "rm")
    from trl import GRPOConfig, GRPOTrainer

    trainer = GRPOTrainer(
        tiny_causal_lm(seed=1),
        reward_funcs=str(tmp_path / "rm"),
        args=GRPOConfig(
            str(tmp_path / "policy"), num_generations=2, per_device_train_batch_size=2, max_completion_length=4,
            max_steps=1, report_to="none", use_cpu=True, disable_tqdm=True, save_strategy="no",
            logging_steps=1,
        ),
        train_dataset=Dataset.from_list([{"prompt": "w1 w2"}] * 2),
        processing_class=tokenizer,
    )  # fmt: skip
    trainer.train()
    assert trainer.state.log_history[0]["reward"] < 0


def test_rows_without_a_predicted_token_and_adapters_are_refused():
    model = tiny_causal_lm()
    with pytest.raises(ValueError, match="Row 1 has no token"):
        GenARMRewardModel.from_causal_lm(model)(torch.tensor([[PAD, 4, 5], [PAD, PAD, 5]]))
    with pytest.raises(TypeError, match="merge_and_unload"):
        GenARMRewardModel.from_causal_lm(get_peft_model(model, LoraConfig(target_modules="all-linear")))


def test_the_completion_begins_where_the_config_says():
    model = GenARMRewardModel.from_causal_lm(tiny_causal_lm(), completion_start_ids=[9])
    ids = torch.tensor([[3, 9, 4, 5], [3, 4, 9, 6]])
    expected = [sum(by_hand(model.causal_lm, ids[0], 2)), sum(by_hand(model.causal_lm, ids[1], 3))]
    torch.testing.assert_close(model(ids).logits[:, 0], torch.tensor(expected))


@pytest.mark.parametrize("model_type", ["qwen2_vl", "llava", "gemma3", "codegen", "llama"])
def test_the_padding_id_is_that_of_the_text_part(model_type):
    causal_lm = tiny_model(model_type, dtype=torch.float32)
    rm = GenARMRewardModel.from_causal_lm(causal_lm)
    assert rm.config.pad_token_id == getattr(causal_lm.config.get_text_config(decoder=True), "pad_token_id", None)
    ids = torch.tensor([[3, 4, 5]])
    logps = causal_lm(ids).logits[0, :-1].log_softmax(-1)
    torch.testing.assert_close(rm(ids).logits[0, 0], logps.gather(-1, ids[0, 1:, None]).sum())

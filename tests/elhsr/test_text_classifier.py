import pytest
import torch
from datasets import Dataset
from tiny import PAD, VOCAB, left_padded_batch, tiny_causal_lm
from transformers import AutoModelForSequenceClassification

from hf_reward_ext import ELHSRConfig, ELHSRForSequenceClassification, ELHSRModel, ELHSRTrainer
from hf_reward_ext.demo.policy import load_policy


def scorer_of(policy, **config):
    head = ELHSRModel.from_policy(policy)
    for name, value in config.items():
        setattr(head.config, name, value)
    return ELHSRForSequenceClassification(policy, head)


@torch.no_grad()
def test_the_reward_is_the_heads_on_the_states_of_the_completion():
    policy = tiny_causal_lm()
    scorer = scorer_of(policy, completion_start_ids=[9])
    ids = torch.tensor([[3, 9, 4, 9, 5, 6], [3, 4, 5, 6, 9, 7]])
    states = policy(ids, output_hidden_states=True).hidden_states
    mask = torch.tensor([[False] * 4 + [True] * 2, [False] * 5 + [True]])
    expected = scorer.head(states, mask)
    torch.testing.assert_close(scorer(ids).logits[:, 0], expected)
    torch.testing.assert_close(scorer(ids, completion_mask=mask).logits[:, 0], expected)
    everything = scorer_of(policy)
    everything.head.load_state_dict(scorer.head.state_dict())
    torch.testing.assert_close(everything(ids).logits[:, 0], scorer.head(states, torch.ones_like(mask)))


@torch.no_grad()
def test_padding_without_a_mask_is_that_of_the_policy():
    scorer = scorer_of(tiny_causal_lm())
    ids, mask = left_padded_batch()
    assert scorer.config.pad_token_id is None and scorer.policy.config.pad_token_id == PAD
    torch.testing.assert_close(scorer(ids).logits, scorer(ids, attention_mask=mask).logits)


def test_the_trainer_reads_off_its_prompts_where_completions_begin(tmp_path):
    policy, tokenizer = load_policy()
    rows = [{"prompt": f"{n} 1 3 3=12|", "completions": ["6-1=5", "1"], "labels": [1, 0]} for n in range(8)]
    args = ELHSRConfig(str(tmp_path), num_train_epochs=1, report_to="none", use_cpu=True, disable_tqdm=True)
    trainer = ELHSRTrainer(policy, args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    trainer.train()
    trainer.save_model()
    # The shipped policy is found by its name, without a network.
    scorer = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=torch.float32)
    assert tokenizer.decode(scorer.config.completion_start_ids).endswith("=12|")
    inputs = tokenizer(["6 1 3 3=12|6-1=5"], return_tensors="pt", return_token_type_ids=False)
    torch.testing.assert_close(
        scorer(**inputs).logits, ELHSRForSequenceClassification(policy, trainer.model)(**inputs).logits
    )
    assert not any(parameter.requires_grad for parameter in scorer.policy.parameters())


def test_a_policy_without_a_name_more_labels_and_another_policy_are_refused(tmp_path):
    policy = tiny_causal_lm()
    scorer_of(policy).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="trained on one without a name"):
        ELHSRForSequenceClassification.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="`num_labels` must be 1"):
        ELHSRForSequenceClassification.from_pretrained(tmp_path, num_labels=2, base=policy)
    with pytest.raises(ValueError, match="hidden_size"):
        ELHSRForSequenceClassification.from_pretrained(tmp_path, base=tiny_causal_lm(hidden_size=32, vocab_size=VOCAB))

import pytest
import torch
from datasets import Dataset
from tiny import tiny_causal_lm, tiny_tokenizer
from trl import GRPOConfig, GRPOTrainer

from hf_reward_ext.rewards import StepGRPOTrainer, StepReward
from hf_reward_ext.rewards.step_advantages import step_advantages


def test_advantages_by_hand():
    # R = (1, 3, 2, 6): mean 3, standard deviation sqrt(14 / 3).
    found = step_advantages([[1.0, 3.0], [2.0, 6.0], None, [5.0]], [[1, 2], [0, 3], [], [1]], 2, 4)
    unit = (14 / 3) ** 0.5 + 1e-4
    first = [-2 / unit, -2 / unit, 0, 0]  # both steps, both steps, the second alone (3 is the mean), padding
    second = [(-1 + 3) / unit, 3 / unit, 3 / unit, 3 / unit]
    torch.testing.assert_close(found[:2], torch.tensor([first, second]))
    assert not found[2:].any()  # a group with one step has no deviation


def words(prompts, completions, **columns):
    return [float(len(text.split())) for text in completions]


def chats(prompts, completions, **columns):
    return [float(len(one[-1]["content"])) for one in completions]


class Recorded(StepGRPOTrainer):
    def _generate_and_score_completions(self, inputs):
        output = super()._generate_and_score_completions(inputs)
        self.seen = output
        return output


def trained(folder, kind, reward=words, prompt="w4 w5", step_reward=None, loss_type="dapo", **settings):
    args = GRPOConfig(
        str(folder), max_steps=1, per_device_train_batch_size=4, num_generations=4, max_completion_length=6, beta=0.0,
        report_to="none", use_cpu=True, bf16=False, gradient_checkpointing=False, save_strategy="no", disable_tqdm=True,
        logging_steps=1, seed=1, loss_type=loss_type,
    )  # fmt: skip
    extra = {} if kind is GRPOTrainer else {"step_reward": step_reward or StepReward(reward, " "), **settings}
    trainer = kind(
        tiny_causal_lm(seed=1, initializer_range=0.1), reward, args, Dataset.from_list([{"prompt": prompt}] * 2),
        processing_class=tiny_tokenizer(), **extra,
    )  # fmt: skip
    trainer.train()
    return trainer


@pytest.mark.stack
def test_advantages_of_tokens_reach_the_loss(tmp_path):
    trainer = trained(tmp_path, Recorded, step_weight=0.5)
    seen = trainer.seen
    assert seen["advantages"].shape == seen["completion_ids"].shape
    ids = [row[kept].tolist() for row, kept in zip(seen["completion_ids"], seen["completion_mask"].bool(), strict=True)]
    texts = trainer.processing_class.batch_decode(ids, skip_special_tokens=True)
    # Rewards of prefixes count words: 1, 2, 3, ...; words of other tokens than EOS end where the next begins.
    values = torch.tensor([float(k) for text in texts for k in range(1, len(text.split()) + 1)])
    whole = torch.tensor([float(len(text.split())) for text in texts])
    outcome = (whole - whole.mean()) / (whole.std() + 1e-4)
    for row, text in enumerate(texts):
        normalized = [(k - values.mean()) / (values.std() + 1e-4) for k in range(1, len(text.split()) + 1)]
        assert seen["advantages"][row, 0].item() == pytest.approx(float(outcome[row] + 0.5 * sum(normalized)), abs=1e-3)
    assert trainer.state.log_history[0]["step_reward"] == pytest.approx(values.mean().item())


@pytest.mark.stack
def test_without_weight_it_is_trls_trainer_and_with_weight_another(tmp_path):
    runs = [(GRPOTrainer, {}), (StepGRPOTrainer, {"step_weight": 0.0}), (StepGRPOTrainer, {"step_weight": 1.0})]
    weights = []
    for kind, options in runs:
        parameters = trained(tmp_path, kind, **options).model.parameters()
        weights.append(torch.cat([parameter.detach().flatten() for parameter in parameters]))
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


@pytest.mark.stack
def test_chats_are_read_as_the_assistants_message(tmp_path):
    trainer = trained(tmp_path, Recorded, chats, prompt=[{"role": "user", "content": "w4"}])
    assert trainer.seen["advantages"].dim() == 2


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(step_reward=words), TypeError, "must be a `StepReward`, got a `function`"),
        (dict(step_weight=-1), ValueError, "`step_weight` must be"),
        (dict(tools=[words]), ValueError, "`tools` must not be given"),
        (dict(loss_type="luspo"), ValueError, "`loss_type` must be one of"),
    ],
)
def test_what_has_no_tokens_is_refused(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        trained(tmp_path, StepGRPOTrainer, **options)

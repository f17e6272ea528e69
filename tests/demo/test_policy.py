import json
from importlib.resources import files

import torch

from hf_reward_ext.demo import arithmetic, train, walk
from hf_reward_ext.demo.elhsr import prompts_of
from hf_reward_ext.demo.policy import load_policy
from hf_reward_ext.demo.sampling import sample
from hf_reward_ext.demo.tokenizer import build_tokenizer


def test_the_shipped_policy_is_small_and_brings_its_log():
    folder = files("hf_reward_ext.demo") / "checkpoint"
    names = {entry.name: len(entry.read_bytes()) for entry in folder.iterdir()}
    assert sum(names.values()) <= 3 * 2**20
    log = json.loads((folder / "train_log.json").read_text())
    policy, _ = load_policy()
    assert log["parameters"] == policy.num_parameters()
    assert log["train_seconds"] < 600 and log["loss"][-1]["loss"] < log["loss"][0]["loss"] / 5


def test_the_shipped_tokenizer_is_the_built_one():
    _, tokenizer = load_policy()
    assert tokenizer.get_vocab() == build_tokenizer().get_vocab()
    assert tokenizer.padding_side == "left"
    assert tokenizer.apply_chat_template([{"role": "user", "content": "6 1 3 3=12|"}], tokenize=False) == "6 1 3 3=12|"


def test_the_shipped_policy_solves_held_out_problems_as_its_log_says():
    policy, tokenizer = load_policy()
    greedy = sample(policy, tokenizer, prompts_of(arithmetic, "dev", 100), arithmetic, temperature=0)
    log = json.loads((files("hf_reward_ext.demo") / "checkpoint" / "train_log.json").read_text())
    assert abs(greedy.correct.mean() - log["dev"]["arithmetic"]["greedy"]) < 0.15  # three standard errors
    walked = sample(policy, tokenizer, prompts_of(walk, "dev", 50), walk, temperature=0)
    assert all(walk.extract_answer(texts[0]) is not None for texts in walked.completions)


def test_rollouts_agree_with_a_second_look_at_their_texts():
    policy, tokenizer = load_policy()
    torch.manual_seed(0)
    rollouts = sample(policy, tokenizer, prompts_of(arithmetic, "dev", 6), arithmetic, num_candidates=4)
    row = rollouts.rows[9]
    assert rollouts.rows[9]["label"] == float(arithmetic.is_correct(rollouts.prompts[2], rollouts.completions[2][1]))
    ids = torch.tensor([row["prompt_ids"] + row["completion_ids"]])
    with torch.no_grad():
        logps = policy(ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
    count = len(row["completion_ids"])
    assert rollouts.num_tokens[2, 1] == count
    torch.testing.assert_close(logps[-count:].mean().item(), float(rollouts.mean_logps[2, 1]), atol=1e-4, rtol=1e-4)


def test_the_training_script_writes_a_policy_that_loads(tmp_path, capsys):
    size = ["--hidden-size", "16", "--num-layers", "1", "--num-heads", "2", "--batch-size", "4", "--problems", "4"]
    train.main(["--output", str(tmp_path), "--steps", "3", *size])
    policy, _ = load_policy(tmp_path)
    assert policy.config.hidden_size == 16
    log = json.loads((tmp_path / "train_log.json").read_text())
    assert log["settings"]["steps"] == 3 and len(log["loss"]) == 3
    assert set(log["dev"]) == {"arithmetic", "walk"}


def test_seeded_candidates_do_not_depend_on_their_batch():
    policy, tokenizer = load_policy()
    prompts = prompts_of(walk, "dev", 5)
    found = [
        sample(policy, tokenizer, prompts, walk, num_candidates=2, seed=3, prompts_per_batch=size).completions
        for size in (5, 2)
    ]
    assert found[0] == found[1]
    assert found[0] != sample(policy, tokenizer, prompts, walk, num_candidates=2, seed=4).completions

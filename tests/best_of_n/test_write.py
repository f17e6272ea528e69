"""The real pipeline writes rows that TRL's trainers read."""

import functools

import pytest
from datasets import Dataset
from tiny import tiny_causal_lm, tiny_tokenizer
from transformers import pipeline
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from hf_reward_ext import write_best_of_n
from hf_reward_ext.best_of_n import preference_rows, sft_rows

PROMPTS = [f"w{number} w{number + 1}" for number in range(3, 9)]
CHATS = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
COMMON = dict(max_steps=1, report_to="none", use_cpu=True, bf16=False, save_strategy="no", disable_tqdm=True)


def variety(prompts, completions):
    texts = [completion if isinstance(completion, str) else completion[0]["content"] for completion in completions]
    return [float(len(set(text.split()))) for text in texts]


@pytest.fixture(scope="module")
def pipe():
    return pipeline("reward-bon", model=tiny_causal_lm(), tokenizer=tiny_tokenizer(), reward_model=variety)


@pytest.mark.parametrize("prompts", [PROMPTS, CHATS], ids=["text", "chat"])
def test_rows_of_the_pipeline_are_those_of_its_results(pipe, prompts, tmp_path):
    settings = dict(num_candidates=4, max_new_tokens=6, do_sample=True)
    path = write_best_of_n(pipe, prompts, tmp_path / "rows.arrow", prompts_per_part=4, seed=5, **settings)
    first = pipe(prompts[:4], return_all=True, seed=5, show_progress=False, **settings)
    second = pipe(prompts[4:], return_all=True, seed=6, show_progress=False, **settings)
    expected = [
        row
        for prompt, records in zip(prompts, [*first, *second], strict=True)
        for row in preference_rows(prompt, records)
    ]
    assert Dataset.from_file(str(path)).to_list() == expected
    assert all(row["margin"] > 0 for row in expected) and len(expected) > 3


@pytest.mark.parametrize("prompts", [PROMPTS, CHATS], ids=["text", "chat"])
def test_trl_trains_on_both_kinds_of_rows(pipe, prompts, tmp_path):
    pairs = write_best_of_n(pipe, prompts, tmp_path / "pairs.arrow", num_candidates=4, max_new_tokens=6, do_sample=True)
    best = write_best_of_n(
        pipe, prompts, tmp_path / "best.arrow", functools.partial(sft_rows, keep=2), num_candidates=4,
        max_new_tokens=6, do_sample=True,
    )  # fmt: skip
    tokenizer = tiny_tokenizer()
    dpo = DPOTrainer(
        tiny_causal_lm(),
        tiny_causal_lm(),
        args=DPOConfig(str(tmp_path / "dpo"), **COMMON),
        train_dataset=Dataset.from_file(str(pairs)),
        processing_class=tokenizer,
    )
    assert dpo.train().training_loss > 0
    sft = SFTTrainer(
        tiny_causal_lm(), args=SFTConfig(str(tmp_path / "sft"), **COMMON), train_dataset=Dataset.from_file(str(best)),
        processing_class=tokenizer,
    )  # fmt: skip
    assert sft.train().training_loss > 0

"""
Human preferences (HH-RLHF, helpful): held-out pair accuracy of the four reward models, and win rates of guided texts.

The pairs are the published test split of the helpful set, divided here by dialogue: training, validation and test do
not share a first turn. A second reward model, trained on other pairs, compares the guided texts.
"""

from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel

from examples.demo_llm.guidance import train_guide
from examples.demo_llm.judging import VERDICTS
from examples.demo_llm.look_ahead import train_channel
from examples.demo_llm.model import load_model
from examples.demo_llm.settings import keep
from examples.real_tasks.best_of_n import layers_of
from examples.real_tasks.judging import fast_scorer
from examples.real_tasks.sizes import Size, result
from examples.real_tasks.text_model import train_text_model
from examples.tasks.preference import read_pairs
from hf_reward_ext import (
    ELHSRConfig,
    ELHSRModel,
    ELHSRTrainer,
    FastSlowConfig,
    FastSlowRewardModel,
    FastSlowTrainer,
    GenARMRewardModel,
    GuidedCausalLM,
)
from hf_reward_ext.base.lm.prefill import SharedPrefill
from hf_reward_ext.base.scoring.scorer import as_single_scorer
from hf_reward_ext.confidence import LogitsRewardModel
from hf_reward_ext.elhsr import ELHSRForSequenceClassification
from hf_reward_ext.evaluation import evaluate_preferences
from hf_reward_ext.fast_slow import JudgeTemplate

MAX_TOKENS = 192
NUM_PROMPTS = 48
MAX_NEW_TOKENS = 64
BETA = 0.1  # of the guides, see `guidance.train_guide`
TEMPLATE = JudgeTemplate(
    user="Is the last response helpful? Answer Yes or No.\n\n{prompt}\n\nResponse: {response_a}",
    analysis_prefix=".",
    final_marker=" Final:",
)


def read(tokenizer, data: Path, size: Size) -> dict[str, list[dict]]:
    """Return pairs of at most `MAX_TOKENS` tokens a side, divided by their first turn."""
    pairs = [
        pair
        for pair in read_pairs(data / "hh-rlhf/helpful_base_test.jsonl.gz")
        if max(
            len(tokenizer.apply_chat_template(pair["prompt"] + pair[side])["input_ids"])
            for side in ("chosen", "rejected")
        )
        <= MAX_TOKENS
    ]
    firsts = sorted({pair["prompt"][0]["content"] for pair in pairs})
    place = dict(zip(firsts, np.random.default_rng(0).permutation(len(firsts)) / len(firsts), strict=True))
    limits = {"train": (0, 0.4), "validation": (0.4, 0.5), "test": (0.5, 0.75), "other": (0.75, 1)}
    counts = {"train": size.num_pairs, "validation": 100, "test": size.num_test_pairs, "other": size.num_pairs}
    return {
        split: [pair for pair in pairs if low <= place[pair["prompt"][0]["content"]] < high][: counts[split]]
        for split, (low, high) in limits.items()
    }


def compare(policy, tokenizer, name: str, dtype: torch.dtype, splits: dict, folder: Path, size: Size) -> dict:
    """Measure the held-out pair accuracy of every reward model, with three seeds of its training."""
    folder.mkdir(parents=True, exist_ok=True)
    test = splits["test"]

    def right(label: str, load) -> list[float]:
        def measure() -> dict:
            evaluation = evaluate_preferences(load(), test, tokenizer=tokenizer, batch_size=16)
            return {"right": [float(row["correct"]) for row in evaluation.rows]}

        return keep(folder / f"{label}.json", measure)["right"]

    def length(prompts, completions) -> list[float]:
        return [float(len(completion[-1]["content"])) for completion in completions]

    rows = [
        result("length", "longer response", right("length", lambda: length)),
        result(
            "mean log-probability",
            "of the chat model",
            right("log_probability", lambda: LogitsRewardModel(policy, "mean_log_probability")),
        ),
        result(
            "sum of log-probabilities",
            "of the chat model",
            right("log_probability_sum", lambda: GenARMRewardModel.from_causal_lm(policy, beta=BETA)),
        ),
        result("group confidence", "of the chat model", right("confidence", lambda: LogitsRewardModel(policy))),
    ]
    makers = {
        ("ELHSR", "linear head"): _head,
        ("SLA", "reward channel"): _channel,
        ("text reward model", "classifier with LoRA"): _text_model,
        ("GenARM", "guide with LoRA"): _guide,
        ("GenARM over the policy", "the same, minus the chat model's sum"): _guide_over_policy,
        ("Fast-Slow", "first token, LoRA"): _judge,
    }
    for (method, what), make in makers.items():
        by_seed = []
        for seed in size.seeds:
            place = folder / f"{method}-{seed}"
            by_seed.append(
                right(
                    place.name,
                    lambda make=make, place=place, seed=seed: make(policy, tokenizer, name, dtype, splits, place, seed),
                )
            )
        rows.append(result(method, f"{what}, {len(splits['train'])} pairs", by_seed))
    return {"rows": rows, "sizes": {split: len(pairs) for split, pairs in splits.items()}}


def _text_model(policy, tokenizer, name, dtype, splits, folder: Path, seed: int, split: str = "train"):
    return train_text_model(name, dtype, Dataset.from_list(splits[split]), tokenizer, folder, seed)


def _head(policy, tokenizer, name, dtype, splits, folder: Path, seed: int):
    if not (folder / "model.safetensors").exists():
        args = ELHSRConfig(
            str(folder), layers=layers_of(policy), standardize=True,
            learning_rate=1e-3, weight_decay=1.0, per_device_train_batch_size=16, loss_type="pairwise",
            feature_cache="disk", feature_cache_dir=str(folder.parent / "features"), report_to="none",
            logging_strategy="no", use_cpu=not torch.cuda.is_available(), seed=seed,
        )  # fmt: skip
        train, held_out = (Dataset.from_list(splits[split]) for split in ("train", "validation"))
        trainer = ELHSRTrainer(policy, args, train_dataset=train, eval_dataset=held_out, processing_class=tokenizer)
        trainer.train()
        trainer.save_model()
    return ELHSRForSequenceClassification(policy, ELHSRModel.from_pretrained(folder))


def _channel(policy, tokenizer, name, dtype, splits, folder: Path, seed: int):
    return train_channel(policy, tokenizer, Dataset.from_list(splits["train"]), folder, seed, num_epochs=4)


def _guide(policy, tokenizer, name, dtype, splits, folder: Path, seed: int):
    train_guide(name, dtype, Dataset.from_list(splits["train"]), folder, seed, num_epochs=1)
    guide, _ = load_model(name, dtype)
    guide = PeftModel.from_pretrained(guide, str(folder)).merge_and_unload().eval()
    return GenARMRewardModel.from_causal_lm(guide, beta=BETA)


def _guide_over_policy(policy, tokenizer, name, dtype, splits, folder: Path, seed: int):
    """Return the guide's sum of log-probabilities minus the policy's, which takes the effect of length out."""
    guide = _guide(policy, tokenizer, name, dtype, splits, folder.with_name(f"GenARM-{seed}"), seed)
    models = (guide, GenARMRewardModel.from_causal_lm(policy, beta=BETA))
    scorers = [as_single_scorer(model, tokenizer, batch_size=16) for model in models]

    def difference(prompts, completions) -> list[float]:
        sums = (scorer(prompts, completions) for scorer in scorers)
        return [guided - plain for guided, plain in zip(*sums, strict=True)]

    return difference


def _judge(policy, tokenizer, name, dtype, splits, folder: Path, seed: int):
    if not (folder / "done").exists():
        model, _ = load_model(name, dtype)
        args = FastSlowConfig(
            str(folder), verdicts=list(VERDICTS), learning_rate=5e-4, num_train_epochs=1,
            per_device_train_batch_size=8, activation_checkpointing=False, report_to="none", logging_steps=20,
            save_strategy="no", use_cpu=not torch.cuda.is_available(), seed=seed,
        )  # fmt: skip
        trainer = FastSlowTrainer(
            model, args, train_dataset=Dataset.from_list(splits["train"]), processing_class=tokenizer,
            template=TEMPLATE,
            peft_config=LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=16, lora_alpha=32),
        )  # fmt: skip
        trainer.train()
        trainer.judge.save_pretrained(folder)
        (folder / "done").touch()
    return fast_scorer(FastSlowRewardModel.from_pretrained(str(folder), batch_size=16))


def win_rates(policy, tokenizer, name: str, dtype: torch.dtype, splits: dict, folder: Path, size: Size) -> dict:
    """
    Compare guided texts with unguided ones by a text reward model that was trained on other pairs.

    Rewards are also compared after the linear effect of length on them is removed.
    """
    judge = _text_model(policy, tokenizer, name, dtype, splits, folder / "other", 0, split="other")
    scorer = as_single_scorer(judge, tokenizer, batch_size=16)
    prompts = [pair["prompt"] for pair in splits["test"]][:NUM_PROMPTS]

    def drawn(label: str, model, temperature: float = 1.0) -> dict:
        return keep(folder / f"texts-{label}.json", lambda: _write(model(), tokenizer, scorer, prompts, temperature))

    def guided(seed: int, alpha: float):
        base, _ = load_model(name, dtype)
        model = PeftModel.from_pretrained(base, str(folder / f"GenARM-{seed}")).eval()
        return GuidedCausalLM.from_peft(model, alpha=alpha)

    base = drawn("base", lambda: policy)
    ways = {("sharpened", "no guide, temperature 0.5"): [drawn("sharpened", lambda: policy, 0.5)]}
    for alpha in (1.0, 2.0):
        ways["GenARM", f"weight {alpha:g}"] = [
            drawn(f"guided-{alpha}-{seed}", lambda seed=seed, alpha=alpha: guided(seed, alpha)) for seed in size.seeds
        ]
    everything = [base, *(one for seeds in ways.values() for one in seeds)]
    lengths, rewards = (np.concatenate([one[key] for one in everything]) for key in ("lengths", "rewards"))
    slope = np.polyfit(lengths, rewards, 1)[0]
    rows = []
    for (method, what), seeds in ways.items():
        wins, controlled = [], []
        for one in seeds:
            margin = np.array(one["rewards"]) - np.array(base["rewards"])
            longer = np.array(one["lengths"]) - np.array(base["lengths"])
            wins.append((margin > 0) + 0.5 * (margin == 0))
            controlled.append((margin - slope * longer > 0) * 1.0)
        length = float(np.mean([one["lengths"] for one in seeds]))
        estimate = result(method, what, controlled)
        rows.append(
            result(method, what, wins, length, controlled=estimate["accuracy"], controlled_by_seed=estimate["by_seed"])
        )
    return {"rows": rows, "unguided_tokens": float(np.mean(base["lengths"])), "reward_per_token": float(slope)}


@torch.no_grad()
def _write(model, tokenizer, scorer, prompts: list, temperature: float) -> dict:
    torch.manual_seed(0)
    texts, lengths = [], []
    for start in range(0, len(prompts), 12):
        rendered = [
            tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
            for prompt in prompts[start : start + 12]
        ]
        inputs = tokenizer(rendered, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
        out = SharedPrefill(model, inputs["input_ids"], inputs["attention_mask"]).generate(
            1, max_new_tokens=MAX_NEW_TOKENS, pad_token_id=tokenizer.pad_token_id, do_sample=True,
            temperature=temperature, top_k=0,
        )  # fmt: skip
        for ids in out[:, inputs["input_ids"].shape[1] :]:
            texts.append(tokenizer.decode(ids, skip_special_tokens=True).strip())
            lengths.append(int((ids != tokenizer.pad_token_id).sum()))
    rewards = scorer(prompts, [[{"role": "assistant", "content": text}] for text in texts])
    return {"texts": texts, "lengths": lengths, "rewards": rewards}

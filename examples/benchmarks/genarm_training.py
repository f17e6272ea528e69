"""
Cost of a training step of GenARM: `python examples/benchmarks/genarm_training.py`.

Memory: a step at vocabulary 128,000 and 1,024 tokens, each method in a separate process, against the same loss on full
logits. Speed: against TRL's `DPOTrainer` with the same pairs and model, interleaved; DPO also runs a reference model.
Random weights in float32: the cost does not depend on their values.
"""

import argparse
import copy
import random
import subprocess
import sys
import tempfile
import time

import torch
from datasets import Dataset, disable_progress_bars
from interleaved import print_table
from resident import peak_resident, resident
from transformers import LlamaConfig, LlamaForCausalLM, logging, set_seed
from trl import DPOConfig, DPOTrainer

from hf_reward_ext.base.training.losses import bradley_terry_loss
from hf_reward_ext.base.training.token_rewards import masked_sum
from hf_reward_ext.demo.tokenizer import build_tokenizer
from hf_reward_ext.genarm import GenARMConfig, GenARMTrainer


def build_model(vocab_size: int, hidden_size: int, num_layers: int) -> LlamaForCausalLM:
    set_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocab_size, hidden_size=hidden_size, intermediate_size=3 * hidden_size,
            num_hidden_layers=num_layers, num_attention_heads=hidden_size // 64, max_position_embeddings=2048,
            bos_token_id=1, eos_token_id=2, pad_token_id=0,
        )
    )  # fmt: skip


def pairs(count: int, prompt_tokens: int, completion_tokens: int) -> Dataset:
    """Return pairs of random numbers, each of which is a token followed by a space token."""
    numbers = random.Random(0)
    sizes = {"prompt": prompt_tokens // 2, "chosen": completion_tokens // 2, "rejected": completion_tokens // 2}
    return Dataset.from_list(
        [
            {name: " ".join(str(numbers.randrange(10, 99)) for _ in range(size)) + " " for name, size in sizes.items()}
            for _ in range(count)
        ]
    )


def settings(output: str, **kwargs) -> dict:
    return dict(
        output_dir=output, per_device_train_batch_size=4, report_to="none", use_cpu=True, bf16=False, max_length=None,
        disable_tqdm=True, save_strategy="no", logging_strategy="no", **kwargs,
    )  # fmt: skip


def full_logits_loss(model, batch) -> torch.Tensor:
    logits = model(batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits[:, :-1]
    logps = logits.float().log_softmax(-1).gather(-1, batch["input_ids"][:, 1:, None]).squeeze(-1)
    chosen, rejected = masked_sum(logps, batch["completion_mask"][:, 1:]).chunk(2)
    return bradley_terry_loss(chosen, rejected, beta=0.05).mean()


def peak(way: str) -> None:
    """Measure the MiB that one forward and backward add to model and gradients."""
    model = build_model(vocab_size=128000, hidden_size=64, num_layers=2)
    ids = torch.randint(3, 100, (2, 512))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "completion_mask": torch.ones_like(ids).bool()}
    batch["completion_mask"][:, :128] = False
    with tempfile.TemporaryDirectory() as output:
        trainer = GenARMTrainer(
            model, GenARMConfig(**settings(output)), train_dataset=pairs(4, 4, 4), processing_class=build_tokenizer()
        )
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        before = resident()
        loss = trainer.compute_loss(model, batch) if way == "ours" else full_logits_loss(model, batch)
        loss.backward()
    print(loss.item(), peak_resident() - before, before)


def memory() -> None:
    rows = []
    for way in ("full logits", "ours"):
        command = [sys.executable, "-W", "ignore", __file__, "--peak", way]
        values = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-3:]
        rows.append((way, *(float(value) for value in values[:2])))
    rows = [(way, loss, added, added / rows[0][2]) for way, loss, added in rows]
    header = ("step of 1,024 tokens, vocabulary 128,000", "loss", "peak above model and gradients (MiB)", "over full")
    print_table("Memory of a training step", rows, header)


def speed(repeats: int, steps: int) -> None:
    """Measure steps per second; DPO's reference adds one pass to three, a ratio of 4/3 with a small head."""
    rows = [row for vocab_size in (8000, 32000) for row in speed_of(vocab_size, repeats, steps)]
    header = ("4 pairs of 64 + 64 tokens, 6 layers of 256", "vocabulary", "seconds per step", "steps/s over DPOTrainer")
    print_table("Speed of a training step", rows, header)


def speed_of(vocab_size: int, repeats: int, steps: int) -> list[tuple]:
    tokenizer, rows = build_tokenizer(), pairs(4 * steps, 64, 64)
    seconds: dict[str, list[float]] = {"GenARMTrainer": [], "DPOTrainer": []}
    for repeat in range(repeats + 1):
        for name in seconds:
            model = build_model(vocab_size, hidden_size=256, num_layers=6)
            with tempfile.TemporaryDirectory() as output:
                own = settings(output, max_steps=steps)
                if name == "GenARMTrainer":
                    trainer = GenARMTrainer(model, GenARMConfig(**own), train_dataset=rows, processing_class=tokenizer)
                else:
                    reference = copy.deepcopy(model)
                    trainer = DPOTrainer(
                        model, reference, DPOConfig(**own), train_dataset=rows, processing_class=tokenizer
                    )
                started = time.perf_counter()
                trainer.train()
            if repeat:  # the first round warms up
                seconds[name].append((time.perf_counter() - started) / steps)
    median = {name: sorted(values)[len(values) // 2] for name, values in seconds.items()}
    return [(name, vocab_size, value, median["DPOTrainer"] / value) for name, value in median.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    disable_progress_bars()
    logging.disable_progress_bar()
    if args.peak:
        peak(args.peak)
        return
    memory()
    speed(args.repeats, args.steps)


if __name__ == "__main__":
    main()

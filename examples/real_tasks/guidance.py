"""GenARM on the constraint task: guided sampling beside sharpening, and DPO with the same pairs and steps."""

from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, PeftModel
from trl import DPOConfig, DPOTrainer

from examples.demo_llm.guidance import ALPHAS, train_guide
from examples.demo_llm.model import load_model
from examples.demo_llm.pairs import as_ids
from examples.demo_llm.sampling import TEMPERATURE, Candidate, sample
from examples.real_tasks.pool import Pool
from examples.real_tasks.sizes import Size, result
from hf_reward_ext import GuidedCausalLM


def train_dpo(name: str, dtype: torch.dtype, pool: Pool, pairs: list[dict], folder: Path, seed: int) -> None:
    """Train an adapter by DPO with the settings of the guide's training, unless it is there."""
    if (folder / "adapter_model.safetensors").exists():
        return
    policy, tokenizer = load_model(name, dtype)
    args = DPOConfig(
        str(folder),
        beta=0.1,
        learning_rate=5e-4,
        num_train_epochs=1,
        per_device_train_batch_size=8,
        gradient_checkpointing=False,
        bf16=False,
        report_to="none",
        logging_steps=20,
        save_strategy="no",
        use_cpu=not torch.cuda.is_available(),
        seed=seed,
    )
    lora = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=16, lora_alpha=32)
    trainer = DPOTrainer(
        policy, args=args, train_dataset=pool.as_chats(pairs), processing_class=tokenizer, peft_config=lora
    )
    trainer.train()
    trainer.save_model()


def compare(policy, tokenizer, name: str, dtype: torch.dtype, pool: Pool, folder: Path, size: Size) -> dict:
    """Compare samples of the policy, of the guided policy, and of a policy that DPO trained."""
    problems = pool.problems["test"]

    def draw(label: str, model, seed: int = 0, temperature: float = TEMPERATURE) -> list[list[Candidate]]:
        return sample(
            model,
            tokenizer,
            problems,
            folder / "samples" / label,
            num_candidates=size.num_guided,
            temperature=temperature,
            prompts_per_batch=24,
            seed=seed + 3,
            name=label,
        )

    drawn = {("unguided", "the chat model"): [draw("unguided", policy)]}
    for alpha in ALPHAS:
        # A policy that guides itself with weight alpha is sampled at a lower temperature: sharpening alone.
        what = f"no guide, temperature of weight {alpha:g}"
        drawn["sharpened", what] = [draw(f"sharpened-{alpha}", policy, temperature=TEMPERATURE / (1 + alpha))]
    for seed in size.seeds:
        pairs = pool.pairs("train", size.num_pairs, seed)
        train_guide(name, dtype, as_ids(pairs), folder / f"guide-{seed}", seed, num_epochs=1)
        train_dpo(name, dtype, pool, pairs, folder / f"dpo-{seed}", seed)
        adapted, _ = load_model(name, dtype)  # a copy: layers with an adapter use it in plain calls
        guided = GuidedCausalLM.from_peft(PeftModel.from_pretrained(adapted, str(folder / f"guide-{seed}")).eval())
        for alpha in ALPHAS if seed == size.seeds[0] else ALPHAS[1:2]:  # the front of weights with one seed
            guided.alpha = alpha
            row = drawn.setdefault(("GenARM", f"weight {alpha:g}"), [])
            row.append(draw(f"guided-{alpha}-{seed}", guided, seed))
        trained, _ = load_model(name, dtype)
        trained = PeftModel.from_pretrained(trained, str(folder / f"dpo-{seed}")).merge_and_unload().eval()
        drawn.setdefault(("DPO", "same pairs, steps, and LoRA"), []).append(draw(f"dpo-{seed}", trained, seed))
    rows = []
    for (method, what), seeds in drawn.items():
        right = [[np.mean([one.is_right for one in group]) for group in groups] for groups in seeds]
        lengths = np.mean([len(one.completion_ids) for groups in seeds for group in groups for one in group])
        texts = [one.text for groups in seeds for group in groups for one in group]
        rows.append(result(method, what, right, float(lengths), distinct=round(distinct(texts), 3)))
    return {"rows": rows}


def distinct(texts: list[str]) -> float:
    """Return the share of different word pairs among all: it falls when texts repeat themselves or each other."""
    pairs = [pair for text in texts for pair in zip(text.split(), text.split()[1:], strict=False)]
    return len(set(pairs)) / max(1, len(pairs))

"""GenARM: a LoRA guide on the chat model, trained on its own pairs, that steers it token by token."""

from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel

from examples.demo_llm.model import load_model
from examples.demo_llm.sampling import TEMPERATURE, Candidate, sample
from examples.demo_llm.settings import Size
from examples.demo_llm.tables import row
from examples.tasks.constraints import Problem
from hf_reward_ext import GenARMConfig, GenARMTrainer, GuidedCausalLM

ALPHAS = (0.5, 1.0, 2.0)


def train_guide(name: str, dtype: torch.dtype, rows: Dataset, folder: Path, seed: int, num_epochs: int = 2) -> None:
    """Train the adapter on preference pairs, unless it is there."""
    if (folder / "adapter_model.safetensors").exists():
        return
    policy, tokenizer = load_model(name, dtype)
    trainer = GenARMTrainer(
        policy,
        GenARMConfig(
            str(folder),
            beta=0.1,
            learning_rate=5e-4,
            num_train_epochs=num_epochs,
            per_device_train_batch_size=8,
            activation_checkpointing=False,
            report_to="none",
            logging_steps=20,
            save_strategy="no",
            use_cpu=not torch.cuda.is_available(),
            seed=seed,
        ),
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=16, lora_alpha=32),
    )
    trainer.train()
    trainer.save_model()
    trainer.create_model_card()


def compare(
    name: str, dtype: torch.dtype, problems: list[Problem], guide: Path, folder: Path, size: Size, seed: int
) -> dict:
    """Compare unguided and guided samples, and a policy that is sharpened without a guide."""
    policy, tokenizer = load_model(name, dtype)
    adapted, _ = load_model(name, dtype)  # a copy: layers with an adapter use it in plain calls
    guided = GuidedCausalLM.from_peft(PeftModel.from_pretrained(adapted, str(guide)).eval())

    def draw(label: str, model, temperature: float = TEMPERATURE) -> list[list[Candidate]]:
        return sample(
            model,
            tokenizer,
            problems,
            folder / label,
            num_candidates=size.num_guided,
            temperature=temperature,
            prompts_per_batch=12,
            seed=seed + 3,
            name=label,
        )

    samples: dict[str, list[list[Candidate]]] = {"unguided": draw("unguided", policy)}
    # Guiding a policy by itself with weight alpha is sampling at a lower temperature: the effect of sharpening alone.
    samples["sharpened"] = draw("sharpened", policy, TEMPERATURE / (1 + ALPHAS[1]))
    for alpha in ALPHAS:
        guided.alpha = alpha
        samples[f"alpha {alpha}"] = draw(f"alpha {alpha}", guided)
    what = {
        "unguided": "the chat model",
        "sharpened": "no guide, temperature of its own weight 1",
        **{f"alpha {alpha}": f"guide with weight {alpha}" for alpha in ALPHAS},
    }
    rows = [
        row(
            label,
            what[label],
            [np.mean([one.is_right for one in group]) for group in groups],
            np.mean([len(one.completion_ids) for group in groups for one in group]),
        )
        for label, groups in samples.items()
    ]
    texts = [
        {
            "prompt": problem.question,
            "texts": [
                {"label": label, "text": groups[index][0].text, "is_right": groups[index][0].is_right}
                for label, groups in samples.items()
            ],
        }
        for index, problem in enumerate(problems[:6])
    ]
    return {"rows": rows, "samples": texts}

"""Small policy that is part of the package."""

from importlib.resources import files
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

NAME = "hf_reward_ext/demo-policy"


def load_policy(path: str | Path | None = None):
    """
    Load policy and tokenizer of the demo from the package, without network access.

    Args:
        path (`str` or `Path`, *optional*): Folder written by `python -m hf_reward_ext.demo.train`.

    Returns:
        `(LlamaForCausalLM, PreTrainedTokenizerFast)`, float32, in eval mode.

    Example:
    ```python
    >>> policy, tokenizer = load_policy()
    >>> out = policy.generate(**tokenizer("6 1 3 3=12|", return_tensors="pt"), max_new_tokens=20)
    ```
    """
    folder = Path(path) if path is not None else Path(str(files("hf_reward_ext.demo") / "checkpoint"))
    policy = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    if path is None:
        policy.config._name_or_path = NAME  # the same on every machine, unlike the folder
    return policy, AutoTokenizer.from_pretrained(folder)


def new_policy(tokenizer, hidden_size: int = 128, num_layers: int = 3, num_heads: int = 4) -> LlamaForCausalLM:
    """Return a Llama with random weights; 0.6M parameters at the default size."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden_size,
            intermediate_size=hidden_size * 21 // 8,
            num_hidden_layers=num_layers,
            num_attention_heads=num_heads,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )

import pytest
from cli_files import write_rows
from tiny import tiny_causal_lm, tiny_tokenizer
from transformers import AutoModelForCausalLM

from hf_reward_ext import ELHSRModel


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A tiny policy, an ELHSR head on it, pairs of both splits, and prompts."""
    folder = tmp_path_factory.mktemp("cli")
    tiny_causal_lm().save_pretrained(folder / "policy")
    tiny_tokenizer().save_pretrained(folder / "policy")
    policy = AutoModelForCausalLM.from_pretrained(folder / "policy")
    ELHSRModel.from_policy(policy).save_pretrained(folder / "head")
    pairs = [{"prompt": f"w{n} w5", "chosen": " w6 w7", "rejected": " w8"} for n in range(12)]
    for split in ("train", "test"):
        write_rows(folder / "pairs" / f"{split}.jsonl", pairs)
    write_rows(folder / "prompts.jsonl", [{"prompt": f"w{n} w5 w{n + 3}"} for n in range(7)])
    return folder

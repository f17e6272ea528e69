"""
Cost of the methods on a GPU, as ratios in one run: `python examples/benchmarks/gpu.py`.

Random weights in bfloat16: the cost does not depend on their values. EOS is never sampled, so all runs have the same
length. Policy and guide have the same size. Without an accelerator nothing is measured; `--device cpu --size demo` only
shows that the script runs.
"""

import argparse

import torch
from interleaved import interleaved, print_table
from peft import LoraConfig, get_peft_model
from transformers import CompileConfig, LlamaConfig, LlamaForCausalLM, set_seed

from hf_reward_ext import (
    ELHSRModel,
    GenARMLogitsProcessor,
    GuidedCausalLM,
    HiddenStateReward,
    RewardTransformer,
    sla_generate,
)
from hf_reward_ext.genarm.separate_models import SeparateModels

SIZES = {
    "demo": dict(vocab_size=128, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4),
    "0.5b": dict(
        vocab_size=32000, hidden_size=1024, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=16,
        num_key_value_heads=4,
    ),
}  # fmt: skip
PROMPT = 32
SEARCH_ROWS = 8


class Bench:
    """Models of one size on one device, and their decoding methods."""

    def __init__(self, args, device: torch.device):
        self.args, self.device = args, device
        self.policy, self.guide = self._model(0), self._model(1)

    def _model(self, seed: int) -> LlamaForCausalLM:
        set_seed(seed)
        config = LlamaConfig(
            **SIZES[self.args.size], max_position_embeddings=2048, bos_token_id=1, eos_token_id=None, pad_token_id=0
        )
        return LlamaForCausalLM(config).to(self.device, torch.bfloat16).eval()

    def _adapters(self) -> GuidedCausalLM:
        config = LoraConfig(target_modules="all-linear", init_lora_weights=False)
        return GuidedCausalLM.from_peft(get_peft_model(self._model(0), config, "arm").eval(), "arm")

    def decode(self, model, rows: int, **kwargs) -> None:
        ids = torch.randint(3, 100, (rows, PROMPT), device=self.device)
        settings = {"do_sample": False, "max_new_tokens": self.args.new_tokens, **kwargs}
        model.generate(ids, attention_mask=torch.ones_like(ids), **settings)
        if self.device.type != "cpu":
            torch.accelerator.synchronize()

    def guided_ways(self, rows: int) -> dict:
        """Return decoding methods with and without a guide; compiled ones only on an accelerator."""
        processor = GenARMLogitsProcessor(self.guide)
        composite, adapters = GuidedCausalLM(self.policy, self.guide), self._adapters()
        streams = GuidedCausalLM(self.policy, SeparateModels(self.policy, self.guide, use_streams=True))
        ways = {
            "policy": lambda: self.decode(self.policy, rows),
            "processor": lambda: self.decode(self.policy, rows, logits_processor=[processor]),
            "composite": lambda: self.decode(composite, rows),
            "composite, two streams": lambda: self.decode(streams, rows),
            "adapters": lambda: self.decode(adapters, rows),
        }
        if self.device.type != "cpu":
            static = dict(cache_implementation="static")  # transformers captures CUDA graphs then
            length = PROMPT + self.args.new_tokens
            compiled = GenARMLogitsProcessor(self.guide, static_cache_length=length, compile_config=CompileConfig())
            ways |= {
                "policy, compiled": lambda: self.decode(self.policy, rows, **static),
                "processor, compiled": lambda: self.decode(self.policy, rows, logits_processor=[compiled], **static),
                "composite, compiled": lambda: self.decode(composite, rows, **static),
                "adapters, compiled": lambda: self.decode(adapters, rows, **static),
            }
        return ways

    def scored(self, head: ELHSRModel, rows: int) -> None:
        with HiddenStateReward(self.policy, head):
            self.decode(self.policy, rows, do_sample=True)

    def print_guided(self) -> None:
        for rows in self.args.rows:
            seconds = interleaved(self.guided_ways(rows), self.args.repeats)
            tokens = rows * self.args.new_tokens
            table = [(way, tokens / value, value / seconds["policy"]) for way, value in seconds.items()]
            print_table(f"GenARM, {self._title(rows)}", table, ("way", "tokens/s", "time over the policy's"))

    def print_scored(self) -> None:
        head = ELHSRModel.from_policy(self.policy).to(self.device)
        for rows in self.args.rows:
            ways = {
                "policy": lambda rows=rows: self.decode(self.policy, rows, do_sample=True),
                "with rewards": lambda rows=rows: self.scored(head, rows),
            }
            seconds = interleaved(ways, self.args.repeats)
            table = [(way, value, value / seconds["policy"]) for way, value in seconds.items()]
            print_table(f"ELHSR, {self._title(rows)}", table, ("way", "seconds", "time over the policy's"))

    def print_search(self) -> None:
        rt = RewardTransformer.from_base(self.policy).to(self.device).eval()
        published = dict(width=2, step=10, depth=2, custom_generate=sla_generate)
        ways = {
            f"greedy, {SEARCH_ROWS} rows": lambda: self.decode(self.policy, SEARCH_ROWS),
            "search, 1 prompt": lambda: self.decode(rt, 1, **published),
            f"search, {SEARCH_ROWS} prompts": lambda: self.decode(rt, SEARCH_ROWS, **published),
        }
        seconds = interleaved(ways, self.args.repeats)
        first = seconds[f"greedy, {SEARCH_ROWS} rows"]
        table = [(way, value, value / first) for way, value in seconds.items()]
        print_table(f"SLA, {self._title(SEARCH_ROWS)}", table, ("way", "seconds", f"over greedy, {SEARCH_ROWS} rows"))

    def _title(self, rows: int) -> str:
        name = "the CPU (no figures of a GPU)" if self.device.type == "cpu" else torch.cuda.get_device_name(self.device)
        return f"{rows} rows, {self.args.new_tokens} tokens, {self.args.size}, on {name}"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="0.5b")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", type=torch.device, help="device; default: the accelerator")
    args = parser.parse_args(arguments)
    device = args.device
    if device is None:
        if not torch.cuda.is_available():
            raise SystemExit("There is no GPU on this machine, so nothing was measured.")
        device = torch.device("cuda", torch.cuda.current_device())
    bench = Bench(args, device)
    bench.print_guided()
    bench.print_scored()
    bench.print_search()


if __name__ == "__main__":
    main()

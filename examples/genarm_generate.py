"""
Guided decoding in a few lines: `python examples/genarm_generate.py --tiny`, or `--policy NAME --guide NAME`.

With `--tiny` both are the demo model, with noise on the weights of the guide; `genarm_train.py` trains a real guide.
"""

import argparse

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_reward_ext import GenARMLogitsProcessor, GuidedCausalLM
from hf_reward_ext.base.stats.pictures import drawn
from hf_reward_ext.demo.policy import load_policy
from hf_reward_ext.genarm.trace import trace_guidance


def load(args):
    if args.tiny:
        policy, tokenizer = load_policy()
        guide, _ = load_policy()
        noise = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in guide.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=noise) * 0.02)
        return policy, guide, tokenizer
    policy = AutoModelForCausalLM.from_pretrained(args.policy, dtype="auto", device_map=args.device_map)
    guide = AutoModelForCausalLM.from_pretrained(args.guide, dtype="auto", device_map=args.device_map)
    return policy, guide, AutoTokenizer.from_pretrained(args.policy, padding_side="left")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="use the demo model, without network access")
    parser.add_argument("--policy")
    parser.add_argument("--guide")
    parser.add_argument("--device-map")
    parser.add_argument("--alpha", type=float, default=1.0)
    parser.add_argument("--prompt", nargs="+", default=["6 1 3 3=12|", "2 5 4 1=10|"])
    parser.add_argument("--max-new-tokens", type=int, default=24)
    parser.add_argument("--plot", help="file for the divergence per token, for example kl.png")
    args = parser.parse_args(argv)
    policy, guide, tokenizer = load(args)
    inputs = tokenizer(args.prompt, return_tensors="pt", padding=True).to(policy.device)
    common = dict(**inputs, max_new_tokens=args.max_new_tokens)

    # 1. Any existing call: one more argument.
    processor = GenARMLogitsProcessor(guide, alpha=args.alpha)
    out = policy.generate(**common, num_beams=4, logits_processor=[processor])
    print("beams:      ", tokenizer.batch_decode(out, skip_special_tokens=True))

    # 2. The same distribution as one model with one cache; the guide is also the draft model.
    guided = GuidedCausalLM(policy, guide, alpha=args.alpha)
    first = {name: value[:1] for name, value in inputs.items()}
    out = guided.generate(**first, max_new_tokens=args.max_new_tokens, assistant_model=guide, do_sample=False)
    print("speculative:", tokenizer.batch_decode(out, skip_special_tokens=True))

    # 3. The effect of guidance, token by token.
    out = guided.generate(**common, do_sample=False)
    trace = trace_guidance(guided, out, inputs["input_ids"].shape[1], inputs["attention_mask"])
    count = trace.completion_mask.sum(-1)
    for row, text in enumerate(tokenizer.batch_decode(out, skip_special_tokens=True)):
        print(f"{text!r}: KL(guided || policy) {trace.kl[row].sum() / count[row]:.3f} nats per token")
    if args.plot:
        plot(trace, args.plot)


def plot(trace, path: str) -> None:
    with drawn(path, 6, 3.5) as figure:
        axes = figure.subplots()
        for name in ("kl", "base_logps", "guided_logps"):
            axes.plot(getattr(trace, name)[0].float().cpu(), label=name)
        axes.set(xlabel="token", ylabel="nats")
        axes.legend()


if __name__ == "__main__":
    main()

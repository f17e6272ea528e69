"""The work of `generate`."""

from argparse import Namespace
from typing import Any

import torch
from peft import PeftModel

from hf_reward_ext.base.lm.row_ends import watch_row_ends
from hf_reward_ext.cli.models import adapter_base, base_of, load_causal_lm, load_tokenizer, loading_settings, on_device
from hf_reward_ext.cli.options import generation_settings
from hf_reward_ext.cli.work import Batch, open_output, read_prompts, report, work_through
from hf_reward_ext.genarm import GuidedCausalLM
from hf_reward_ext.sla import RewardTransformer, sla_generate


def generate_all(args: Namespace) -> dict:
    """Continues every prompt."""
    writer, prompts = open_output(args), read_prompts(args)
    results = list(work_through(prompts, lambda: _prepare(args), args, writer, "generating"))
    if args.output:
        print(f"{len(results)} rows in {args.output}")
    else:
        for row in results:
            for text in row.get("completions") or [row["completion"]]:
                print(f"{row['prompt']}{text}" if isinstance(row["prompt"], str) else text)
    return report("generate", args, results, {"num_rows": len(results)})


def _prepare(args: Namespace) -> Batch:
    name = args.model or base_of(args.channel or args.guide[0])
    tokenizer = load_tokenizer(name)
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    settings = generation_settings(args)
    if args.channel:
        settings |= dict(custom_generate=sla_generate, width=args.width, step=args.step, depth=args.depth)
        settings["do_sample"] = False
    else:
        settings |= dict(num_return_sequences=args.num_return_sequences, num_beams=args.num_beams)
    return _continue(_model(args, name, tokenizer), tokenizer, settings)


def _continue(model, tokenizer, settings: dict) -> Batch:
    def batch(rows: list[dict]) -> list[dict]:
        inputs = encode([row["prompt"] for row in rows], tokenizer).to(model.device)
        with torch.no_grad(), watch_row_ends(model) as ends:
            sequences = model.generate(**inputs, **settings)
        prompt_length = inputs["input_ids"].shape[1]
        texts = tokenizer.batch_decode(sequences[:, prompt_length:], skip_special_tokens=True)
        counts = ends.completion_mask(sequences, prompt_length).sum(-1).tolist()
        each = len(texts) // len(rows)
        return [
            _row(row["prompt"], texts[at * each : (at + 1) * each], counts[at * each : (at + 1) * each])
            for at, row in enumerate(rows)
        ]

    return batch


def _row(prompt, texts: list[str], counts: list[int]) -> dict:
    if len(texts) == 1:
        return {"prompt": prompt, "completion": texts[0], "num_tokens": counts[0]}
    return {"prompt": prompt, "completions": texts, "num_tokens": counts}


def encode(prompts: list, tokenizer):
    """Token ids of prompts, text or messages, padded on the left."""
    texts = [
        one if isinstance(one, str) else tokenizer.apply_chat_template(one, add_generation_prompt=True, tokenize=False)
        for one in prompts
    ]
    special = all(isinstance(one, str) for one in prompts)  # a template writes its own
    return tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=special, return_token_type_ids=False)


def _model(args: Namespace, name: str, tokenizer) -> Any:
    kwargs = loading_settings(args)
    policy = load_causal_lm(name, revision=args.revision, **kwargs)
    if args.channel:
        return on_device(RewardTransformer.from_pretrained(args.channel, base=policy, processing_class=tokenizer), args)
    if not args.guide:
        return on_device(policy, args)
    alpha = args.alpha or [1.0]
    alpha = alpha * len(args.guide) if len(alpha) == 1 else alpha
    if all(adapter_base(guide) == name for guide in args.guide):  # one copy of the weights, one forward
        names = [f"guide-{number}" for number in range(len(args.guide))]
        adapted = PeftModel.from_pretrained(policy, args.guide[0], adapter_name=names[0])
        for adapter, folder in list(zip(names, args.guide, strict=True))[1:]:
            adapted.load_adapter(folder, adapter)
        return on_device(GuidedCausalLM.from_peft(adapted, names, alpha), args)
    guides = [load_causal_lm(guide, **kwargs) for guide in args.guide]
    tokenizers = [load_tokenizer(guide) for guide in args.guide]
    return on_device(GuidedCausalLM(policy, guides, alpha, tokenizer=tokenizer, guide_tokenizers=tokenizers), args)

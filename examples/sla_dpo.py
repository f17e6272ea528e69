"""
DPO and SLA: DPO trains the policy (with TRL), a channel is trained on its states, and the search decodes.

    python examples/sla_dpo.py                 # the demo policy on its walks
    python examples/sla_dpo.py --joint         # one run: `SLAConfig(policy_loss="dpo")`
"""

import argparse
import copy

from sla_train import walks
from trl import DPOConfig, DPOTrainer

from hf_reward_ext.demo import walk
from hf_reward_ext.demo.policy import load_policy
from hf_reward_ext.demo.sampling import sample
from hf_reward_ext.sla import SLAConfig, SLATrainer, sla_generate

COMMON = dict(
    per_device_train_batch_size=32, report_to="none", save_strategy="no", bf16=False, use_cpu=True,
    activation_checkpointing=False, disable_tqdm=True, logging_strategy="no",
)  # fmt: skip


def solved_by_search(rt, tokenizer, prompts: list[str]) -> float:
    inputs = tokenizer(prompts, return_tensors="pt", padding=True, return_token_type_ids=False)
    out = rt.generate(
        **inputs, custom_generate=sla_generate, width=2, step=1, depth=7, branch_entropy=0.3,
        max_new_tokens=walk.MAX_NEW_TOKENS,
    )  # fmt: skip
    texts = tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return sum(map(walk.is_correct, prompts, texts)) / len(prompts)


def solved_greedily(policy, tokenizer, prompts: list[str]) -> float:
    return sample(policy, tokenizer, prompts, walk, temperature=0, show_progress=False).correct.mean()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--joint", action="store_true", help="train policy and channel together")
    parser.add_argument("--num-prompts", type=int, default=1000, help="number of walks sampled for training")
    parser.add_argument("--num-test", type=int, default=200)
    parser.add_argument("--epochs", type=float, default=12, help="number of epochs of the channel")
    parser.add_argument("--output", default="outputs/sla-dpo")
    args = parser.parse_args(arguments)
    policy, tokenizer = load_policy()
    pairs = walks(policy, tokenizer, args.num_prompts)
    prompts = [one.prompt for one in walk.random_walks("test", args.num_test)]
    print(f"policy, greedy: {solved_greedily(policy, tokenizer, prompts):.3f}")
    tuned = copy.deepcopy(policy)
    settings: dict = dict(channel_size=32, learning_rate=3e-3, num_train_epochs=args.epochs)
    if args.joint:
        settings.update(policy_loss="dpo", learning_rate=2e-4, num_train_epochs=2)
    else:
        config = DPOConfig(f"{args.output}/policy", learning_rate=1e-4, num_train_epochs=2, **COMMON)
        DPOTrainer(tuned, policy, args=config, train_dataset=pairs, processing_class=tokenizer).train()
    trainer = SLATrainer(
        tuned, SLAConfig(args.output, **settings, **COMMON), train_dataset=pairs, processing_class=tokenizer
    )
    trainer.train()
    trainer.save_model()
    print(f"after DPO, greedy: {solved_greedily(tuned.eval(), tokenizer, prompts):.3f}")
    print(f"after DPO, search: {solved_by_search(trainer.model.eval(), tokenizer, prompts):.3f}")


if __name__ == "__main__":
    main()

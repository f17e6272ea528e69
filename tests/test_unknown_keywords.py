"""
Nothing is swallowed: every public callable refuses a keyword that it does not have, before it computes.

Callables without `**kwargs` refuse it by themselves. Each of the others has a call in `CALLS`, or stands in `PROTOCOLS`
with the reason why other keywords have to pass.
"""

import inspect
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset
from fake_hub import hub  # noqa: F401
from signatures import public_callables
from tiny import EOS, PAD, VOCAB, tiny_causal_lm, tiny_tokenizer
from tiny_judges import pair_judge, pair_prompt, point_judge
from torch.nn.modules.module import register_module_forward_pre_hook
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, pipeline
from trl import DPOConfig, DPOTrainer, GRPOConfig

import hf_reward_ext as ours
from hf_reward_ext import best_of_n, elhsr, engines, evaluation, fast_slow, genarm, rewards
from hf_reward_ext import hub as hub_package
from hf_reward_ext.fast_slow import FastSlowGenerationMixin, Gate

UNKNOWN = {"unknown_keyword": 1}
PUBLIC = {place.removeprefix("hf_reward_ext."): function for place, function in public_callables().items()}
PAIRS = [{"prompt": "w9 w8 ", "chosen": "w7 w6", "rejected": "w5 w4"}] * 4
LABELS = [{"prompt": "w9 ", "completion": "w7 w6", "label": 1.0}, {"prompt": "w9 ", "completion": "w7", "label": 0.0}]
IDS = torch.tensor([[5, 6, 7, 8], [9, 8, 7, 6]])
SEARCH = dict(width=2, step=2, depth=1)


def takes_any(function) -> bool:
    return any(one.kind is one.VAR_KEYWORD for one in inspect.signature(function).parameters.values())


PLAIN = [place for place, function in PUBLIC.items() if not takes_any(function) and not place.endswith("Mixin")]


@pytest.mark.parametrize("place", PLAIN)
def test_python_refuses_it(place):
    # Checks of shapes, which run in tests alone, miss the arguments first.
    with pytest.raises(TypeError, match="unknown_keyword|takes no arguments|missing a required argument"):
        PUBLIC[place](**UNKNOWN)


PROTOCOLS = {
    "TextScorer.__call__": "TRL passes every column of the data to reward functions",
    "CompletionScorer.__call__": "TRL passes every column of the data to reward functions",
    "Scorer.__call__": "TRL passes every column of the data to reward functions",
    "WeightedReward.__call__": "TRL passes every column of the data to reward functions",
    "WeightedReward.separate": "TRL passes every column of the data to reward functions",
    **{
        f"rewards.{name}.{method}": "TRL passes every column of the data to reward functions"
        for name in rewards.__all__
        for method in ("__call__", "score")
    },
    "engines.RemoteReward.__call__": "TRL passes every column of the data to reward functions",
    "engines.Generator": "a protocol, which has no instances",
    "fast_slow.FastSlowRewardFunction.__call__": "TRL passes every column of the data to reward functions",
    "fast_slow.slow_verdict_reward": "TRL passes every column of the data to reward functions",
    "BestOfNCallback.on_train_begin": "trainers pass all that they have to callbacks",
    "BestOfNCallback.on_evaluate": "trainers pass all that they have to callbacks",
    "callbacks.RewardDriftCallback.on_train_begin": "trainers pass all that they have to callbacks",
    "callbacks.RewardDriftCallback.on_evaluate": "trainers pass all that they have to callbacks",
    "callbacks.OnlinePairsCallback.on_train_begin": "trainers pass all that they have to callbacks",
    "callbacks.OnlinePairsCallback.on_epoch_begin": "trainers pass all that they have to callbacks",
    "GuidedGenerationCallback.on_train_begin": "trainers pass all that they have to callbacks",
    "GuidedGenerationCallback.on_evaluate": "trainers pass all that they have to callbacks",
    "elhsr.HiddenStateStoppingCriteria.__call__": "`generate` passes what its caller gave to all criteria",
    "FastSlowStoppingCriteria.__call__": "`generate` passes what its caller gave to all criteria",
    "ELHSRModelConfig.from_dict": "transformers takes back what it does not use",
    "FastSlowRewardModelConfig.from_dict": "transformers takes back what it does not use",
    "GenARMRewardModelConfig.from_dict": "transformers takes back what it does not use",
    "RewardTransformerConfig.from_dict": "transformers takes back what it does not use",
    "BestOfNPipeline.preprocess": "pipelines pass the keywords of `generate` to it too; they were checked before",
    "BestOfNPipeline.postprocess": "the pipeline's own options, checked when they were given",
    "BestOfNPipeline.check_prompts": "takes the keywords of a call, which refuses those that it does not have",
    "BestOfNPipeline.get_iterator": "pipelines pass what their `__call__` made of its keywords",
    "base.preference.tokenize_prompt": "chat templates have variables of their own",
    "base.preference.tokenize_completion": "chat templates have variables of their own",
    "base.preference.tokenize_preference": "chat templates have variables of their own",
}


class JudgeLlama(FastSlowGenerationMixin, LlamaForCausalLM):
    pass


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One small object of every kind, and folders of saved ones."""
    folder = tmp_path_factory.mktemp("saved")
    tiny_causal_lm(initializer_range=0.2).save_pretrained(folder / "base")
    base = LlamaForCausalLM.from_pretrained(folder / "base").eval()
    tokenizer = tiny_tokenizer()
    rt = ours.RewardTransformer.from_base(base, channel_size=4)
    head = ours.ELHSRModel.from_policy(base)
    genarm = ours.GenARMRewardModel.from_causal_lm(tiny_causal_lm())
    judge = point_judge()
    rt.save_pretrained(folder / "channel")
    head.save_pretrained(folder / "head")
    genarm.save_pretrained(folder / "genarm")
    judge.save_pretrained(folder / "judge")
    classifier = LlamaForSequenceClassification(LlamaConfig(
        vocab_size=VOCAB, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, num_labels=1,
        pad_token_id=PAD,
    ))  # fmt: skip
    classifier.save_pretrained(folder / "classifier")
    tokenizer.save_pretrained(folder / "classifier")
    policy = tiny_causal_lm()
    return SimpleNamespace(
        folder=folder, base=base, policy=policy, tokenizer=tokenizer, rt=rt, head=head, genarm=genarm, judge=judge,
        guided=ours.GuidedCausalLM(policy, tiny_causal_lm(seed=1)), judge_llama=JudgeLlama(base.config).eval(),
        scorer=ours.ELHSRForSequenceClassification(base, head), pair_judge=pair_judge(),
        prefill=ours.SharedPrefill(policy, IDS, torch.ones_like(IDS)),
        sla_scorer=ours.RewardTransformerForSequenceClassification(rt),
        pipe=pipeline("reward-bon", model=policy, tokenizer=tokenizer, num_candidates=2, max_new_tokens=2,
                      reward_model=lambda prompts, completions: [0.0] * len(completions)),
    )  # fmt: skip


def new(m, config, **settings):
    """A trainer's configuration that writes nothing."""
    return config(output_dir=str(m.folder / "out"), report_to="none", use_cpu=True, bf16=False, **settings)


def trainer(name, config, model, rows=PAIRS, **more):
    def call(m, **unknown):
        args = new(m, getattr(ours, config))
        kind = getattr(ours, name)
        given = {key: value(m) if callable(value) else value for key, value in more.items()}
        return kind(model(m), args=args, train_dataset=Dataset.from_list(rows), **given, **unknown)

    return call


def elhsr_train(m, **unknown):
    args = new(m, ours.ELHSRConfig, validation_fraction=0.0)
    made = ours.ELHSRTrainer(m.base, args=args, train_dataset=Dataset.from_list(LABELS), processing_class=m.tokenizer)
    return lambda: made.train(**unknown)


REWARDS = np.array([[0.1, 0.2], [0.3, 0.1]])
CORRECT = np.array([[True, False], [True, True]])
ENDS = dict(eos_token_id=EOS, pad_token_id=PAD)
BON = dict(prompts=["w9"], reward_model=lambda prompts, completions: [0.0] * len(completions))

CALLS = {
    "BestOfNCallback": lambda m, **u: ours.BestOfNCallback(**BON, **u),
    "GuidedGenerationCallback": lambda m, **u: ours.GuidedGenerationCallback(**BON, guides=[m.base], **u),
    "callbacks.OnlinePairsCallback": lambda m, **u: ours.callbacks.OnlinePairsCallback(
        DPOTrainer(
            tiny_causal_lm(),
            tiny_causal_lm(),
            args=new(m, DPOConfig),
            train_dataset=Dataset.from_list(PAIRS),
            processing_class=m.tokenizer,
        ),
        folder=m.folder / "pairs",
        **BON,
        **u,
    ),
    "callbacks.RewardDriftCallback": lambda m, **u: ours.callbacks.RewardDriftCallback(
        **BON, held_out=BON["reward_model"], **u
    ),
    "BestOfNPipeline": lambda m, **u: ours.BestOfNPipeline(
        model=m.policy, tokenizer=m.tokenizer, reward_model=BON["reward_model"], **u
    ),
    "BestOfNPipeline.__call__": lambda m, **u: m.pipe("w9 w8", **u),
    "write_best_of_n": lambda m, **u: ours.write_best_of_n(m.pipe, ["w9"], m.folder / "rows.jsonl", **u),
    "ELHSRModel.from_pretrained": lambda m, **u: ours.ELHSRModel.from_pretrained(m.folder / "head", **u),
    "sla.RewardChannel.from_pretrained": lambda m, **u: ours.sla.RewardChannel.from_pretrained(
        m.folder / "channel", **u
    ),
    "ELHSRForSequenceClassification.from_pretrained": lambda m, **u: (
        ours.ELHSRForSequenceClassification.from_pretrained(m.folder / "head", **u)
    ),
    "ELHSRForSequenceClassification.save_pretrained": lambda m, **u: m.scorer.save_pretrained(m.folder / "x", **u),
    "ELHSRForSequenceClassification.push_to_hub": lambda m, **u: m.scorer.push_to_hub("me/x", **u),
    "ELHSRForSequenceClassification.forward": lambda m, **u: m.scorer(IDS, **u),
    "ELHSRModel.from_policy": lambda m, **u: ours.ELHSRModel.from_policy(m.base, **u),
    "ELHSRModel.save_pretrained": lambda m, **u: m.head.save_pretrained(m.folder / "x", **u),
    "ELHSRModel.push_to_hub": lambda m, **u: m.head.push_to_hub("me/x", **u),
    "ELHSRModelConfig": lambda m, **u: ours.ELHSRModelConfig(**u),
    "ELHSRTrainer": trainer(
        "ELHSRTrainer", "ELHSRConfig", lambda m: m.base, LABELS, processing_class=lambda m: m.tokenizer
    ),
    "ELHSRTrainer.train": elhsr_train,
    "FastSlowRewardModel.forward": lambda m, **u: m.judge(IDS, **u),
    "FastSlowRewardModel.save_pretrained": lambda m, **u: m.judge.save_pretrained(m.folder / "x", **u),
    "FastSlowRewardModel.push_to_hub": lambda m, **u: m.judge.push_to_hub("me/x", **u),
    "FastSlowRewardModel.from_pretrained": lambda m, **u: ours.FastSlowRewardModel.from_pretrained(
        m.folder / "judge", **u
    ),
    "FastSlowRewardModelConfig": lambda m, **u: ours.FastSlowRewardModelConfig(**u),
    "FastSlowGenerationMixin.generate_judgment": lambda m, **u: m.judge_llama.generate_judgment(
        IDS, judge_prompt=pair_prompt(), gate=Gate(), **u
    ),
    "FastSlowTrainer": trainer("FastSlowTrainer", "FastSlowConfig", lambda m: m.pair_judge),
    "rewards.StepGRPOTrainer": lambda m, **u: rewards.StepGRPOTrainer(
        tiny_causal_lm(),
        BON["reward_model"],
        new(m, GRPOConfig),
        Dataset.from_list([{"prompt": "w9"}]),
        processing_class=m.tokenizer,
        step_reward=rewards.StepReward(BON["reward_model"]),
        **u,
    ),
    "FastSlowGRPOTrainer": lambda m, **u: ours.FastSlowGRPOTrainer(
        tiny_causal_lm(),
        new(m, GRPOConfig),
        fast_slow.counterfactual_prefixes(PAIRS, pair_prompt()),
        judge_prompt=pair_prompt(),
        processing_class=m.tokenizer,
        **u,
    ),
    "hub.GenARMCustomGenerate.push_to_hub": lambda m, **u: hub_package.GenARMCustomGenerate(
        [str(m.folder / "base")], policy="me/policy"
    ).push_to_hub("me/x", **u),
    "hub.SLACustomGenerate.push_to_hub": lambda m, **u: hub_package.SLACustomGenerate(m.rt, **SEARCH).push_to_hub(
        "me/x", **u
    ),
    "GenARMRewardModel.from_causal_lm": lambda m, **u: ours.GenARMRewardModel.from_causal_lm(m.base, **u),
    "GenARMRewardModel.from_pretrained": lambda m, **u: ours.GenARMRewardModel.from_pretrained(
        m.folder / "genarm", **u
    ),
    "GenARMRewardModel.save_pretrained": lambda m, **u: m.genarm.save_pretrained(m.folder / "x", **u),
    "GenARMRewardModel.push_to_hub": lambda m, **u: m.genarm.push_to_hub("me/x", **u),
    "GenARMRewardModel.forward": lambda m, **u: m.genarm(IDS, **u),
    "GenARMRewardModelConfig": lambda m, **u: ours.GenARMRewardModelConfig(**u),
    "GenARMTrainer": trainer(
        "GenARMTrainer", "GenARMConfig", lambda m: tiny_causal_lm(), processing_class=lambda m: m.tokenizer
    ),
    "GuidedCausalLM.generate": lambda m, **u: m.guided.generate(IDS, max_new_tokens=2, **ENDS, **u),
    "GuidedCausalLM.init_continuous_batching": lambda m, **u: m.guided.init_continuous_batching(**u),
    "RewardTransformer.init_continuous_batching": lambda m, **u: m.rt.init_continuous_batching(**u),
    "GuidedCausalLM.save_pretrained": lambda m, **u: m.guided.save_pretrained(m.folder / "x", **u),
    "GuidedCausalLM.forward": lambda m, **u: m.guided(IDS, **u),
    "sla.RewardChannel.save_pretrained": lambda m, **u: m.rt.reward_channel.save_pretrained(m.folder / "x", **u),
    "sla.RewardChannel.push_to_hub": lambda m, **u: m.rt.reward_channel.push_to_hub("me/x", **u),
    "RewardTransformer.from_base": lambda m, **u: ours.RewardTransformer.from_base(m.base, **u),
    "RewardTransformer.from_pretrained": lambda m, **u: ours.RewardTransformer.from_pretrained(
        m.folder / "channel", **u
    ),
    "RewardTransformer.forward": lambda m, **u: m.rt(IDS, **u),
    "RewardTransformer.generate": lambda m, **u: m.rt.generate(IDS, max_new_tokens=2, **ENDS, **u),
    "RewardTransformer.gradient_checkpointing_enable": lambda m, **u: m.rt.gradient_checkpointing_enable(**u),
    "RewardTransformer.save_pretrained": lambda m, **u: m.rt.save_pretrained(m.folder / "x", **u),
    "RewardTransformer.push_to_hub": lambda m, **u: m.rt.push_to_hub("me/x", **u),
    "RewardTransformerConfig": lambda m, **u: ours.RewardTransformerConfig(**u),
    "RewardTransformerForSequenceClassification.from_pretrained": lambda m, **u: (
        ours.RewardTransformerForSequenceClassification.from_pretrained(m.folder / "channel", **u)
    ),
    "RewardTransformerForSequenceClassification.save_pretrained": lambda m, **u: m.sla_scorer.save_pretrained(
        m.folder / "x", **u
    ),
    "RewardTransformerForSequenceClassification.push_to_hub": lambda m, **u: m.sla_scorer.push_to_hub("me/x", **u),
    "RewardTransformerForSequenceClassification.forward": lambda m, **u: m.sla_scorer(IDS, **u),
    "SLATrainer": trainer("SLATrainer", "SLAConfig", lambda m: m.rt, processing_class=lambda m: m.tokenizer),
    "SharedPrefill.generate": lambda m, **u: m.prefill.generate(2, max_new_tokens=2, do_sample=True, **ENDS, **u),
    "TextScorer.from_pretrained": lambda m, **u: ours.TextScorer.from_pretrained(str(m.folder / "classifier"), **u),
    "best_of_n.DraftBlocks.__call__": lambda m, **u: m.policy.generate(
        IDS,
        custom_generate=best_of_n.DraftBlocks(m.policy, lambda ids, *_: len(ids), threshold=0.5),
        max_new_tokens=2,
        **ENDS,
        **u,
    ),
    "best_of_n.EngineBestOfN": lambda m, **u: best_of_n.EngineBestOfN(
        engines.TransformersGenerator(m.policy, m.tokenizer), BON["reward_model"], **u
    ),
    "best_of_n.EngineBestOfN.__call__": lambda m, **u: best_of_n.EngineBestOfN(
        engines.TransformersGenerator(m.policy, m.tokenizer), BON["reward_model"]
    )("w9", **u),
    "best_of_n.best_within_budget": lambda m, **u: best_of_n.best_within_budget(
        m.pipe, ["w9"], num_candidates=4, max_new_tokens=2, **u
    ),
    "elhsr.write_answer": lambda m, **u: elhsr.write_answer(
        m.policy, m.tokenizer, IDS, torch.ones(2, 2).long(), torch.ones(2, 2).bool(), "w9", max_new_tokens=2, **u
    ),
    "evaluation.best_of_n_curve": lambda m, **u: evaluation.best_of_n_curve(REWARDS, CORRECT, **u),
    "evaluation.majority_curve": lambda m, **u: evaluation.majority_curve([["a", "b"], ["a", "a"]], CORRECT, **u),
    "evaluation.pass_at_k": lambda m, **u: evaluation.pass_at_k(CORRECT, **u),
    "genarm.load_conditioned_guide": lambda m, **u: genarm.load_conditioned_guide(m.folder, m.base, **u),
    "genarm.speculative_generate": lambda m, **u: m.guided.generate(
        IDS, custom_generate=genarm.speculative_generate, max_new_tokens=2, **ENDS, **u
    ),
    "hub.generate_guided": lambda m, **u: hub_package.generate_guided(
        m.policy, [m.base], 1.0, path_or_repo=str(m.folder), inputs=IDS, max_new_tokens=2, **ENDS, **u
    ),
    "hub.generate_look_ahead": lambda m, **u: hub_package.generate_look_ahead(
        m.rt, **SEARCH, path_or_repo=str(m.folder), inputs=IDS, max_new_tokens=2, **ENDS, **u
    ),
    "sla_generate": lambda m, **u: m.rt.generate(
        IDS, custom_generate=ours.sla_generate, max_new_tokens=2, **SEARCH, **ENDS, **u
    ),
    # `generate` and `forward` as transformers defines them, on what is not in the table of signatures.
    "a policy under GenARMLogitsProcessor": lambda m, **u: m.policy.generate(
        IDS, logits_processor=[ours.GenARMLogitsProcessor(m.base)], max_new_tokens=2, **ENDS, **u
    ),
    "a policy under HiddenStateReward": lambda m, **u: watched(m, u),
    "a reward transformer under SLALogitsProcessor": lambda m, **u: m.rt.generate(
        IDS, logits_processor=[ours.SLALogitsProcessor(m.rt, **SEARCH)], max_new_tokens=2, **ENDS, **u
    ),
    "generate_judgment's model": lambda m, **u: m.judge_llama.generate(IDS, max_new_tokens=2, **ENDS, **u),
}


def watched(m, unknown):
    with ours.HiddenStateReward(m.base, m.head):
        return m.base.generate(IDS, max_new_tokens=2, **ENDS, **unknown)


def test_every_callable_with_open_keywords_has_a_call_or_a_reason():
    takers = {place for place, function in PUBLIC.items() if takes_any(function)}
    assert takers <= CALLS.keys() | PROTOCOLS.keys(), sorted(takers - CALLS.keys() - PROTOCOLS.keys())
    refusing = len(PLAIN) + len(CALLS)
    print(f"{refusing} callables refuse an unknown keyword, {len(PROTOCOLS)} are protocols")
    assert refusing >= 250


@pytest.fixture
def no_forward():
    """Raises where a layer with weights computes."""

    def refuse(module, inputs):
        if isinstance(module, torch.nn.Linear | torch.nn.Embedding):
            raise AssertionError(f"a {type(module).__name__} computed before the keyword was refused")

    handle = register_module_forward_pre_hook(refuse)
    yield
    handle.remove()


@pytest.mark.parametrize("place", CALLS)
def test_it_is_refused_before_anything_is_computed(place, made, request, hub):  # noqa: F811
    prepared = CALLS[place](made, **UNKNOWN) if place == "ELHSRTrainer.train" else None
    request.getfixturevalue("no_forward")
    with pytest.raises(
        (TypeError, ValueError), match=r"unknown_keyword|cannot be saved|was to be saved|needs a paged cache"
    ):
        prepared() if prepared else CALLS[place](made, **UNKNOWN)
    assert hub.calls == []

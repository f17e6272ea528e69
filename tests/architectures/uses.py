"""What is done with every architecture, and what has to come out."""

import functools

import torch
from architectures.build import EOS, PAD
from architectures.reference import NEW_TOKENS, FreshReader, generate
from architectures.subject import TOLERANCE, Subject, larger_gap, random_batch
from peft import LoraConfig, get_peft_model
from sla_reference import reference_search
from tiny import tiny_tokenizer
from tiny_judges import TEMPLATE, VERDICTS
from transformers import LogitsProcessorList
from transformers.pytorch_utils import Conv1D

from hf_reward_ext.base.lm.cache import can_select_rows, new_cache
from hf_reward_ext.base.lm.forward import run_forward
from hf_reward_ext.base.lm.prefill import SharedPrefill
from hf_reward_ext.elhsr import ELHSRModel, HiddenStateReward
from hf_reward_ext.fast_slow.decode.prefill import read_prompts
from hf_reward_ext.fast_slow.decode.written_judgment import write_judgments
from hf_reward_ext.fast_slow.judge.prompt import JudgePrompt
from hf_reward_ext.genarm import GenARMLogitsProcessor, GenARMRewardModel, GuidedCausalLM
from hf_reward_ext.sla import RewardTransformer, SLALogitsProcessor, sla_generate

ALPHA = 0.7


class WrongError(Exception):
    """Something else came out than a fresh reading gives."""


class UnsoundError(Exception):
    """What the use builds on is wrong in transformers itself."""


def processor(subject: Subject) -> bool:
    for mode in subject.modes:
        guide = GenARMLogitsProcessor(subject.guide, ALPHA)
        given = generate(subject.policy, subject.batch, mode, logits_processor=LogitsProcessorList([guide]))
        _check_tokens(given, _guided(subject, mode), mode)
    return not guide.guides[0].is_cacheable


def composite(subject: Subject) -> bool:
    _check_default_experts(subject, lambda models: GuidedCausalLM(models[0], models[1], ALPHA))
    guided = GuidedCausalLM(subject.policy, subject.guide, ALPHA)
    for mode in subject.modes:
        _check_tokens(generate(guided, subject.batch, mode), _guided(subject, mode), mode)
    return False


def adapters(subject: Subject) -> bool:
    _check_default_experts(subject, lambda models: GuidedCausalLM.from_peft(_with_adapter(models[0]), ["arm"], 0.0))
    peft_model = _with_adapter(subject.build(seed=0))
    guided = GuidedCausalLM.from_peft(peft_model, ["arm"], ALPHA)
    tuned = FreshReader(_with_adapter(subject.build(seed=0)).merge_and_unload())
    for mode in subject.modes:
        expected = subject.expected(mode, [subject.reader, tuned], [1.0, ALPHA])
        _check_tokens(generate(guided, subject.batch, mode), expected, mode)
    return False


def elhsr(subject: Subject) -> bool:
    return _with_last_layer_too(_elhsr, subject)


def _elhsr(subject: Subject, **layers) -> bool:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = ELHSRModel.from_policy(subject.policy, **layers)
    for mode in subject.modes:
        ids, mask = subject.batch
        with HiddenStateReward(subject.policy, head) as meter:
            written = generate(subject.policy, subject.batch, mode, suppress_tokens=[PAD])
        times = len(written) // len(ids)
        expected = []
        for prompt, kept, new in zip(
            ids.repeat_interleave(times, 0), mask.bool().repeat_interleave(times, 0), written, strict=True
        ):
            new = _until_end(new.tolist())
            row = (*prompt[kept].tolist(), *new)
            states = subject.reader.read(row, output_hidden_states=True).hidden_states
            counted = torch.arange(len(row))[None] >= len(row) - len(new)
            expected.append(head(states, counted).item())
        _check_close(meter.rewards, torch.tensor(expected), mode)
    return False


def sla(subject: Subject) -> bool:
    return _with_last_layer_too(_sla, subject)


def _sla(subject: Subject, **layers) -> bool:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        rt = RewardTransformer.from_base(subject.policy, channel_size=4, **layers)
        for parameter in rt.reward_channel.parameters():
            torch.nn.init.normal_(parameter)
    rt.eval()
    _check_default_experts(subject, lambda models: RewardTransformer.from_base(models[0], channel_size=4, **layers))
    ids, mask = subject.batch
    shape = dict(width=2, step=2, depth=1)
    settings = dict(attention_mask=mask, max_new_tokens=NEW_TOKENS)
    searched = rt.generate(ids, custom_generate=sla_generate, **settings, **shape)[:, ids.shape[1] :]
    _check_tokens(searched, _searched(subject.reader, rt.reward_channel, ids, mask, shape), "sla_generate")
    forced = rt.generate(
        ids, logits_processor=LogitsProcessorList([SLALogitsProcessor(rt, **shape)]), **settings, do_sample=False
    )
    _check_tokens(forced[:, ids.shape[1] :], searched, "SLALogitsProcessor")
    return False


def judge(subject: Subject) -> bool:
    _check_continuation(subject)
    judge_prompt = JudgePrompt(tiny_tokenizer(), VERDICTS, TEMPLATE)
    ids, mask = subject.batch
    prompts = [row[kept].tolist() for row, kept in zip(ids, mask.bool(), strict=True)]
    prefill = read_prompts(subject.policy, prompts, PAD)
    _check_close(prefill.logits, _last_logits(subject.reader, prompts), "fast path")
    verdicts = torch.tensor([0, 1, 0])
    written = write_judgments(
        subject.policy, prefill, torch.arange(3), verdicts, judge_prompt, max_new_tokens=10, eos_ids=(EOS,)
    )
    for prompt, verdict, [writing] in zip(prompts, verdicts.tolist(), written, strict=True):
        ids = [int(judge_prompt.first_ids[verdict]), *judge_prompt.prefix_ids]
        _check(writing.ids[: len(ids)] == ids, "slow path", writing.ids, ids)
        for place in range(len(ids), len(writing.ids)):
            best = int(subject.reader.last_logits((*prompt, *writing.ids[:place])).argmax())
            _check(writing.ids[place] == best, "slow path", writing.ids[place], best)
        done = len(writing.ids) == 10 or writing.ids[-1] == EOS or writing.verdict_logits is not None
        _check(done, "slow path", writing.ids, "more tokens")
    return not can_select_rows(new_cache(subject.policy))


def shared_prefill(subject: Subject) -> bool:
    if "4 returns" not in subject.modes:
        raise UnsoundError(subject.evidence)
    ids, mask = subject.batch
    prefill = SharedPrefill(subject.policy, ids, mask)
    is_slow = prefill._cache is None
    torch.manual_seed(7)
    shared = prefill.generate(4, do_sample=True, top_k=0, top_p=1.0, max_new_tokens=NEW_TOKENS)
    _check_tokens(shared[:, ids.shape[1] :], subject.expected("4 returns", [subject.reader], [1.0]), "4 returns")
    return is_slow


def scorer(subject: Subject) -> bool:
    rows = [row[kept].tolist() for row, kept in zip(*subject.batch, strict=True) for kept in [kept.bool()]]
    expected = []
    for row in rows:
        logps = subject.reader.read(tuple(row)).logits[0, :-1].double().log_softmax(-1)
        expected.append(logps.gather(-1, torch.tensor(row)[1:, None]).sum().item())
    model = GenARMRewardModel.from_causal_lm(subject.build(seed=0))
    alone = [model(torch.tensor([row])).logits.item() for row in rows]
    _check_close(torch.tensor(alone), torch.tensor(expected), "alone")
    for side in ("left", "right"):
        ids, mask = _padded(rows, side)
        _check_close(model(ids, mask).logits[:, 0], torch.tensor(expected), f"padded {side}")
    return False


USES = {
    "processor": processor,
    "composite": composite,
    "adapters": adapters,
    "elhsr": elhsr,
    "sla": sla,
    "judge": judge,
    "prefill": shared_prefill,
    "scorer": scorer,
}


def _with_last_layer_too(use, subject: Subject) -> bool:
    """Where several residual streams are refused, the state after the final norm has to do."""
    try:
        return use(subject)
    except ValueError as error:
        if "layers=[-1]" in str(error):
            use(subject, layers=[-1])
        raise


def _check_continuation(subject: Subject) -> None:
    """Several tokens on a cache, which some models of transformers do not take."""
    row = tuple(random_batch((6,))[0][0].tolist())
    cache = new_cache(subject.policy)
    if not can_select_rows(cache):
        return
    what = "two tokens on a cache"
    try:
        for start, end in ((0, 4), (4, 6)):
            mask = torch.ones(1, end, dtype=torch.long)
            output = run_forward(subject.policy, torch.tensor([row[start:end]]), mask, cache=cache)
    except Exception as error:
        raise UnsoundError(f"{what}: {type(error).__name__}: {str(error)[:200]}") from error
    gap = larger_gap(0.0, subject.reader.last_logits(row), output.logits[0, -1])
    if not gap < TOLERANCE[subject.dtype]:
        raise UnsoundError(f"{what}: {gap:.0e} nats")


def _guided(subject: Subject, mode: str) -> torch.Tensor:
    kept = vars(subject).setdefault("guided", {})
    if mode not in kept:
        kept[mode] = subject.expected(mode, [subject.reader, subject.guide_reader], [1.0, ALPHA])
    return kept[mode]


def _check_default_experts(subject: Subject, build) -> None:
    """As users load it: in float32, with the experts that the class prefers."""
    if not subject.policy._can_set_experts_implementation():
        return
    models = [subject.build(seed, dtype=torch.float32) for seed in (0, 1)]
    readers = [FreshReader(model) for model in models]
    ids = random_batch((6,))[0]
    rows = [reader.last_logits(tuple(ids[0].tolist())).log_softmax(-1) for reader in readers]
    wrapped = build(models)  # which may put adapters into a model
    expected = (rows[0] + ALPHA * rows[1]).log_softmax(-1) if len(getattr(wrapped, "guides", [])) else rows[0]
    with torch.no_grad():
        given = wrapped(input_ids=ids).logits[0, -1].log_softmax(-1)
    _check((given - expected).abs().max() < 1e-3, "default experts", given, expected)


def _with_adapter(model):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        config = LoraConfig(r=2, target_modules=_adapted(model), init_lora_weights=False)
        return get_peft_model(model, config, adapter_name="arm").eval()


def _adapted(model) -> list[str]:
    """Attention's linear layers, or all but experts where there is none."""
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear | Conv1D)]
    refused = ("out_proj", "expert", "router", "gate", "vis", "audio", "head")  # the first by PEFT, on Mamba
    linear = [name for name in linear if not any(part in name for part in refused)]
    return [name for name in linear if "att" in name] or linear


def _searched(reader: FreshReader, channel, ids, mask, shape) -> torch.Tensor:
    @functools.cache
    @torch.no_grad()
    def read(prefix):
        output = reader.read(prefix, output_hidden_states=True)
        return output.logits[0, -1].float(), channel(output.hidden_states)[0, -1].item()

    rows = []
    for prompt, kept in zip(ids, mask.bool(), strict=True):
        chunks = reference_search(
            lambda prefix, n: read(tuple(prefix))[0].topk(n).indices.tolist(),
            lambda prefix: read(tuple(prefix))[1],
            prompt[kept].tolist(),
            max_new=NEW_TOKENS,
            eos={EOS},
            **shape,
        )
        rows.append(sum(chunks, []))
    return _padded(rows, "right")[0]


def _last_logits(reader: FreshReader, rows) -> torch.Tensor:
    return torch.stack([reader.last_logits(tuple(row)).float() for row in rows])


def _until_end(ids: list[int]) -> list[int]:
    return ids[: ids.index(EOS) + 1] if EOS in ids else ids


def _padded(rows: list[list[int]], side: str) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows))
    fill = [width - len(row) for row in rows]
    pairs = zip(rows, fill, strict=True)
    ids = [[PAD] * n + row if side == "left" else row + [PAD] * n for row, n in pairs]
    pairs = zip(rows, fill, strict=True)
    mask = [[0] * n + [1] * len(row) if side == "left" else [1] * len(row) + [0] * n for row, n in pairs]
    return torch.tensor(ids), torch.tensor(mask)


def _check_tokens(given: torch.Tensor, expected: torch.Tensor, what: str) -> None:
    _check(given.shape == expected.shape and torch.equal(given, expected), what, given, expected)


def _check_close(given: torch.Tensor, expected: torch.Tensor, what: str) -> None:
    close = torch.allclose(given.double(), expected.double(), rtol=1e-3, atol=1e-3)
    _check(close, what, given, expected)


def _check(holds: bool, what: str, given, expected) -> None:
    if not holds:
        shown = [value.tolist() if isinstance(value, torch.Tensor) else value for value in (given, expected)]
        raise WrongError(f"{what}: {shown[0]} instead of {shown[1]}")

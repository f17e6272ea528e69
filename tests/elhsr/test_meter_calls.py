"""The meter sees every call as `generate` does, and only the calls that it was made for."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from tiny import EOS, PAD, left_padded_batch, letter_tokenizer, tiny_causal_lm
from transformers import GenerationConfig, StoppingCriteria

from hf_reward_ext import GenARMLogitsProcessor, RewardTransformer, SLALogitsProcessor, sla_generate
from hf_reward_ext.elhsr import ELHSRModel, HiddenStateReward
from hf_reward_ext.elhsr.features import teacher_forced_features
from hf_reward_ext.elhsr.model import gated_mean

STOPS = (9, 10, 11)
LENGTH = 12
IDS, MASK = left_padded_batch()


def head_of(policy):
    head = ELHSRModel.from_policy(policy)
    torch.nn.init.normal_(head.linear.weight, std=0.05)
    return head


def metered(policy, *args, head=None, seed=3, **kwargs):
    torch.manual_seed(seed)
    with HiddenStateReward(policy, head or head_of(tiny_causal_lm())) as meter:
        out = policy.generate(*args, **kwargs)
    return getattr(out, "sequences", out), meter


def reward_alone(policy, head, prompt, written):
    """Reward of one completion, its own tokens read in one row without padding."""
    ids = torch.tensor([[*prompt, *written]])
    gates, rewards = head.token_rewards(teacher_forced_features(policy, head.config, ids, torch.ones_like(ids)))
    mask = torch.arange(ids.shape[1])[None] >= len(prompt)
    return gated_mean(gates, rewards, mask)[0]


SETTINGS = dict(max_new_tokens=30, do_sample=True, num_return_sequences=4)
WAYS = {
    "keywords": lambda policy: ((), dict(input_ids=IDS, **SETTINGS)),
    "an object": lambda policy: ((), dict(input_ids=IDS, generation_config=GenerationConfig(**SETTINGS))),
    "the object by position": lambda policy: ((IDS, GenerationConfig(**SETTINGS)), {}),
    "ids by position": lambda policy: ((IDS,), SETTINGS),
    "ids as inputs": lambda policy: ((), dict(inputs=IDS, **SETTINGS)),
    "object and keywords": lambda policy: (
        (IDS,), dict(generation_config=GenerationConfig(do_sample=True, max_new_tokens=30), num_return_sequences=4),
    ),
    "EOS and pad again": lambda policy: ((IDS,), dict(eos_token_id=[EOS], pad_token_id=PAD, **SETTINGS)),
    "EOS as a tensor": lambda policy: ((IDS,), dict(eos_token_id=torch.tensor(EOS), **SETTINGS)),
    "the model's own": lambda policy: policy.generation_config.update(**SETTINGS) or ((IDS,), {}),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.filterwarnings("ignore:Passing `generation_config`")
def test_however_the_settings_reach_generate(way):
    expected, reference = metered(tiny_causal_lm(), IDS, attention_mask=MASK, **SETTINGS)
    policy = tiny_causal_lm()
    args, kwargs = WAYS[way](policy)
    sequences, meter = metered(policy, *args, attention_mask=MASK, **kwargs)
    assert torch.equal(sequences, expected)
    assert torch.equal(meter.completion_mask, reference.completion_mask)
    torch.testing.assert_close(meter.rewards, reference.rewards)
    assert 3 < meter.completion_mask.sum(-1).float().mean() < 30


def test_settings_of_an_adapted_policy():
    lora = LoraConfig(target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    policy = get_peft_model(tiny_causal_lm(), lora).eval()
    policy.generation_config.update(**SETTINGS, eos_token_id=[EOS, 9])  # PEFT hands them to the base while it generates
    head = head_of(policy)
    sequences, meter = metered(policy, head=head, input_ids=IDS, attention_mask=MASK)
    for row, mask in zip(sequences[:, IDS.shape[1] :].tolist(), meter.completion_mask, strict=True):
        assert mask.sum() == next((n + 1 for n, token in enumerate(row) if token in (EOS, 9)), len(row))


class StopAt(StoppingCriteria):
    def __call__(self, input_ids, scores, **kwargs):
        return torch.isin(input_ids[:, -1], torch.tensor(STOPS))


PADS = {
    "pad is EOS": dict(eos_token_id=EOS, pad_token_id=EOS),
    "pad among EOS": dict(eos_token_id=[EOS, 17], pad_token_id=17),
    "no pad": dict(eos_token_id=[EOS, 17], pad_token_id=None),
    "own pad": dict(eos_token_id=EOS, pad_token_id=PAD),
}
ENDINGS = {
    "stop string": lambda: dict(
        stop_strings=letter_tokenizer().convert_ids_to_tokens(STOPS), tokenizer=letter_tokenizer()
    ),
    "criterion": lambda: dict(stopping_criteria=[StopAt()]),
    "length": lambda: dict(min_new_tokens=LENGTH),
    "EOS": lambda: {},
}
DECODINGS = {
    "greedy": dict(do_sample=False),
    "sampling": dict(do_sample=True),
    "returns": dict(do_sample=True, num_return_sequences=4),
    "beams": dict(do_sample=False, num_beams=3, num_return_sequences=2),
}


@pytest.mark.parametrize("decoding", DECODINGS)
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("pad", PADS)
def test_a_reward_does_not_depend_on_the_other_rows(pad, ending, decoding):
    policy = tiny_causal_lm()
    for name, value in PADS[pad].items():
        setattr(policy.generation_config, name, value)
    head = head_of(policy)
    settings = dict(max_new_tokens=LENGTH, **DECODINGS[decoding], **ENDINGS[ending]())
    sequences, meter = metered(policy, IDS, head=head, attention_mask=MASK, **settings)
    ends = set(STOPS) if ending in ("stop string", "criterion") else set()
    ends |= set() if ending == "length" else set(torch.tensor(PADS[pad]["eos_token_id"]).flatten().tolist())
    copies = len(sequences) // len(IDS)
    for number, row in enumerate(sequences.tolist()):
        prompt = [token for token, kept in zip(row, MASK[number // copies].tolist(), strict=False) if kept]
        written = row[IDS.shape[1] :]
        written = written[: next((n + 1 for n, token in enumerate(written) if token in ends), len(written))]
        assert meter.completion_mask[number].sum() == len(written)
        expected = reward_alone(policy, head, prompt, written)
        torch.testing.assert_close(meter.rewards[number], expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(meter.score(sequences[number : number + 1])[0], expected, atol=1e-4, rtol=1e-4)
        assert meter.is_finished[number] == (written[-1] in ends)


@pytest.mark.parametrize("mask", [MASK, None])
def test_without_a_mask_padding_is_seen_as_generate_sees_it(mask):
    policy = tiny_causal_lm()
    head = head_of(policy)
    for settings in (dict(), dict(pad_token_id=EOS), dict(num_beams=3), dict(use_cache=False)):
        sequences, meter = metered(
            policy, IDS, head=head, attention_mask=mask, max_new_tokens=5, do_sample=False, **settings
        )
        seen = torch.ones_like(IDS) if mask is None and settings.get("pad_token_id") == EOS else MASK
        full = torch.cat([seen, torch.ones(len(IDS), sequences.shape[1] - IDS.shape[1], dtype=torch.long)], -1)
        gates, rewards = head.token_rewards(teacher_forced_features(policy, head.config, sequences, full))
        length = meter.completion_mask.shape[1]
        expected = gated_mean(gates[:, -length:], rewards[:, -length:], meter.completion_mask)
        torch.testing.assert_close(meter.rewards, expected, atol=1e-4, rtol=1e-4)


def look_ahead():
    base = tiny_causal_lm()
    policy = RewardTransformer.from_base(base, channel_size=8)
    tree = dict(width=2, step=2, depth=1)
    return policy, (
        dict(custom_generate=sla_generate, **tree),
        dict(custom_generate=sla_generate, return_tree=True, **tree),
        dict(logits_processor=[SLALogitsProcessor(policy, **tree)], do_sample=False),
    )


def guided():
    policy = tiny_causal_lm()
    processors = [GenARMLogitsProcessor(policy)], [GenARMLogitsProcessor(tiny_causal_lm(seed=1), alpha=2.0)]
    return policy, tuple(dict(logits_processor=processor, do_sample=True) for processor in processors)


@pytest.mark.parametrize("make", [look_ahead, guided])
def test_other_forwards_of_the_policy_inside_generate(make):
    """Searches and guides run the policy too; only what `generate` writes counts."""
    policy, calls = make()
    head = head_of(policy)
    before = set(vars(policy))
    for call in calls:
        torch.manual_seed(3)
        plain = policy.generate(IDS, attention_mask=MASK, max_new_tokens=7, **call)
        sequences, meter = metered(policy, IDS, head=head, attention_mask=MASK, max_new_tokens=7, **call)
        assert torch.equal(sequences, getattr(plain, "sequences", plain))
        length = sequences.shape[1] - IDS.shape[1]
        full = torch.cat([MASK, torch.ones(len(IDS), length, dtype=torch.long)], -1)
        gates, rewards = head.token_rewards(teacher_forced_features(policy, head.config, sequences, full))
        expected = gated_mean(gates[:, -length:], rewards[:, -length:], meter.completion_mask)
        torch.testing.assert_close(meter.rewards, expected, atol=1e-4, rtol=1e-4)
    assert set(vars(policy)) == before  # a method that the instance had before comes back


def test_drafts_of_the_policy_for_itself():
    policy = tiny_causal_lm()
    ids, mask = left_padded_batch((6,))
    head = head_of(policy)
    plain, reference = metered(policy, ids, head=head, attention_mask=mask, max_new_tokens=LENGTH, do_sample=False)
    sequences, meter = metered(
        policy, ids, head=head, attention_mask=mask, max_new_tokens=LENGTH, do_sample=False, assistant_early_exit=2
    )
    assert torch.equal(sequences, plain)
    torch.testing.assert_close(meter.rewards, reference.rewards, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("asked", [True, [0], [0, 1, 2, 3]])
def test_hidden_states_that_the_user_asks_for_too(asked):
    policy = tiny_causal_lm()
    head = ELHSRModel.from_policy(policy, layers=[-1, 2])
    kwargs = dict(attention_mask=MASK, max_new_tokens=5, do_sample=False)
    _, reference = metered(policy, IDS, head=head, **kwargs)
    _, meter = metered(policy, IDS, head=head, output_hidden_states=asked, return_dict_in_generate=True, **kwargs)
    torch.testing.assert_close(meter.rewards, reference.rewards)


@pytest.mark.parametrize("num_threads", [2, 8])
def test_every_thread_has_a_meter_of_its_own_beside_plain_calls(num_threads):
    policy = tiny_causal_lm()
    head = head_of(policy)
    batches = [left_padded_batch((4, 6), seed=seed) for seed in range(num_threads)]
    settings = dict(max_new_tokens=8, do_sample=False)
    expected = [metered(policy, ids, head=head, attention_mask=mask, **settings)[1].rewards for ids, mask in batches]
    plain = policy.generate(IDS, attention_mask=MASK, **settings)

    def work(number):
        for _ in range(3):
            ids, mask = batches[number]
            with HiddenStateReward(policy, head) as meter:
                policy.generate(ids, attention_mask=mask, **settings)
            torch.testing.assert_close(meter.rewards, expected[number])
            assert torch.equal(policy.generate(IDS, attention_mask=MASK, **settings), plain)
        return True

    with ThreadPoolExecutor(num_threads) as pool:
        assert all(pool.map(work, range(num_threads)))
    assert not policy._forward_hooks and "generate" not in vars(policy)


def test_calls_of_other_threads_are_not_scored():
    policy = tiny_causal_lm()
    seen = []

    def plain():
        handle = policy.model.register_forward_pre_hook(
            lambda module, args, kwargs: seen.append(kwargs.get("output_hidden_states")), with_kwargs=True
        )
        policy.generate(IDS, attention_mask=MASK, max_new_tokens=3)
        handle.remove()

    with HiddenStateReward(policy, head_of(policy)) as meter:
        thread = threading.Thread(target=plain)
        thread.start()
        thread.join()
        assert len(seen) == 3 and not any(seen)
        with pytest.raises(RuntimeError, match="in the thread that entered the context"):
            _ = meter.rewards


def test_a_meter_in_one_thread_and_in_the_tasks_of_one_context():
    policy = tiny_causal_lm()
    meter = HiddenStateReward(policy, head_of(policy))
    settings = dict(attention_mask=MASK, max_new_tokens=3)
    running, done = threading.Event(), threading.Event()

    class Pause(StoppingCriteria):
        def __call__(self, input_ids, scores, **kwargs):
            running.set()
            assert done.wait(30)
            return torch.zeros(len(input_ids), dtype=torch.bool)

    async def main():
        with meter:
            first = asyncio.create_task(
                asyncio.to_thread(policy.generate, IDS, stopping_criteria=[Pause()], **settings)
            )
            await asyncio.to_thread(running.wait, 30)
            with pytest.raises(RuntimeError, match="one `generate` at a time"):
                await asyncio.to_thread(policy.generate, IDS, **settings)
            done.set()
            await first
        return meter.rewards

    rewards = asyncio.run(main())
    torch.testing.assert_close(rewards, metered(policy, IDS, head=meter.head, **settings)[1].rewards)

    with meter, ThreadPoolExecutor(1) as pool, pytest.raises(RuntimeError, match="one open `HiddenStateReward`"):
        pool.submit(meter.__enter__).result()


def test_a_failed_call_leaves_no_hooks():
    policy = tiny_causal_lm()

    class Fails(StoppingCriteria):
        def __call__(self, input_ids, scores, **kwargs):
            raise KeyboardInterrupt

    with HiddenStateReward(policy, head_of(policy)) as meter:
        with pytest.raises(KeyboardInterrupt):
            policy.generate(IDS, attention_mask=MASK, max_new_tokens=4, stopping_criteria=[Fails()])
        policy.generate(IDS, attention_mask=MASK, max_new_tokens=4)
    reference = metered(policy, IDS, head=meter.head, attention_mask=MASK, max_new_tokens=4)[1]
    torch.testing.assert_close(meter.rewards, reference.rewards)


def test_policies_whose_states_are_not_those_of_their_tokens():
    policy = get_peft_model(tiny_causal_lm(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    with pytest.raises(ValueError, match="must not have virtual tokens, got a `PromptTuningConfig`.* Use LoRA"):
        ELHSRModel.from_policy(policy)
    with pytest.raises(ValueError, match="virtual tokens"):
        HiddenStateReward(policy, head_of(tiny_causal_lm()))
    for no_model in (None, "name", torch.nn.Linear(2, 2)):
        with pytest.raises(TypeError, match="`policy` must be a causal LM"):
            ELHSRModel.from_policy(no_model)
        with pytest.raises(TypeError, match="`policy` must be a causal LM"):
            HiddenStateReward(no_model, head_of(tiny_causal_lm()))


@pytest.mark.parametrize("call", [dict(), dict(input_ids=None), dict(input_ids=[[3, 4]]), dict(input_ids=IDS[0])])
def test_calls_without_ids_are_refused(call):
    policy = tiny_causal_lm()
    with HiddenStateReward(policy, head_of(policy)), pytest.raises(ValueError, match=r"`input_ids` of shape"):
        policy.generate(max_new_tokens=2, **call)

import copy
import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from tiny import ARCHITECTURES, left_padded_batch, tiny_causal_lm, tiny_tokenizer
from torch.nn import functional as F
from transformers import AutoModel, LlamaConfig, LlamaForCausalLM

from hf_reward_ext.base.lm.forward import cache_of
from hf_reward_ext.sla import RewardChannel, RewardTransformer, RewardTransformerConfig


def reference_rewards(channel, hidden_states, eps):
    """The channel written as its formulas: `tt` layers on states 0..L-1, the head on state L."""

    def norm(x, weight):
        return weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)

    *lower, last = hidden_states
    state = None
    for number, hidden in enumerate(lower):
        weights = channel.layers[number]
        if number == 0:
            state = F.silu(norm(hidden, weights.norm.weight) @ weights.linear.weight.T)
        else:
            joint = torch.cat([hidden, state], dim=-1)
            state = F.silu(norm(joint, weights.norm.weight) @ weights.linear.weight.T) + joint[..., -state.shape[-1] :]
    return torch.cat([last, state], dim=-1) @ channel.head[0].weight[0]


def random_transformer(architecture="llama", seed=0, **overrides):
    torch.manual_seed(seed)
    rt = RewardTransformer.from_base(tiny_causal_lm(architecture, seed=seed, **overrides), channel_size=8)
    for name, parameter in rt.reward_channel.named_parameters():
        torch.nn.init.normal_(parameter, mean=1.0 if "norm" in name else 0.0, std=0.3)
    return rt.eval()


@pytest.fixture(scope="module")
def authors(fixtures_dir):
    """The authors' model with its weights under our names, and what it computed."""
    settings = json.loads((fixtures_dir / "sla.json").read_text())
    sizes = dict(settings["config"])
    channel_size = sizes.pop("channel_size")
    weights = load_file(fixtures_dir / "sla_weights.safetensors")
    base = LlamaForCausalLM(LlamaConfig(**sizes, attn_implementation="eager", tie_word_embeddings=False)).double()
    base.load_state_dict({name: value for name, value in weights.items() if name.startswith(("model.", "lm_head."))})
    rt = RewardTransformer.from_base(base, channel_size)
    channel = {
        f"layers.{name.split('.')[1]}.{'norm' if 'norm' in name else 'linear'}.weight": value
        for name, value in weights.items()
        if name.startswith("tt_layers.")
    }
    rt.reward_channel.load_state_dict({**channel, "head.0.weight": weights["sr_head.weight"][:1]})
    return rt.eval(), load_file(fixtures_dir / "sla_outputs.safetensors")


def test_forward_equals_the_authors(authors):
    rt, numbers = authors
    out = rt(input_ids=numbers["input_ids"], attention_mask=numbers["attention_mask"])
    real = numbers["attention_mask"].bool()
    assert out.token_rewards.dtype == torch.float64
    torch.testing.assert_close(out.token_rewards[real], numbers["sr_logits"][..., 0][real], atol=1e-7, rtol=0)
    torch.testing.assert_close(out.logits[real], numbers["logits"][real], atol=1e-7, rtol=0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_channel_equals_the_formulas_and_leaves_the_logits_alone(architecture):
    base = tiny_causal_lm(architecture)
    input_ids, attention_mask = left_padded_batch()
    alone = base(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True)
    before = {name: value.clone() for name, value in base.state_dict().items()}
    rt = RewardTransformer.from_base(base, channel_size=8).eval()
    for parameter in rt.reward_channel.parameters():
        torch.nn.init.normal_(parameter)
    out = rt(input_ids=input_ids, attention_mask=attention_mask)
    assert torch.equal(out.logits, alone.logits)
    assert out.hidden_states is None
    expected = reference_rewards(rt.reward_channel, alone.hidden_states, rt.reward_channel.config.rms_norm_eps)
    torch.testing.assert_close(out.token_rewards, expected, atol=1e-4, rtol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in base.state_dict().items())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_cache_padding_and_batch_do_not_matter(architecture):
    rt = random_transformer(architecture)
    lengths = (5, 3, 7, 1, 6, 2, 4, 8)
    left_ids, left_mask = left_padded_batch(lengths)
    right_ids, right_mask = torch.zeros_like(left_ids), torch.zeros_like(left_mask)
    rewards = {}
    with torch.no_grad():
        left = rt(
            input_ids=left_ids, attention_mask=left_mask, position_ids=(left_mask.cumsum(-1) - 1).clamp(min=0)
        ).token_rewards
        for row, length in enumerate(lengths):
            right_ids[row, :length], right_mask[row, :length] = left_ids[row, -length:], 1
        right = rt(input_ids=right_ids, attention_mask=right_mask).token_rewards
        for row, length in enumerate(lengths):
            ids = left_ids[row : row + 1, -length:]
            rewards["alone"] = rt(input_ids=ids).token_rewards[0]
            cache, steps = None, []
            for token in ids[0]:
                name = "past_key_values" if len(steps) % 2 else "cache"  # either name of transformers
                out = rt(input_ids=token[None, None], **{name: cache}, use_cache=True)
                cache = cache_of(out)
                steps.append(out.token_rewards[0])
            rewards["cached"] = torch.cat(steps)
            rewards["left"], rewards["right"] = left[row, -length:], right[row, :length]
            for way in ("cached", "left", "right"):
                torch.testing.assert_close(rewards[way], rewards["alone"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("architecture", ["llama", "gemma3_text"])
def test_generate_works_as_for_the_base(architecture):
    rt = random_transformer(architecture)
    input_ids, attention_mask = left_padded_batch()
    inputs = dict(input_ids=input_ids, attention_mask=attention_mask, max_new_tokens=8)
    for settings in ({}, {"num_beams": 3}, {"do_sample": True, "num_return_sequences": 2}):
        torch.manual_seed(1)
        expected = rt.base.generate(**inputs, **settings)
        torch.manual_seed(1)
        assert torch.equal(rt.generate(**inputs, **settings), expected)


def test_gradients_reach_only_the_channel():
    rt = random_transformer().train()
    assert rt.training and not rt.base.training
    rt(input_ids=torch.tensor([[3, 4, 5]])).token_rewards.sum().backward()
    assert all(parameter.grad is None for parameter in rt.base.parameters())
    assert all(parameter.grad.abs().sum() > 0 for parameter in rt.reward_channel.parameters())


def test_gradients_reach_the_base_when_it_is_not_frozen():
    rt = RewardTransformer.from_base(tiny_causal_lm(), channel_size=8, freeze_base=False).train()
    rt(input_ids=torch.tensor([[3, 4, 5]])).token_rewards.sum().backward()
    assert rt.base.training and rt.base.model.layers[0].self_attn.q_proj.weight.grad.abs().sum() > 0


def test_channel_is_saved_alone_and_comes_back_the_same(tmp_path):
    base, tokenizer = tiny_causal_lm(), tiny_tokenizer()
    base.save_pretrained(tmp_path / "base")
    base.config._name_or_path = str(tmp_path / "base")
    rt = RewardTransformer.from_base(base, channel_size=8, processing_class=tokenizer).eval()
    rt.save_pretrained(tmp_path / "channel")
    assert sorted(file.name for file in (tmp_path / "channel").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    saved = load_file(tmp_path / "channel" / "model.safetensors")
    assert (
        sum(value.numel() for value in saved.values())
        == rt.reward_channel.num_parameters()
        == 16 + 2 * 24 + 8 * (16 + 24 + 24) + 24
    )
    input_ids = torch.tensor([[3, 4, 5]])
    expected = rt(input_ids=input_ids).token_rewards
    for loaded in (
        RewardTransformer.from_pretrained(tmp_path / "channel"),
        RewardTransformer.from_pretrained(tmp_path / "channel", base=base, processing_class=tokenizer),
        AutoModel.from_pretrained(tmp_path / "channel"),
    ):
        assert isinstance(loaded, RewardTransformer) and not loaded.training
        torch.testing.assert_close(loaded(input_ids=input_ids).token_rewards, expected)


def test_state_of_the_channel_loads_into_the_whole():
    rt, other = random_transformer(seed=0), random_transformer(seed=1)
    rt.load_state_dict(other.reward_channel.state_dict(), strict=False)
    for one, two in zip(rt.reward_channel.parameters(), other.reward_channel.parameters(), strict=True):
        assert torch.equal(one, two)
    rt.load_state_dict(copy.deepcopy(rt.state_dict()))


def test_another_base_is_refused(tmp_path):
    base, tokenizer = tiny_causal_lm(), tiny_tokenizer()
    base.config._name_or_path = "some/base"
    RewardTransformer.from_base(base, channel_size=8, processing_class=tokenizer).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"hidden_size=24.*this reward channel was trained with `hidden_size=16`"):
        RewardTransformer.from_pretrained(tmp_path, base=tiny_causal_lm(hidden_size=24))
    other = tiny_causal_lm()
    other.config._name_or_path = "other/base"
    with pytest.raises(ValueError, match="Load 'some/base'"):
        RewardTransformer.from_pretrained(tmp_path, base=other)
    tokenizer.chat_template += " "
    with pytest.raises(ValueError, match="template_hash"):
        RewardTransformer.from_pretrained(tmp_path, base=base, processing_class=tokenizer)


def test_a_base_without_a_name_has_to_be_given(tmp_path):
    RewardTransformer.from_base(tiny_causal_lm(), channel_size=8).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="Pass `base=`"):
        RewardTransformer.from_pretrained(tmp_path)


def test_adapters_on_the_base_count():
    base = get_peft_model(tiny_causal_lm(), LoraConfig(target_modules="all-linear", init_lora_weights=False))
    rt = RewardTransformer.from_base(base.eval(), channel_size=8).eval()
    input_ids = torch.tensor([[3, 4, 5]])
    out = rt(input_ids=input_ids)
    assert torch.equal(out.logits, base(input_ids=input_ids).logits)
    states = rt.backbone_hidden_states(input_ids, torch.ones_like(input_ids))
    torch.testing.assert_close(rt.reward_channel(states), out.token_rewards)
    with base.disable_adapter():
        assert not torch.allclose(rt(input_ids=input_ids).token_rewards, out.token_rewards)
    with pytest.raises(ValueError, match=r"adapters \[\].*adapter 'default'"):
        rt.reward_channel.check_base(tiny_causal_lm())


def test_half_precision_base_gives_float32_rewards():
    rt = RewardTransformer.from_base(tiny_causal_lm(dtype=torch.bfloat16), channel_size=8).eval()
    assert rt.reward_channel.dtype == torch.bfloat16
    out = rt(input_ids=torch.tensor([[3, 4, 5]]))
    assert out.token_rewards.dtype == torch.float32 and out.logits.dtype == torch.bfloat16


def test_a_head_on_the_last_state_alone():
    base = tiny_causal_lm()
    rt = RewardTransformer.from_base(base, layers=[-1])
    input_ids = torch.tensor([[3, 4, 5]])
    last = base(input_ids=input_ids, output_hidden_states=True).hidden_states[-1]
    expected = last @ rt.reward_channel.head[0].weight[0]
    torch.testing.assert_close(rt(input_ids=input_ids).token_rewards, expected)
    wide = RewardTransformer.from_base(base, layers=[-1], head_size=4)
    assert wide.reward_channel.num_parameters() == 16 * 4 + 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(layers=[4]), r"`layers` must be .*0 \(embedding\) to 3.*got \[4\]"),
        (dict(layers=[]), "Choose among them"),
        (dict(layers=[3, -1]), "must not repeat a layer"),
        (dict(channel_size=0), "`channel_size` must be .*got 0"),
    ],
)
def test_config_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        RewardTransformerConfig(hidden_size=4, num_layers=3, **change)


def test_what_is_no_causal_lm_is_refused():
    with pytest.raises(TypeError, match="got a `Linear`.*AutoModelForCausalLM"):
        RewardTransformer.from_base(torch.nn.Linear(2, 2))


def test_wrong_hidden_states_are_refused():
    channel = RewardChannel(RewardTransformerConfig(hidden_size=4, num_layers=2, channel_size=2))
    with pytest.raises(ValueError, match="gave 2 hidden states.*for 3"):
        channel([torch.zeros(1, 1, 4)] * 2)
    with pytest.raises(ValueError, match="gave no hidden states"):
        channel(None)
    with pytest.raises(ValueError, match="width 4 of this channel, got 5"):
        channel([torch.zeros(1, 1, 5)] * 3)

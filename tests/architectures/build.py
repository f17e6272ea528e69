"""Every causal language model of transformers, tiny: one set of sizes for all, and what some of them need besides."""

import inspect

import torch
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, GenerationConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

VOCAB = 32
PAD, BOS, EOS = 0, 1, 2
# Policies that read images too and that `AutoModelForCausalLM` does not know.
MULTIMODAL = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "llava", "mistral3", "internvl", "smolvlm")
MODEL_TYPES = (*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *MULTIMODAL)

# Given to every configuration that has the field. Windows and chunks are shorter than the texts that are read.
SIZES = dict(
    vocab_size=VOCAB, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=8, max_position_embeddings=64, pad_token_id=PAD, bos_token_id=BOS,
    eos_token_id=EOS, initializer_range=0.5, tie_word_embeddings=False, is_decoder=True, sliding_window=4,
    encoder_layers=2, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=4, encoder_ffn_dim=32,
    decoder_ffn_dim=32, ffn_dim=32, max_source_positions=64, max_target_positions=64, embedding_size=16,
    num_experts=4, num_local_experts=4, n_routed_experts=4, moe_num_experts=4, num_experts_per_tok=2,
    moe_intermediate_size=16, n_group=1, topk_group=1, n_shared_experts=1, shared_expert_intermediate_size=16,
    shared_experts_intermediate_size=16, shared_intermediate_size=16, moe_shared_expert_intermediate_size=16,
    q_lora_rank=8, kv_lora_rank=8, qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=8,
    index_head_dim=8, index_n_heads=4, index_topk=4,
    linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8, linear_value_head_dim=8,
    linear_head_dim=8, linear_num_heads=2,
    mamba_n_heads=4, mamba_num_heads=4, mamba_d_head=8, mamba_head_dim=8, mamba_d_state=4, mamba_dt_rank=2,
    mamba_n_groups=1, n_groups=1, ssm_state_size=4, state_size=4, time_step_rank=2, chunk_size=4, mamba_chunk_size=4,
    rotary_dim=4, dropout=0.0, attention_dropout=0.0, hidden_dropout=0.0, activation_dropout=0.0,
    # Encoders of images and sounds, which no text reaches.
    depth=1, num_heads=2, image_size=28, patch_size=14, num_blocks=1, out_hidden_size=16, mlp_dim=32, num_mel_bins=8,
    output_channels=16, global_attn_indexes=(0,), mm_embed_dim=16, output_proj_dims=16, num_global_layers=1,
)  # fmt: skip
# One entry per layer: the tiny model has one layer of each kind.
PER_LAYER = ("layer_types", "mlp_layer_types", "layers_block_type", "indexer_types")


def small_config(model_type: str, **overrides):
    """The configuration of a type of model with our sizes."""
    return _small(CONFIG_MAPPING[model_type], overrides)


def tiny_model(model_type: str, seed: int = 0, dtype: torch.dtype = torch.float64, **overrides):
    """A random model in evaluation mode."""
    config = small_config(model_type, **overrides)
    auto = AutoModelForImageTextToText if model_type in MULTIMODAL else AutoModelForCausalLM
    attention = "sdpa" if auto._model_mapping[type(config)]._supports_sdpa else "eager"
    attention = ATTENTION.get(model_type, attention)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = auto.from_config(config, attn_implementation=attention).to(dtype).eval()
    head = model.get_output_embeddings()
    if getattr(head, "bias", None) is not None:  # RoBERTa and its kin count positions by looking for padding
        head.bias.data[PAD] = -100.0
    model.generation_config = GenerationConfig(pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS)
    return model


def _small(config_class, given: dict):
    known = set(inspect.signature(config_class.__init__).parameters) | set(config_class.attribute_map)
    sizes = {**SIZES, **_kinds_of_layers(config_class)}
    fields = {config_class.attribute_map.get(name, name): value for name, value in sizes.items() if name in known}
    if "kv_lora_rank" in fields:  # one key per query head
        fields["num_key_value_heads"] = fields["num_attention_heads"]
    own = {**OWN.get(config_class.model_type, {}), **given}
    for name, part in config_class.sub_configs.items():
        if part is AutoConfig:
            part = type(getattr(config_class(), name))
        own[name] = _small(part, own.get(name, {})).to_dict()
    return config_class(**{**fields, **own})


def _kinds_of_layers(config_class) -> dict:
    try:
        default = config_class()
    except ValueError:
        return {}
    known = set(inspect.signature(config_class.__init__).parameters)
    kinds = {name: list(dict.fromkeys(getattr(default, name, None) or [])) for name in PER_LAYER if name in known}
    count = max(2, *map(len, kinds.values())) if kinds else 2
    found = {name: [own[layer % len(own)] for layer in range(count)] for name, own in kinds.items() if own}
    return {**found, "num_hidden_layers": count}


# What a type needs besides; a dictionary under the name of a part goes to that part.
ATTENTION = {"gemma4": "eager"}  # parts of it have no other
# What cannot be built, and why.
UNBUILT = {
    "blt": "`generate` itself fails: a `BltConfig` has no `num_hidden_layers` to build a cache from",
    "gemma3n": "needs the package timm; its text part is `gemma3n_text`",
    "gemma4_assistant": "a drafter that reads the keys of another model",
    "gemma4_unified_assistant": "a drafter that reads the keys of another model",
    "musicgen": "`AutoModelForCausalLM.from_config` itself fails: the class takes another configuration",
    "musicgen_melody": "`AutoModelForCausalLM.from_config` itself fails: the class takes another configuration",
}
_INKLING = dict(
    swa_num_attention_heads=4, swa_num_key_value_heads=2, swa_head_dim=8, sliding_window_size=4, d_rel=4, rel_extent=8,
)  # fmt: skip
_MROPE = dict(rope_parameters=dict(rope_type="default", mrope_section=[1, 1, 0]))
_TWICE = ["sliding_attention", "full_attention"] * 2  # the second half reuses the keys of the first
# What a type needs besides; a dictionary under the name of a part goes to that part.
OWN: dict[str, dict] = {
    "afmoe": dict(num_dense_layers=1),
    "axk2": dict(index_topk=64),  # where an indexer cuts, cache and padding of transformers itself are not exact
    "bamba": dict(attn_layer_indices=[1]),
    "blt": dict(encoder_hash_byte_group_vocab=20),
    "cohere_compass_text": dict(
        rope_parameters={kind: dict(rope_type="default", rope_theta=10000.0) for kind in set(_TWICE)}
    ),
    "cpmant": dict(dim_head=8, dim_ff=32, prompt_types=4, prompt_length=2),
    "ctrl": dict(dff=32),
    "dbrx": dict(
        ffn_config=dict(ffn_hidden_size=32, hidden_size=16),
        attn_config=dict(kv_n_heads=2, rope_theta=10000.0, clip_qkv=8.0),
    ),
    "deepseek_v32": dict(index_topk=64),
    "deepseek_v4": dict(num_key_value_heads=1, o_groups=2, o_lora_rank=8, partial_rotary_factor=0.5),
    "dory": dict(
        num_hidden_layers=3, n_input_layers=1, n_recurrent_layers=1, n_output_layers=1,
        layer_types=["sliding_attention", "full_attention", "full_attention"],
    ),
    "dots3_note": dict(
        vision_config=dict(adapter_in_dim=16, adapter_out_dim=16),
        audio_config=dict(adapter_input_size=16, adapter_out_dim=16),
    ),
    "dots3_note_text": dict(
        index_topk=64, head_dim=16, swa_num_attention_heads=4, swa_num_key_value_heads=4, swa_q_lora_rank=8,
        swa_kv_lora_rank=8, swa_head_dim=16, swa_qk_nope_head_dim=8, swa_qk_rope_head_dim=8, swa_v_head_dim=8,
    ),
    "falcon_h1": dict(mamba_d_ssm=32),
    "gemma3n_text": dict(
        num_hidden_layers=4, layer_types=_TWICE, num_kv_shared_layers=2, intermediate_size=[32] * 4, laurel_rank=8,
        hidden_size_per_layer_input=8, vocab_size_per_layer_input=VOCAB, 
        activation_sparsity_pattern=[0.5, 0.0, 0.0, 0.0],
    ),
    "gemma4_text": dict(
        num_hidden_layers=4, layer_types=_TWICE, num_kv_shared_layers=2, hidden_size_per_layer_input=8,
        vocab_size_per_layer_input=VOCAB, global_head_dim=16,
    ),
    "gemma4_unified_text": dict(global_head_dim=16),
    "glm_moe_dsa": dict(index_topk=64),
    "gpt_neo": dict(num_layers=2, attention_types=[[["global", "local"], 1]], window_size=4),
    "granitemoehybrid": dict(layer_types=["mamba", "attention"]),
    "helium": dict(head_dim=4),
    "hy_v4": dict(index_topk=64),
    "inkling2_loop_text": dict(
        num_hidden_layers=3, layer_types=["hybrid_sliding", "hybrid", "hybrid"], loop_layer_index_start=1,
        loop_layer_index_end=2, loop_num_passes=2, loop_gate_rank=4, unpadded_vocab_size=VOCAB,
        n_layers_per_attn_res_block=1, **_INKLING,
    ),
    "inkling2_text": dict(unpadded_vocab_size=VOCAB, **_INKLING),
    "inkling_text": _INKLING,
    "jamba": dict(attn_layer_period=2, attn_layer_offset=1),
    "lfm2_moe": dict(layer_types=["conv", "full_attention"], num_dense_layers=1),
    "longcat_flash": dict(num_layers=1, zero_expert_num=2, moe_topk=2, expert_ffn_hidden_size=16, ffn_hidden_size=32),
    "mamba2": dict(num_heads=4, head_dim=8),
    "mpt": dict(n_heads=4),
    "nemotron_h": dict(time_step_min=1e-9),  # transformers itself clamps steps in the prompt and not after it
    "phi4_multimodal": dict(audio_config=dict(nemo_conv_channels=8, ext_pw_out_channel=16)),
    "prophetnet": dict(num_decoder_layers=2, num_encoder_layers=2),
    "qwen2_5_vl": dict(text_config=_MROPE),
    "qwen2_vl": dict(text_config=_MROPE, vision_config=dict(embed_dim=16)),
    "qwen4_exp_text": dict(
        indexer_n_heads=2, indexer_kv_heads=1, indexer_head_dim=8, indexer_budget=4, indexer_compress_ratio=2,
        hc_lowrank=8,
    ),
    "recurrent_gemma": dict(block_types=["recurrent", "attention"]),
    "reformer": dict(
        axial_pos_embds=False, attn_layers=["local", "lsh"], attention_head_size=8, feed_forward_size=32, hash_seed=0,
    ),
    "rembert": dict(input_embedding_size=16, output_embedding_size=16),
    "roc_bert": dict(pronunciation_embed_dim=8, shape_embed_dim=8, pronunciation_vocab_size=8, shape_vocab_size=8),
    "xlnet": dict(d_head=4, d_inner=32),
    "xlstm": dict(hidden_size=128, num_heads=2),
    "xmod": dict(default_language="en_XX"),
    "zamba2": dict(time_step_min=1e-9),
    "zaya": dict(num_experts_per_tok=1, router_hidden_size=16),
}  # fmt: skip

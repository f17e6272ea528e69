"""Causal LM that returns a reward for every token in addition to its logits."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM, Cache, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from hf_reward_ext.base.lm.composite_calls import check_composite_call, refuse_continuous_batching
from hf_reward_ext.base.lm.experts import optimized_for_decode
from hf_reward_ext.base.lm.forward import cache_field, cache_name, cache_of, check_keywords, take_cache
from hf_reward_ext.base.lm.generate_hook import install_generate_hook, named_call
from hf_reward_ext.base.saving.base_model import load_base
from hf_reward_ext.base.saving.base_pointer import base_pointer
from hf_reward_ext.base.saving.upload import push_folder, push_model
from hf_reward_ext.base.scoring.scorer import Scorer
from hf_reward_ext.sla.channel import RewardChannel
from hf_reward_ext.sla.model_config import RewardTransformerConfig
from hf_reward_ext.sla.text_classifier import RewardTransformerForSequenceClassification

_CHANNEL = "reward_channel."  # prefix of the channel's weights


@dataclass
class RewardTransformerOutput(CausalLMOutputWithPast):
    """
    Output of [`RewardTransformer`].

    Args:
        token_rewards (`torch.Tensor` of shape `(batch, seq)`): Reward after reading each token, float32 or wider.
    """

    token_rewards: Tensor | None = None


class RewardTransformer(PreTrainedModel, GenerationMixin):
    r"""
    Causal LM with a [`RewardChannel`] next to its layers.

    $$ \text{logits}_t, r_t = \text{RT}(x, y_{\le t}) $$

    The Reward Transformer of [SLA](https://huggingface.co/papers/2503.00029): $r_t$ is the reward after *reading* $y_t$
    (it is at the position of $y_t$, where the logits predict $y_{t+1}$). The inputs and logits of the base are not
    changed. Only the channel is saved, not the base.

    Args:
        base (`PreTrainedModel` or `PeftModel`): Any causal LM that returns hidden states: half precision, LoRA,
            quantized or sharded.
        reward_channel ([`RewardChannel`]): Channel of this base.

    Raises:
        ValueError: If the channel belongs to another base.

    Example:
    ```python
    >>> rt = RewardTransformer.from_base(AutoModelForCausalLM.from_pretrained("name"))
    >>> rt(**inputs).token_rewards  # (batch, seq)
    >>> rt.generate(**inputs, custom_generate=sla_generate, width=2, step=10, depth=2)
    ```
    """

    config_class = RewardTransformerConfig
    base_model_prefix = ""
    supports_gradient_checkpointing = True
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True

    def __init__(self, base, reward_channel: RewardChannel):
        reward_channel.check_base(base)
        config = copy.deepcopy(base.config)  # `generate` builds its cache from this config
        config.num_labels = 1  # read by TRL's reward trainer
        super().__init__(config)
        self.base = base
        self.reward_channel = reward_channel
        self.generation_config = copy.deepcopy(base.generation_config)
        inner = base.get_base_model() if hasattr(base, "peft_config") else base
        self.prepare_inputs_for_generation = inner.prepare_inputs_for_generation  # `generate` looks at its signature  # pyright: ignore
        self._supports_default_dynamic_cache = inner._supports_default_dynamic_cache  # or the base has its own kind  # pyright: ignore[reportAttributeAccessIssue]
        if hasattr(base, "hf_device_map"):
            self.hf_device_map = base.hf_device_map

    @classmethod
    def from_base(
        cls, base, channel_size: int = 256, *, processing_class=None, freeze_base: bool = True, **config_kwargs
    ) -> Self:
        """
        Create a Reward Transformer with a new channel.

        Args:
            base (`PreTrainedModel` or `PeftModel`): A causal LM.
            channel_size (`int`, defaults to 256): Width of the channel; 256 in the paper.
            processing_class (*optional*): Tokenizer, whose chat template is stored with the channel.
            freeze_base (`bool`, defaults to `True`): Whether to disable the gradients of the base.
            **config_kwargs: Fields of [`RewardTransformerConfig`] (`layers`, ...).

        Raises:
            TypeError: If `base` is no causal LM.
            ValueError: If `base` is an encoder-decoder.
        """
        if not hasattr(base, "generation_config"):
            raise TypeError(
                f"`base` must be a causal LM, got a `{type(base).__name__}`. Load it with "
                "`AutoModelForCausalLM.from_pretrained`."
            )
        pointer = base_pointer(base, processing_class)
        text_config = base.config.get_text_config(decoder=True)
        config_kwargs.setdefault("rms_norm_eps", getattr(text_config, "rms_norm_eps", 1e-6))
        config_kwargs.setdefault("initializer_range", getattr(text_config, "initializer_range", 0.02))
        config = RewardTransformerConfig(
            hidden_size=text_config.hidden_size,
            num_layers=text_config.num_hidden_layers,
            channel_size=channel_size,
            **{**pointer, **config_kwargs},
        )
        channel = RewardChannel(config)
        if freeze_base:
            base.requires_grad_(False)
        return cls(base, _beside(base, channel))

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path,
        base=None,
        *,
        processing_class=None,
        config=None,
        revision: str | None = None,
        **base_kwargs,
    ) -> Self:
        """
        Load a channel and combine it with its base.

        Args:
            pretrained_model_name_or_path (`str`): Name or folder of the channel.
            base (`PreTrainedModel` or `PeftModel`, *optional*): Base model. Default: loaded by the name in the
                channel's config.
            processing_class (*optional*): Tokenizer, whose chat template is compared with that of the training.
            config ([`RewardTransformerConfig`], *optional*): Configuration of the channel. Default: the saved one.
            revision (`str`, *optional*): Revision of the channel; the revision of the base is in its config.
            **base_kwargs: Arguments for loading the base (`dtype`, `device_map`, `quantization_config`, ...).

        Raises:
            ValueError: If `base` is not the one the channel was trained on, or no base is known.
        """
        base_kwargs.pop("adapter_kwargs", None)  # passed by the Auto classes
        revision = revision or "main"
        channel = RewardChannel.from_pretrained(pretrained_model_name_or_path, config=config, revision=revision)
        if base is None:
            base = _load_base(channel.config, pretrained_model_name_or_path, base_kwargs)  # pyright: ignore[reportAttributeAccessIssue]
            base.requires_grad_(False)
        channel.check_base(base, processing_class)  # pyright: ignore[reportAttributeAccessIssue]
        return cls(base, _beside(base, channel)).eval()  # pyright: ignore[reportArgumentType]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: Cache | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        output_hidden_states: bool | list[int] | None = None,
        hidden_states: Sequence[Tensor | None] | None = None,
        compute_logits: bool = True,
        detach_hidden_states: bool = False,
        **kwargs,
    ) -> RewardTransformerOutput:
        """
        Compute the logits of the base, and `token_rewards` of every position.

        Args:
            hidden_states (`tuple` of `torch.Tensor`, *optional*): Precomputed hidden states of the base; only the
                channel is run, without logits.
            cache, past_key_values (`Cache`, *optional*): Cache, under either name of transformers.
            compute_logits (`bool`, defaults to `True`): Whether to run the LM head. If `False`, texts must be padded
                on the right.
            detach_hidden_states (`bool`, defaults to `False`): Whether to stop the gradients of the rewards at the
                channel.
            **kwargs, other arguments: Arguments of the base.
        """
        if hidden_states is not None:
            return RewardTransformerOutput(token_rewards=self.reward_channel(hidden_states))
        if not compute_logits:
            states = self.backbone_hidden_states(input_ids, attention_mask)
            return RewardTransformerOutput(token_rewards=self.reward_channel(states))
        given = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "position_ids": position_ids,
            "inputs_embeds": inputs_embeds,
            "use_cache": use_cache,
            "logits_to_keep": logits_to_keep if isinstance(logits_to_keep, Tensor) else logits_to_keep or None,
        }
        cache = take_cache({"cache": cache, "past_key_values": past_key_values})
        if cache is not None:
            given[cache_name(self.base)] = cache
        kwargs.pop("tokenizer", None)  # `generate` passes it with `stop_strings`; no model uses it
        seen = {"attention_mask": attention_mask, "position_ids": position_ids, "inputs_embeds": inputs_embeds}
        check_keywords(self.base, kwargs.keys() | {name for name, value in seen.items() if value is not None})
        output = self.base(
            **{name: value for name, value in given.items() if value is not None},
            output_hidden_states=True if output_hidden_states else list(self.reward_channel.config.layers),
            **{**kwargs, "return_dict": True},
        )
        states = output.hidden_states
        if detach_hidden_states and states is not None:
            states = [None if state is None else state.detach() for state in states]
        return RewardTransformerOutput(
            loss=output.loss,
            logits=output.logits,
            **cache_field(RewardTransformerOutput, cache_of(output)),  # pyright: ignore[reportArgumentType]
            hidden_states=output.hidden_states if output_hidden_states else None,
            attentions=getattr(output, "attentions", None),
            token_rewards=self.reward_channel(states),
        )

    def generate(self, *args, **kwargs):
        install_generate_hook()  # rejects arguments that `generate` would not pass to `sla_generate`
        check_composite_call(named_call(self, args, kwargs))
        return super().generate(*args, **kwargs)  # pyright: ignore[reportAttributeAccessIssue]

    def init_continuous_batching(self, *args, **kwargs):
        refuse_continuous_batching(self)

    def backbone_hidden_states(self, input_ids, attention_mask) -> tuple[Tensor | None, ...]:
        """Return the hidden states of right-padded texts for the channel, without running the LM head."""
        base = self.base.get_base_model() if hasattr(self.base, "peft_config") else self.base
        output = base.base_model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            use_cache=False,
            output_hidden_states=list(self.reward_channel.config.layers),
        )
        return output.hidden_states

    def train(self, mode: bool = True) -> Self:
        """Set the training mode; a frozen base stays in evaluation mode."""
        super().train(mode)
        if mode and not any(parameter.requires_grad for parameter in self.base.parameters()):
            self.base.eval()
        return self

    def gradient_checkpointing_enable(self, *args, **kwargs):
        self.base.gradient_checkpointing_enable(*args, **kwargs)

    def gradient_checkpointing_disable(self):
        self.base.gradient_checkpointing_disable()

    @classmethod
    def _can_set_experts_implementation(cls) -> bool:
        return True  # the base already uses the experts that its configuration names

    def set_experts_implementation(self, experts_implementation: str | dict) -> None:
        """Set the implementation of the base; transformers skips inner models with the same configuration class."""
        for model in (self.base,):
            model.set_experts_implementation(experts_implementation)
        self.config._experts_implementation = experts_implementation  # pyright: ignore[reportAttributeAccessIssue]

    def set_attn_implementation(self, attn_implementation: str | dict, allow_all_kernels: bool = False) -> None:
        """Set the implementation of the base, and in the config, which determines the masks of static caches."""
        for model in (self.base,):
            model.set_attn_implementation(attn_implementation, allow_all_kernels)
        self.config._attn_implementation = attn_implementation  # pyright: ignore[reportAttributeAccessIssue]

    def _optimize_model_for_decode(self):
        return optimized_for_decode([self.base])

    def get_input_embeddings(self):
        return self.base.get_input_embeddings()

    def get_output_embeddings(self):
        return self.base.get_output_embeddings()

    def save_pretrained(self, save_directory, *, state_dict=None, push_to_hub: bool = False, **kwargs):
        """
        Save the channel with a pointer to its base, and the policy if it was trained with the channel.

        Args:
            save_directory (`str` or `Path`): Folder to save to.
            push_to_hub (`bool`, *optional*): Whether to upload the folder, to `repo_id` or a repository with the name
                of the folder.
            **kwargs: As for [`RewardChannel.save_pretrained`].
        """
        repo_id = kwargs.pop("repo_id", None)
        own = [name for name in state_dict or {} if name.startswith(_CHANNEL)]
        if own:  # whole weights, of which the model itself may have shards
            kwargs["state_dict"] = {name.removeprefix(_CHANNEL): state_dict[name] for name in own}
        self.reward_channel.save_pretrained(save_directory, **kwargs)
        config = self.reward_channel.config
        if config.policy_folder is not None and state_dict is None:  # a trainer passes one and saves the policy itself
            names = {} if config.adapter is None else {"selected_adapters": [config.adapter]}
            self.base.save_pretrained(Path(save_directory) / Path(config.policy_folder).parts[0], **names)
        if push_to_hub:
            push_folder(save_directory, repo_id or Path(save_directory).resolve().name, token=kwargs.get("token"))

    def scorer(self, tokenizer=None, batch_size: int = 16) -> Scorer:
        """Score completions by their mean token reward; for [`as_scorer`]."""
        return RewardTransformerForSequenceClassification(self).scorer(tokenizer, batch_size)

    def push_to_hub(self, repo_id: str, **kwargs):  # pyright: ignore[reportIncompatibleMethodOverride]
        """Upload the files of [`save_pretrained`]; arguments as for [`RewardChannel.push_to_hub`]."""
        return push_model(self, repo_id, **kwargs)

    def load_state_dict(self, state_dict, strict: bool = True, assign: bool = False):
        """Load a state of the whole model, or a saved state of the channel alone."""
        if set(state_dict) == set(self.reward_channel.state_dict()):
            return self.reward_channel.load_state_dict(state_dict, strict, assign)
        return super().load_state_dict(state_dict, strict, assign)


def _beside(base, channel: RewardChannel) -> RewardChannel:
    """Move the channel to the last device of the base, in its float type."""
    output = base.get_output_embeddings()
    weights = [] if output is None else list(output.parameters())
    devices = [weight.device for weight in (*weights, *base.parameters())]
    present = [device for device in devices if device.type != "meta"]  # offloaded weights have no device
    dtype = base.dtype if base.dtype.is_floating_point else torch.float32
    device = present[0] if present else torch.device("cpu")
    return channel.to(device, dtype)  # pyright: ignore[reportArgumentType]


def _load_base(config: RewardTransformerConfig, path_or_repo, kwargs: dict):
    """Load the base by its name, or the policy that was trained with the channel from its folder."""
    if config.policy_folder is not None and config.adapter is None:
        return AutoModelForCausalLM.from_pretrained(path_or_repo, subfolder=config.policy_folder, **kwargs)
    if config.base_model_name_or_path is None or (config.adapter is not None and config.policy_folder is None):
        missing = "one without a name" if config.adapter is None else f"the adapter {config.adapter!r} on its base"
        raise ValueError(f"`base` must be given for a channel that was trained on {missing}, got None. Pass `base=`.")
    base = load_base(config, **kwargs)
    if config.adapter is None:
        return base
    return PeftModel.from_pretrained(base, path_or_repo, adapter_name=config.adapter, subfolder=config.policy_folder)

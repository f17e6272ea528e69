"""Reward Transformer that a trainer trains, and the folder of its policy."""

from pathlib import Path
from typing import Any

import torch
from transformers import set_seed

from hf_reward_ext.sla.model import RewardTransformer
from hf_reward_ext.sla.trainer_config import SLAConfig

POLICY_FOLDER = "policy"


def transformer_to_train(base, given: RewardTransformer | None, args: SLAConfig, processing_class) -> RewardTransformer:
    """Return the given Reward Transformer, its channel on a base with a new adapter, or a new one."""
    has_same_tokens = args.eos_token is None and args.chat_template_path is None
    if given is not None and given.base is base and has_same_tokens:
        transformer = given
    elif given is not None:  # its configuration is a copy of the base's earlier one
        transformer = RewardTransformer(base, given.reward_channel)
        transformer.reward_channel.config.adapter = base.active_adapter if hasattr(base, "peft_config") else None
    else:
        set_seed(args.seed)
        transformer = RewardTransformer.from_base(
            base, args.channel_size, processing_class=processing_class, layers=args.layers, head_size=args.head_size
        )
    transformer.reward_channel.check_base(transformer.base, processing_class)
    if transformer.reward_channel.dtype in (torch.float16, torch.bfloat16):
        transformer.reward_channel.float()  # small updates would be lost in half precision
    return transformer


def set_gradients(transformer: RewardTransformer, trains_policy: bool) -> None:
    """
    Enable gradients of the channel, and of the policy or its adapter if it is trained.

    Raises:
        ValueError: If the weights of a quantized base would be trained.
    """
    base: Any = transformer.base
    base.requires_grad_(False)
    transformer.reward_channel.requires_grad_(True)
    if not trains_policy:
        return
    if hasattr(base, "peft_config"):
        base.set_adapter(base.active_adapter)  # enables the gradients of its weights again
    elif getattr(base, "is_quantized", False):
        raise ValueError(
            f"The base is quantized, but `policy_loss` or `freeze_base=False` trains its weights. Pass `peft_config=` "
            f"to train an adapter on the `{type(base).__name__}`."
        )
    else:
        base.requires_grad_(True)


def point_to_policy(transformer: RewardTransformer) -> None:
    """Write into the channel's config where the trained policy is saved."""
    config = transformer.reward_channel.config
    config.policy_folder = POLICY_FOLDER
    if config.adapter is None:  # a fully fine-tuned policy no longer matches its name
        config.base_model_name_or_path = config.base_model_revision = None
    elif config.adapter != "default":
        config.policy_folder = f"{POLICY_FOLDER}/{config.adapter}"


def policy_folder(checkpoint: str, adapter: str | None) -> Path:
    """Return the folder of the policy; PEFT saves adapters other than the default one in subfolders."""
    folder = Path(checkpoint) / POLICY_FOLDER
    return folder / adapter if adapter not in (None, "default") else folder

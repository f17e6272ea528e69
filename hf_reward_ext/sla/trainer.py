"""Trainer of a reward channel, and optionally of the policy, based on TRL's `RewardTrainer`."""

import copy
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from datasets import Dataset
from peft import get_peft_model, load_peft_weights, set_peft_model_state_dict
from torch import Tensor
from transformers import AutoModelForCausalLM

from hf_reward_ext.base.preference.completion_start import set_completion_start
from hf_reward_ext.base.preference.datasets import columns_of
from hf_reward_ext.base.preference.step_rows import (
    STEP_COLUMNS,
    STEP_LOSS,
    StepCollator,
    check_step_labels,
    check_step_rows,
)
from hf_reward_ext.base.saving.card import CardText
from hf_reward_ext.base.training.loss import BatchLoss, LossTerm
from hf_reward_ext.base.training.sharding import is_sharded
from hf_reward_ext.base.training.step_options import prepare_steps
from hf_reward_ext.base.training.token_rewards import gather_token_logps, masked_mean, masked_sum
from hf_reward_ext.base.training.trainer import BaseRewardTrainer
from hf_reward_ext.sla.metrics import preference_sums
from hf_reward_ext.sla.model import RewardTransformer
from hf_reward_ext.sla.model_card import card_text
from hf_reward_ext.sla.policy_losses import dpo_loss, sft_loss, simpo_loss
from hf_reward_ext.sla.state_cache import StateCache
from hf_reward_ext.sla.token_losses import LOSSES, step_bce_loss, step_rewards
from hf_reward_ext.sla.trained_policy import (
    POLICY_FOLDER,
    point_to_policy,
    policy_folder,
    set_gradients,
    transformer_to_train,
)
from hf_reward_ext.sla.trainer_config import SLAConfig


class SLATrainer(BaseRewardTrainer):
    r"""
    Trainer of a reward channel on preference pairs.

    $$ L = w_c L_{channel}(r^+, r^-) + w_p L_{policy} $$

    Training objective of [SLA](https://huggingface.co/papers/2503.00029), whose default is $-\log\sigma(\bar r^+ - \bar
    r^-)$ on mean token rewards with a frozen base. A frozen base runs without gradients and without its LM head. With
    `policy_loss` the policy is trained too (whole, or its adapter), and is saved with the channel in `policy/`.

    With `loss_type="step_bce"` the channel is trained on labels of steps, and logs `accuracy`: the share of steps whose
    reward has the sign of its label.

    Logs in addition to the loss: `accuracy`, `margin`, `chosen_reward`, `rejected_reward`, `autrc`,
    `last_token_accuracy`, and `prefix_accuracy_*` and `token_accuracy_*` for the first 25, 50 and 100 % of the tokens;
    see [`preference_metrics`].

    Args:
        model ([`RewardTransformer`], `str`, `PreTrainedModel` or `PeftModel`): A Reward Transformer, or a causal LM to
            which a new channel is added.
        args ([`SLAConfig`], *optional*): Training arguments.
        train_dataset (`Dataset` or `IterableDataset`): Preference pairs in any of TRL's formats, text or chat. With
            `loss_type="step_bce"` rows of steps, see [`read_labeled_steps`].
        eval_dataset, processing_class (*optional*): As for [`~trl.RewardTrainer`].
        peft_config (`PeftConfig`, *optional*): Adapter of the base to train with the channel.
        **kwargs: Other arguments of [`~trl.RewardTrainer`] (`callbacks`, `optimizers`, ...).

    Raises:
        ValueError: Before training, if data or columns are missing, a quantized base is trained without an adapter, or
            hidden states of streaming data are cached.

    Example:
    ```python
    >>> trainer = SLATrainer(rt, SLAConfig("channel"), train_dataset=pairs, processing_class=tokenizer)
    >>> trainer.train()
    >>> trainer.save_model()  # RewardTransformer.from_pretrained("channel")
    ```
    """

    args: SLAConfig
    model: RewardTransformer

    _config_class = SLAConfig
    _tag_names = ["trl", "hf-reward-ext", "sla"]
    _name = "SLA"
    _card_settings = ["loss_type", "policy_loss", "learning_rate", "num_train_epochs"]
    _columns = [
        *("prompt_ids", "chosen_ids", "rejected_ids", "chosen_mask", "rejected_mask", "margin", "row", "width"),
        *STEP_COLUMNS[1:],
    ]

    def _check_rows(self, dataset, name, args):
        if args.loss_type == STEP_LOSS:
            check_step_rows(dataset, name)
        else:
            super()._check_rows(dataset, name, args)

    def _load_model(self, model, args, quantization_config):
        self._given = model if isinstance(model, RewardTransformer) else None
        return super()._load_model(model if self._given is None else model.base, args, quantization_config)

    def _trains_all_weights(self, args):
        return args.policy_loss is not None or not args.freeze_base  # pyright: ignore[reportAttributeAccessIssue]

    def _build_model(self, model, args, processing_class, peft_config):
        base = model if peft_config is None else get_peft_model(model, peft_config)
        transformer = transformer_to_train(base, self._given, args, processing_class)
        self._trains_policy = self._trains_all_weights(args)
        set_gradients(transformer, self._trains_policy)
        if self._trains_policy:
            point_to_policy(transformer)
        self._transformer = transformer
        self._reference = None
        if args.policy_loss == "dpo" and not hasattr(transformer.base, "peft_config"):
            self._reference = copy.deepcopy(transformer.base).requires_grad_(False).eval().to(args.device)
        self._states = StateCache() if args.cache_hidden_states else None
        self._num_rows = 0
        return transformer, None

    def _check_sharding(self, args: SLAConfig) -> None:
        if args.policy_loss is not None or not args.freeze_base or args.cache_hidden_states:
            raise ValueError(
                "`fsdp` must be left out with `policy_loss`, `freeze_base=False` or `cache_hidden_states=True`, which "
                "need whole weights outside a forward. Train replicas, or the channel alone."
            )

    def _collator(self, args, processing_class):
        if args.loss_type == STEP_LOSS:
            return StepCollator(processing_class.pad_token_id, args.pad_to_multiple_of)
        return super()._collator(args, processing_class)

    def _prepare_dataset(self, dataset, processing_class, args: SLAConfig, dataset_name):  # pyright: ignore
        if args.loss_type == STEP_LOSS:
            return self._prepare_steps(dataset, processing_class, args, dataset_name)
        _check_margin(dataset, args, dataset_name)
        pairs = super()._prepare_dataset(dataset, processing_class, args, dataset_name)
        config = self._transformer.reward_channel.config
        if dataset_name == "train" and isinstance(pairs, Dataset):
            set_completion_start(config, pairs["prompt_ids"][:], processing_class)
        if self._states is None or "row" in (pairs.column_names or []):
            return pairs
        if not isinstance(pairs, Dataset):
            raise ValueError(
                "`cache_hidden_states` must be False for a streaming dataset, whose rows have no index, got True. "
                "Use a map-style dataset, or leave `cache_hidden_states` out."
            )
        first, self._num_rows = self._num_rows, self._num_rows + len(pairs)
        return pairs.add_column("row", list(range(first, self._num_rows)))  # pyright: ignore[reportCallIssue]

    def _prepare_steps(self, dataset, processing_class, args: SLAConfig, name: str):
        if "step_ends" in columns_of(dataset):
            return dataset
        rows = prepare_steps(dataset, processing_class, args, name)
        if not isinstance(rows, Dataset):
            return rows
        if name == "train":
            check_step_labels(rows)
            set_completion_start(self._transformer.reward_channel.config, rows["prompt_ids"][:], processing_class)
        width = max(map(len, rows["labels"]))  # of the predictions of every batch
        return rows.add_column("width", [width] * len(rows))  # pyright: ignore[reportCallIssue]

    def _count_items(self, inputs):
        if "step_ends" in inputs:
            return {"steps": (inputs["step_ends"] >= 0).sum(-1)}
        return super()._count_items(inputs)

    def _step_loss(self, model, inputs) -> BatchLoss:
        token_rewards, mask, _ = self._forward(model, inputs)
        rewards = step_rewards(token_rewards, mask, inputs["step_ends"])
        labels = inputs["labels"]
        term = step_bce_loss(rewards, labels)
        correct = ((rewards > 0) == (labels > 0.5)) & ~labels.isnan()
        metrics = {"accuracy": (correct.sum(-1).float(), term.counts)}
        return BatchLoss([replace(term, weight=self.args.channel_loss_weight)], metrics, rewards)

    def _batch_loss(self, model, inputs):
        if "step_ends" in inputs:
            return self._step_loss(model, inputs)
        rewards, mask, logits = self._forward(model, inputs)
        sides = self._sides(rewards, mask)
        terms = self._channel_terms(sides, inputs.get("margin"))
        means = torch.stack(masked_mean(rewards, mask).chunk(2), dim=-1)
        if self.args.center_rewards_coefficient is not None:
            centering = means.sum(-1).square()
            weight = self.args.center_rewards_coefficient
            terms.append(LossTerm("centering_loss", centering, torch.ones_like(centering), "pairs", weight))
        if logits is not None:
            terms.append(replace(self._policy_term(logits, inputs), weight=self.args.policy_loss_weight))
        return BatchLoss(terms, preference_sums(*(side.detach() for side in sides)), means)

    def _channel_terms(self, sides: tuple[Tensor, ...], margin: Tensor | None) -> list[LossTerm]:
        options: dict[str, Any] = {} if margin is None else {"margin": margin}
        if self.args.loss_type == "token_bt":
            shared = self.args.token_bt_margin
            options = {"scale": self.args.token_bt_scale, "margin": shared if margin is None else shared + margin}
        terms = LOSSES[self.args.loss_type](*sides, **options)
        return [replace(term, weight=self.args.channel_loss_weight) for term in terms]

    def _forward(self, model, inputs) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the token rewards, their mask, and the logits if the policy has its own loss."""
        texts = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"]}
        if self.args.policy_loss is not None:
            out = model(**texts, use_cache=False, detach_hidden_states=self.args.freeze_base)
            return out.token_rewards, inputs["completion_mask"], out.logits
        # Weights are whole inside the forward of the sharded model only.
        if not self.args.freeze_base or is_sharded(self.accelerator):
            return model(**texts, compute_logits=False).token_rewards, inputs["completion_mask"], None
        states, mask = self._frozen_states(texts, inputs)
        return model(hidden_states=states).token_rewards, mask, None

    @torch.no_grad()
    def _frozen_states(self, texts: dict, inputs: dict) -> tuple[tuple[Tensor | None, ...], Tensor]:
        def compute():
            return self._transformer.backbone_hidden_states(**texts)

        if self._states is not None and "row" in inputs:
            return self._states.get(inputs, compute)
        return compute(), inputs["completion_mask"]

    def _policy_term(self, logits: Tensor, inputs: dict) -> LossTerm:
        logps = _token_logps(logits, inputs["input_ids"])
        chosen, chosen_mask, rejected, rejected_mask = self._sides(logps, inputs["completion_mask"])
        if self.args.policy_loss == "sft":
            return sft_loss(chosen, chosen_mask)
        if self.args.policy_loss == "simpo":
            return simpo_loss(
                chosen, chosen_mask, rejected, rejected_mask, beta=self.args.simpo_beta,
                gamma_beta_ratio=self.args.simpo_gamma_beta_ratio,
            )  # fmt: skip
        reference = self._reference_logps(inputs)
        return dpo_loss(chosen, chosen_mask, rejected, rejected_mask, reference, beta=self.args.dpo_beta)

    @torch.no_grad()
    def _reference_logps(self, inputs: dict) -> Tensor:
        """Return the log-probabilities of the initial policy: a copy, or the base without its adapter."""
        model = self._reference if self._reference is not None else self._transformer.base
        without_adapter = model.disable_adapter() if self._reference is None else nullcontext()
        with without_adapter:
            out = model(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False
            )  # fmt: skip
        return masked_sum(_token_logps(out.logits, inputs["input_ids"]), inputs["completion_mask"])

    @staticmethod
    def _sides(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        (chosen, rejected), (chosen_mask, rejected_mask) = values.chunk(2), mask.chunk(2)
        return chosen, chosen_mask, rejected, rejected_mask

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False):
        """Save the channel, and the policy if it was trained."""
        super().save_model(output_dir, _internal_call)
        if self._trains_policy and self.args.should_save:
            folder = Path(output_dir or str(self.args.output_dir)) / POLICY_FOLDER
            base: Any = self._transformer.base
            names = [self._transformer.reward_channel.config.adapter] if hasattr(base, "peft_config") else None
            base.save_pretrained(folder, **({"selected_adapters": names} if names else {}))

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self._load_policy(resume_from_checkpoint)

    def _load_best_model(self):
        super()._load_best_model()
        self._load_policy(cast(str, self.state.best_model_checkpoint))

    def _load_policy(self, checkpoint: str) -> None:
        if not self._trains_policy:
            return
        base: Any = self._transformer.base
        folder = policy_folder(checkpoint, self._transformer.reward_channel.config.adapter)
        if hasattr(base, "peft_config"):
            set_peft_model_state_dict(base, load_peft_weights(str(folder)), base.active_adapter)
        else:
            base.load_state_dict(AutoModelForCausalLM.from_pretrained(folder).state_dict())

    def _card(self) -> CardText:
        return card_text(self._transformer.reward_channel.config, self._card_name(), self._card_name())


def _token_logps(logits: Tensor, input_ids: Tensor) -> Tensor:
    """Return the log-probability of each token at its own position; 0 for the first token."""
    return torch.nn.functional.pad(gather_token_logps(logits[:, :-1], input_ids[:, 1:]), (1, 0))


def _check_margin(dataset, args: SLAConfig, name: str) -> None:
    if args.loss_type in ("sequence_ce", "token_ce") and "margin" in next(iter(dataset)):
        raise ValueError(
            f"The {name} dataset must not have a column `margin` with `loss_type={args.loss_type!r}`, which compares "
            "no rewards. Remove the column, or choose 'sequence_bt' or 'token_bt'."
        )

"""Trainer of an autoregressive reward model, based on TRL's `RewardTrainer`."""

from typing import cast

import torch
from datasets import Dataset
from torch import Tensor

from hf_reward_ext.base.preference.pairs import prepare_preference_dataset
from hf_reward_ext.base.saving.card import CardText
from hf_reward_ext.base.training.loss import BatchLoss, LossTerm
from hf_reward_ext.base.training.losses import bradley_terry_loss, hinge_pair_loss
from hf_reward_ext.base.training.model_loading import check_causal_lm, router_loss_weight
from hf_reward_ext.base.training.trainer import BaseRewardTrainer
from hf_reward_ext.genarm.fused_head import add_fused_lm_head, token_logps
from hf_reward_ext.genarm.marking import mark_guide
from hf_reward_ext.genarm.metrics import logps_drift, pair_metrics
from hf_reward_ext.genarm.model_card import guide_card
from hf_reward_ext.genarm.trainer_config import GenARMConfig


class GenARMTrainer(BaseRewardTrainer):
    r"""
    Trainer of a causal LM whose log-probability is a reward.

    $$ L = -\log\sigma\big(\beta(\log\pi_r(y^+|x) - \log\pi_r(y^-|x)) - \gamma\big), \qquad
       \log\pi_r(y|x) = \sum_t \log\pi_r(y_t|x,y_{<t}) $$

    Training objective of [GenARM](https://huggingface.co/papers/2410.08193): no reference model, no value head. The
    saved model is a plain causal LM or an adapter, for `GenARMLogitsProcessor` or `GuidedCausalLM`. Loading it as a
    sequence classifier (`GRPOTrainer(reward_funcs="folder")`) raises; save a [`GenARMRewardModel`] for that.

    Args:
        model (`str`, `PreTrainedModel` or `PeftModel`): Causal LM, usually the supervised fine-tuned policy or a
            smaller model of its family.
        args ([`GenARMConfig`], *optional*): Training arguments.
        train_dataset (`Dataset` or `IterableDataset`): Preference pairs in any of TRL's formats, text or chat, with an
            optional `margin`.
        eval_dataset, processing_class, peft_config, **kwargs: As for [`~trl.RewardTrainer`].

    Attributes:
        num_filtered (`dict[str, int]`): Number of pairs longer than `max_length` tokens, by map-style dataset.

    Raises:
        TypeError: If the model is not a causal LM.
        ValueError: Before training, if columns are missing, all pairs are too long, or the adapter cannot guide.

    Logs in addition to the loss: `accuracy`, `margin`, `rewards/chosen`, `rewards/rejected` (scaled by beta),
    `logps/chosen`, `logps/rejected` (nats), and in evaluation `logps_drift`, the change of the chosen log-probability
    since the first evaluation: likelihoods of both sides may decrease together, which affects guidance.

    Example:
    ```python
    >>> trainer = GenARMTrainer(model, GenARMConfig("arm"), train_dataset=pairs, processing_class=tokenizer)
    >>> trainer.train()
    >>> trainer.save_model()
    ```
    """

    args: GenARMConfig

    _config_class = GenARMConfig
    _tag_names = ["trl", "hf-reward-ext", "genarm"]
    _name = "GenARM"
    _card_settings = ["loss_type", "beta", "gamma", "learning_rate", "num_train_epochs"]
    _columns = ["prompt_ids", "chosen_ids", "rejected_ids", "chosen_mask", "rejected_mask", "margin"]

    def _build_model(self, model, args, processing_class, peft_config):
        _check_adapters(model, peft_config)
        causal_lm = check_causal_lm(model)
        add_fused_lm_head(causal_lm)
        self._router_weight = router_loss_weight(causal_lm)
        self.num_filtered: dict[str, int] = {}
        return model, peft_config

    def _prepare_dataset(self, dataset, processing_class, args: GenARMConfig, dataset_name):  # pyright: ignore
        prepared = prepare_preference_dataset(
            dataset,
            processing_class,
            max_length=args.max_length,
            turns=args.turns,
            num_proc=args.dataset_num_proc,
            name=dataset_name,
            chat_template_kwargs=cast(dict | None, args.chat_template_kwargs),
        )
        if isinstance(dataset, Dataset) and isinstance(prepared, Dataset):
            self.num_filtered[dataset_name] = len(dataset) - len(prepared)
        return prepared

    def _batch_loss(self, model, inputs):
        mask = inputs["completion_mask"]
        logps, router_loss = token_logps(
            model,
            inputs["input_ids"],
            labels=inputs["input_ids"].masked_fill(~mask, -100),
            attention_mask=inputs["attention_mask"],
        )
        logps = logps.sum(-1)
        if self.args.length_normalization:
            logps = logps / mask[:, 1:].sum(-1)
        chosen, rejected = logps.chunk(2)
        loss = self._pair_loss(chosen, rejected, inputs.get("margin", 0.0))
        terms = [LossTerm("preference_loss", loss, torch.ones_like(loss), "pairs")]
        if router_loss is not None and self._router_weight:
            spread = router_loss.expand_as(loss)
            terms.append(LossTerm("router_loss", spread, torch.ones_like(loss), "pairs", self._router_weight))
        return BatchLoss(
            terms=terms,
            metrics=pair_metrics(chosen.detach(), rejected.detach(), self.args.beta),
            rewards=self.args.beta * torch.stack([chosen, rejected], dim=-1),
        )

    def _pair_loss(self, chosen: Tensor, rejected: Tensor, margin: Tensor | float) -> Tensor:
        if self.args.loss_type == "hinge":
            return hinge_pair_loss(chosen, rejected, margin=margin, beta=self.args.beta)
        return bradley_terry_loss(
            chosen,
            rejected,
            margin=margin,
            beta=self.args.beta,
            gamma=self.args.gamma,
            label_smoothing=self.args.label_smoothing,
        )

    def _evaluation_metrics(self, metrics, prefix):
        name = "logps/chosen"
        return logps_drift(metrics[name], f"{prefix}_{name}", self.state.log_history) if name in metrics else {}

    def _save(self, output_dir: str | None = None, state_dict=None) -> None:
        super()._save(output_dir, state_dict)
        mark_guide(output_dir if output_dir is not None else str(self.args.output_dir))

    def _card(self) -> CardText:
        path_or_repo = self._card_name()
        policy = self.model.config._name_or_path or path_or_repo  # pyright: ignore[reportAttributeAccessIssue]
        return guide_card(path_or_repo, str(policy), path_or_repo, hasattr(self.model, "peft_config"))


def _check_adapters(model, peft_config) -> None:
    configs = [*getattr(model, "peft_config", {}).values(), *([peft_config] if peft_config else [])]
    for config in configs:
        if config.is_prompt_learning or config.task_type not in (None, "CAUSAL_LM"):
            raise ValueError(
                f"`peft_config` must change the weights of a causal LM, got a `{type(config).__name__}` with "
                f"`task_type={config.task_type!r}`. Use `LoraConfig(task_type='CAUSAL_LM', "
                "target_modules='all-linear')`."
            )

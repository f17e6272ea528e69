"""Trainer of an autoregressive reward model, based on TRL's `RewardTrainer`."""

from typing import cast

import torch
from datasets import Dataset, IterableDataset
from peft import get_peft_model
from torch import Tensor

from hf_reward_ext.base.saving.card import CardText
from hf_reward_ext.base.training.loss import BatchLoss, LossTerm
from hf_reward_ext.base.training.losses import bradley_terry_loss, hinge_pair_loss
from hf_reward_ext.base.training.model_loading import check_causal_lm, router_loss_weight
from hf_reward_ext.base.training.trainer import BaseRewardTrainer
from hf_reward_ext.genarm.conditioned_folder import is_conditioned_folder, write_objectives
from hf_reward_ext.genarm.conditioning import condition_adapter, conditioned_layers, objective_weights
from hf_reward_ext.genarm.fused_head import add_fused_lm_head, token_logps
from hf_reward_ext.genarm.marking import mark_guide
from hf_reward_ext.genarm.metrics import logps_drift, pair_metrics
from hf_reward_ext.genarm.model_card import conditioned_card, guide_card
from hf_reward_ext.genarm.objectives import ObjectiveCollator, draw_weights, objective_names
from hf_reward_ext.genarm.trainer_config import GenARMConfig


class GenARMTrainer(BaseRewardTrainer):
    r"""
    Trainer of a causal LM whose log-probability is a reward.

    $$ L = -\log\sigma\big(\beta(\log\pi_r(y^+|x) - \log\pi_r(y^-|x)) - \gamma\big), \qquad
       \log\pi_r(y|x) = \sum_t \log\pi_r(y_t|x,y_{<t}) $$

    Training objective of [GenARM](https://huggingface.co/papers/2410.08193): no reference model, no value head. The
    saved model is a plain causal LM or an adapter, for `GenARMLogitsProcessor` or `GuidedCausalLM`. Loading it as a
    sequence classifier (`GRPOTrainer(reward_funcs="folder")`) raises; save a [`GenARMRewardModel`] for that.

    With `preference_conditioned=True` one LoRA guide learns K objectives, for weights $w$ that are chosen at run time:

    $$ L = E_{w}\Big[\sum_k w_k\,L_k(\pi_{r,w})\Big], \qquad w \text{ uniform on the simplex} $$

    A reconstruction of [PARM](https://huggingface.co/papers/2505.06274), whose code differs: each pair of objective k
    draws its own weights, from the density proportional to $w_k$, so that no loss is multiplied. In evaluation a pair
    is read with weight 1 on its objective. Load the guide with [`load_conditioned_guide`].

    Args:
        model (`str`, `PreTrainedModel` or `PeftModel`): Causal LM, usually the supervised fine-tuned policy or a
            smaller model of its family.
        args ([`GenARMConfig`], *optional*): Training arguments.
        train_dataset (`Dataset` or `IterableDataset`): Preference pairs in any of TRL's formats, text or chat, with an
            optional `margin`.
        eval_dataset, processing_class, peft_config, **kwargs: As for [`~trl.RewardTrainer`].

    Attributes:
        num_filtered (`dict[str, int]`): Number of pairs longer than `max_length` tokens, by map-style dataset.
        objectives (`list`): Names of the objectives in the order of the weights, with `preference_conditioned=True`.

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
    _columns = ["prompt_ids", "chosen_ids", "rejected_ids", "chosen_mask", "rejected_mask", "margin", "objective"]

    def _check_rows(self, dataset: Dataset | IterableDataset, name: str, args: GenARMConfig) -> None:
        super()._check_rows(dataset, name, args)
        if args.preference_conditioned:
            known = self.objectives if name != "train" else None
            self.objectives = objective_names(dataset, name, known)

    def _load_model(self, model, args: GenARMConfig, quantization_config):
        if isinstance(model, str) and is_conditioned_folder(model):
            raise ValueError(
                f"`model` must be a causal LM or a plain adapter, got the conditioned guide {model!r}. Continue its "
                "training with `trainer.train(resume_from_checkpoint=...)`."
            )
        return super()._load_model(model, args, quantization_config)

    def _build_model(self, model, args, processing_class, peft_config):
        _check_adapters(model, peft_config)
        if args.preference_conditioned:
            model, peft_config = _conditioned(model, peft_config, len(self.objectives)), None
        causal_lm = check_causal_lm(model)
        add_fused_lm_head(causal_lm)
        self._router_weight = router_loss_weight(causal_lm)
        self.num_filtered: dict[str, int] = {}
        return model, peft_config

    def _prepare_dataset(self, dataset, processing_class, args: GenARMConfig, dataset_name):  # pyright: ignore
        prepared = super()._prepare_dataset(dataset, processing_class, args, dataset_name)
        if isinstance(dataset, Dataset) and isinstance(prepared, Dataset):
            self.num_filtered[dataset_name] = len(dataset) - len(prepared)
        return prepared

    def _collator(self, args: GenARMConfig, processing_class):
        if not args.preference_conditioned:
            return super()._collator(args, processing_class)
        multiple = cast(int | None, args.pad_to_multiple_of)
        return ObjectiveCollator(processing_class.pad_token_id, multiple, self.objectives)

    def _token_logps(self, model, inputs) -> tuple[Tensor, Tensor | None]:
        labels = inputs["input_ids"].masked_fill(~inputs["completion_mask"], -100)
        texts = {"labels": labels, "attention_mask": inputs["attention_mask"]}
        if not self.args.preference_conditioned:
            return token_logps(model, inputs["input_ids"], **texts)
        weights = torch.nn.functional.one_hot(inputs["objective"], len(self.objectives)).float()
        if not model.training:
            with objective_weights(weights.repeat(2, 1)):
                return token_logps(model, inputs["input_ids"], **texts)
        weights = draw_weights(weights).repeat(2, 1)  # chosen and rejected
        for layer in conditioned_layers(model):
            layer.training_weights = weights
        return token_logps(model, inputs["input_ids"], **texts)

    def _batch_loss(self, model, inputs):
        mask = inputs["completion_mask"]
        logps, router_loss = self._token_logps(model, inputs)
        logps = logps.sum(-1)
        if self.args.length_normalization:
            logps = logps / mask[:, 1:].sum(-1)
        chosen, rejected = logps.chunk(2)
        loss = self._pair_loss(chosen, rejected, inputs.get("margin", 0.0))
        terms = [LossTerm("preference_loss", loss, torch.ones_like(loss), "pairs")]
        if router_loss is not None and self._router_weight:
            spread = router_loss.expand_as(loss)
            terms.append(LossTerm("router_loss", spread, torch.ones_like(loss), "pairs", self._router_weight))
        metrics: dict = pair_metrics(chosen.detach(), rejected.detach(), self.args.beta)
        if self.args.preference_conditioned:
            for number, name in enumerate(self.objectives):
                is_own = (inputs["objective"] == number).float()
                metrics[f"accuracy/{name}"] = (metrics["accuracy"] * is_own, is_own)
        return BatchLoss(
            terms=terms,
            metrics=metrics,
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
        if not self.args.should_save:  # all processes call this, and one writes
            return
        folder = output_dir if output_dir is not None else str(self.args.output_dir)
        mark_guide(folder)
        if self.args.preference_conditioned:
            write_objectives(folder, self.objectives)

    def _card(self) -> CardText:
        path_or_repo = self._card_name()
        if self.args.preference_conditioned:
            return conditioned_card(path_or_repo, len(self.objectives))
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


def _conditioned(model, peft_config, num_objectives: int):
    """Return a model whose LoRA adapter depends on the weights of the objectives."""
    if peft_config is None and not hasattr(model, "peft_config"):
        raise ValueError(
            "`peft_config` must be given with `preference_conditioned=True`, got None: the weights change a LoRA "
            "adapter. Pass `LoraConfig(task_type='CAUSAL_LM', target_modules='all-linear')`."
        )
    model = model if peft_config is None else get_peft_model(model, peft_config)
    condition_adapter(model, num_objectives)
    return model

"""Stage 1: trains a judge's first token and its written judgements together, on TRL's `RewardTrainer`."""

from dataclasses import asdict
from typing import Any, cast

import torch
from datasets import Dataset, IterableDataset
from torch import Tensor

from hf_reward_ext.base.lm.forward import forward_parameters
from hf_reward_ext.base.saving.card import CardText
from hf_reward_ext.base.training.losses import bradley_terry_loss
from hf_reward_ext.base.training.token_rewards import gather_token_logps
from hf_reward_ext.base.training.trainer import BaseRewardTrainer
from hf_reward_ext.fast_slow.checkpoint import PAPER, card_text, describe, save_config
from hf_reward_ext.fast_slow.judge.confidence import fast_score, verdict_mass
from hf_reward_ext.fast_slow.judge.prompt import JudgePrompt
from hf_reward_ext.fast_slow.judge.template import JudgeTemplate
from hf_reward_ext.fast_slow.model import FastSlowRewardModel
from hf_reward_ext.fast_slow.model_config import FastSlowRewardModelConfig
from hf_reward_ext.fast_slow.train.data_collator import JudgeCollator
from hf_reward_ext.fast_slow.train.losses import judgment_loss, pairwise_margins, verdict_token_loss
from hf_reward_ext.fast_slow.train.preference_pairs import COLUMNS, prepare_pairs
from hf_reward_ext.fast_slow.train.trainer_config import FastSlowConfig


class FastSlowTrainer(BaseRewardTrainer):
    r"""
    Trains a judge that answers in one token and can go on to write: stage 1 of Fast-Slow.

    $$ L = -\lambda_{BT} \log\sigma\Big(\frac{s^+ - s^-}{\tau_s}\Big) + \lambda_c (s^+ + s^-)^2
       - \lambda_{tok} \log q_{u^*} - \frac{\lambda_{slow}}{|c|} \sum_{t \in c} \log \pi(c_t \mid x, y, v_0, c_{<t}) $$

    Our reconstruction: [Fast-Slow](https://huggingface.co/papers/2603.20212) names supervised training and
    Bradley-Terry, not the formula. $s$ is read from the LM head at the first token, in the same forward in which the
    judgement $c$ is learned; the first verdict $v_0$ is not learned from judgements, which may overturn it. With
    pairwise verdicts both orders are in the batch, each with its own comparison.

    Args:
        model (`str`, `PreTrainedModel`, `PeftModel` or [`FastSlowRewardModel`]): A causal LM, or a judge whose prompt
            and verdicts are kept.
        args ([`FastSlowConfig`], *optional*): Training arguments. A batch counts pairs; each has two rows or more, one
            for every judgement.
        train_dataset (`Dataset` or `IterableDataset`): Preference pairs, text or chat; optional `judgments`, `margin`,
            and for a scale `chosen_verdict` and `rejected_verdict`; see [`encode_pair`].
        eval_dataset (*optional*): The same, or a `dict` of several.
        processing_class (*optional*): The tokenizer. Default: the judge's, or loaded by the model's name.
        template ([`JudgeTemplate`], *optional*): The judge prompt; stored in the checkpoint.
        **kwargs: Other arguments of [`BaseRewardTrainer`] (`peft_config`, `callbacks`, ...).

    Raises:
        ValueError: If verdicts are no single tokens, columns are missing, or judgements contradict their pairs.

    Example:
    ```python
    >>> trainer = FastSlowTrainer("Qwen/Qwen3-4B", FastSlowConfig("judge"), train_dataset=pairs)
    >>> trainer.train()
    >>> trainer.save_model()  # FastSlowRewardModel.from_pretrained("judge")
    ```
    """

    args: FastSlowConfig
    loss_is_scaled_for_ga = False

    _config_class = FastSlowConfig
    _tag_names = ["trl", "hf-reward-ext", "fast-slow"]
    _name = "Fast-Slow"
    _paper = PAPER
    _card_settings = ["bradley_terry_weight", "verdict_weight", "judgment_weight", "learning_rate", "num_train_epochs"]
    _columns = COLUMNS

    def __init__(
        self,
        model,
        args: FastSlowConfig | None = None,
        data_collator=None,
        train_dataset: Dataset | IterableDataset | None = None,
        eval_dataset: Dataset | IterableDataset | dict | None = None,
        processing_class=None,
        compute_metrics=None,
        callbacks=None,
        optimizers=(None, None),
        optimizer_cls_and_kwargs=None,
        preprocess_logits_for_metrics=None,
        quantization_config=None,
        peft_config=None,
        *,
        template: JudgeTemplate | None = None,
    ):
        self._template = template
        self._given_judge = model if isinstance(model, FastSlowRewardModel) else None
        if self._given_judge is not None:
            processing_class = processing_class or self._given_judge.tokenizer
        super().__init__(
            model,
            args,
            data_collator,
            train_dataset,
            eval_dataset,
            processing_class,
            compute_metrics,
            callbacks,
            optimizers,
            optimizer_cls_and_kwargs,
            preprocess_logits_for_metrics,
            quantization_config,
            peft_config,
        )
        self._temperature = self.args.score_temperature or (0.2 if self.judge_prompt.kind == "scale" else 1.0)

    def _load_model(self, model, args, quantization_config):
        return super()._load_model(
            model if self._given_judge is None else self._given_judge.causal_lm, args, quantization_config
        )

    def _build_model(self, model, args, processing_class, peft_config):
        self._config = _judge_config(self._given_judge, args, self._template)
        self.judge_prompt = JudgePrompt(
            processing_class, tuple(self._config.verdicts), JudgeTemplate(**self._config.template), self._config.kind
        )
        return model, peft_config

    def _collator(self, args, processing_class):
        return JudgeCollator(processing_class.pad_token_id, 1 + len(self.judge_prompt.prefix_ids))

    @property
    def judge(self) -> FastSlowRewardModel:
        """The judge, on the weights in training; its gate is not calibrated."""
        causal_lm = cast(Any, self.accelerator.unwrap_model(self.model))
        config = FastSlowRewardModelConfig.from_dict(self._config.to_dict())
        return FastSlowRewardModel(causal_lm, self.processing_class, config=config)

    def _prepare_dataset(self, dataset, processing_class, args: FastSlowConfig, dataset_name):  # pyright: ignore
        return prepare_pairs(
            dataset,
            self.judge_prompt,
            max_length=args.max_length,
            num_proc=args.dataset_num_proc,
            name=dataset_name,
        )

    def _count_items(self, inputs):
        return {}

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        logits = self._logits(model, inputs)
        ids = self.judge_prompt.first_ids.to(logits.device)
        first, places = logits[:, 0].float(), {side: inputs[f"{side}_rows"] for side in ("chosen", "rejected")}
        values = None if self.judge_prompt.values is None else self.judge_prompt.values.to(logits.device)
        chosen, rejected = (fast_score(first[rows][:, ids], values) for rows in places.values())
        targets = torch.cat([inputs["chosen_targets"], inputs["rejected_targets"]])
        rows = torch.cat(list(places.values()))
        logps = gather_token_logps(logits[:, :-1], inputs["continuation_ids"])
        terms = {
            "bradley_terry_loss": self._comparison(chosen, rejected, inputs.get("margin", 0.0)).mean(),
            "centering_loss": (chosen + rejected).square().mean(),
            "verdict_loss": verdict_token_loss(first[rows], ids, targets).mean(),
            "judgment_loss": judgment_loss(logps, inputs["continuation_mask"]),
        }
        loss = (
            self.args.bradley_terry_weight * terms["bradley_terry_loss"]
            + (self.args.center_rewards_coefficient or 0.0) * terms["centering_loss"]
            + self.args.verdict_weight * terms["verdict_loss"]
            + self.args.judgment_weight * terms["judgment_loss"]
        )
        self._remember(chosen, rejected, verdict_mass(first[rows], ids), terms)
        return (loss, {"chosen": chosen, "rejected": rejected}) if return_outputs else loss

    def _logits(self, model, inputs) -> Tensor:
        """Scores of the first verdict and of everything after it; of the prompt, only the last column is computed."""
        kept = inputs["continuation_ids"].shape[1] + 1
        mask = inputs["attention_mask"]
        optional = {"position_ids": (mask.cumsum(-1) - 1).clamp(min=0), "logits_to_keep": kept, "use_cache": False}
        known = forward_parameters(self.accelerator.unwrap_model(model))
        given = {name: value for name, value in optional.items() if name in known}
        return model(input_ids=inputs["input_ids"], attention_mask=mask, **given).logits[:, -kept:]

    def _comparison(self, chosen: Tensor, rejected: Tensor, margin) -> Tensor:
        if not self.judge_prompt.is_pairwise:
            return bradley_terry_loss(chosen, rejected, beta=1 / self._temperature, margin=margin)
        margins = pairwise_margins(chosen, rejected)
        of_both = margin[:, None].expand_as(margins).flatten() if isinstance(margin, Tensor) else margin
        return bradley_terry_loss(
            margins.flatten(), torch.zeros_like(margins).flatten(), beta=1 / self._temperature, margin=of_both
        )

    def _remember(self, chosen: Tensor, rejected: Tensor, mass: Tensor, terms: dict[str, Tensor]) -> None:
        metrics = self._metrics["train" if self.model.training else "eval"]
        difference = chosen - rejected
        values = {
            "accuracy": (difference > 0).float(),
            "margin": difference * (0.5 if self.judge_prompt.is_pairwise else 1.0),
            "verdict_mass": mass,
            **{name: term[None] for name, term in terms.items()},
        }
        if self.judge_prompt.is_pairwise:
            values["consistency"] = (chosen * rejected <= 0).float()
        for name, value in values.items():
            gathered = cast(Tensor, self.accelerator.gather_for_metrics(value.detach().float()))
            metrics[name].append(gathered.mean().item())

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Writes weights or adapter, tokenizer, and the config that makes a [`FastSlowRewardModel`] of them."""
        super().save_model(output_dir, _internal_call)
        if self.args.should_save:
            config = FastSlowRewardModelConfig.from_dict(self._config.to_dict())
            describe(config, self.accelerator.unwrap_model(self.model), self.processing_class)
            save_config(config, output_dir or str(self.args.output_dir))

    def _card(self) -> CardText:
        return card_text(self._card_name(), self.judge_prompt.is_pairwise, self._config.name_or_path)


def _judge_config(
    judge: FastSlowRewardModel | None, args: FastSlowConfig, template: JudgeTemplate | None
) -> FastSlowRewardModelConfig:
    if judge is None:
        return FastSlowRewardModelConfig(
            verdicts=args.verdicts,
            kind=cast(Any, args.kind),
            template=None if template is None else template.to_dict(),
        )
    config = FastSlowRewardModelConfig.from_dict(judge.config.to_dict())
    if template is not None:
        config.template = asdict(template)
    return config

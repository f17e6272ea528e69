"""Stage 1: trainer of a judge's first token and its written judgments, based on TRL's `RewardTrainer`."""

from dataclasses import asdict
from typing import Any, cast

import torch
from datasets import Dataset, IterableDataset
from torch import Tensor

from hf_reward_ext.base.lm.forward import forward_parameters, positions_of
from hf_reward_ext.base.saving.card import CardText
from hf_reward_ext.base.saving.config import check_nestable
from hf_reward_ext.base.training.loss import BatchLoss, LossTerm
from hf_reward_ext.base.training.losses import bradley_terry_loss
from hf_reward_ext.base.training.token_rewards import gather_token_logps
from hf_reward_ext.base.training.trainer import BaseRewardTrainer
from hf_reward_ext.fast_slow.checkpoint import card_text, describe, save_config
from hf_reward_ext.fast_slow.judge.confidence import fast_score, verdict_mass
from hf_reward_ext.fast_slow.judge.prompt import JudgePrompt
from hf_reward_ext.fast_slow.judge.template import JudgeTemplate
from hf_reward_ext.fast_slow.model import FastSlowRewardModel
from hf_reward_ext.fast_slow.model_config import FastSlowRewardModelConfig
from hf_reward_ext.fast_slow.train.data_collator import JudgeCollator
from hf_reward_ext.fast_slow.train.losses import judgment_losses, pairwise_margins, verdict_token_loss
from hf_reward_ext.fast_slow.train.preference_pairs import COLUMNS, SIDES, check_judge_rows, prepare_pairs
from hf_reward_ext.fast_slow.train.trainer_config import FastSlowConfig


class FastSlowTrainer(BaseRewardTrainer):
    r"""
    Trainer of judges that answer in one token and can continue with a written judgment: stage 1 of Fast-Slow.

    $$ L = -\lambda_{BT} \log\sigma\Big(\frac{s^+ - s^-}{\tau_s}\Big) + \lambda_c (s^+ + s^-)^2
       - \lambda_{tok} \log q_{u^*} - \frac{\lambda_{slow}}{|c|} \sum_{t \in c} \log \pi(c_t \mid x, y, v_0, c_{<t}) $$

    Our reconstruction: [Fast-Slow](https://huggingface.co/papers/2603.20212) describes supervised training and
    Bradley-Terry, without the formula. $s$ comes from the LM head at the first token, in the same forward as the loss
    of the judgment $c$; the first verdict $v_0$ is not learned from judgments, which may overturn it. With
    pairwise verdicts both orders are in the batch, each with its own comparison.

    Args:
        model (`str`, `PreTrainedModel`, `PeftModel` or [`FastSlowRewardModel`]): A causal LM, or a judge whose
            prompt and verdicts are kept.
        args ([`FastSlowConfig`], *optional*): Training arguments. The batch size counts pairs; each has two or more
            rows, one for every judgment.
        train_dataset (`Dataset` or `IterableDataset`): Preference pairs, text or chat; optional `judgments`, `margin`,
            and for ratings `chosen_verdict` and `rejected_verdict`; see [`encode_pair`].
        eval_dataset (*optional*): Evaluation data, or a `dict` of several datasets.
        processing_class (*optional*): Tokenizer. Default: that of the judge, or loaded by the model's name.
        template ([`JudgeTemplate`], *optional*): Text of the judge prompt, stored in the checkpoint.
        **kwargs: Other arguments of [`BaseRewardTrainer`] (`peft_config`, `callbacks`, ...).

    Raises:
        ValueError: If verdicts are not single tokens, columns are missing, or judgments contradict their pairs.

    Example:
    ```python
    >>> trainer = FastSlowTrainer("Qwen/Qwen3-4B", FastSlowConfig("judge"), train_dataset=pairs)
    >>> trainer.train()
    >>> trainer.save_model()  # FastSlowRewardModel.from_pretrained("judge")
    ```
    """

    args: FastSlowConfig

    _config_class = FastSlowConfig
    _tag_names = ["trl", "hf-reward-ext", "fast-slow"]
    _name = "Fast-Slow"
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
            model, args, data_collator, train_dataset, eval_dataset, processing_class, compute_metrics, callbacks,
            optimizers, optimizer_cls_and_kwargs, preprocess_logits_for_metrics, quantization_config, peft_config,
        )  # fmt: skip
        self._temperature = self.args.score_temperature or (0.2 if self.judge_prompt.kind == "rating" else 1.0)

    def _load_model(self, model, args, quantization_config):
        return super()._load_model(
            model if self._given_judge is None else self._given_judge.causal_lm, args, quantization_config
        )

    def _build_model(self, model, args, processing_class, peft_config):
        if peft_config is None and not hasattr(model, "peft_config"):
            check_nestable(model.config, "judge")
        self._config = _judge_config(self._given_judge, args, self._template)
        self.judge_prompt = JudgePrompt(
            processing_class, tuple(self._config.verdicts), JudgeTemplate(**self._config.template), self._config.kind
        )
        return model, peft_config

    def _collator(self, args, processing_class):
        return JudgeCollator(
            processing_class.pad_token_id, 1 + len(self.judge_prompt.prefix_ids), args.pad_to_multiple_of
        )

    @property
    def judge(self) -> FastSlowRewardModel:
        """The judge, on the weights in training; its gate is not calibrated."""
        causal_lm = cast(Any, self.accelerator.unwrap_model(self.model))
        config = FastSlowRewardModelConfig.from_dict(self._config.to_dict())
        return FastSlowRewardModel(causal_lm, self.processing_class, config=config)  # pyright: ignore[reportArgumentType]

    def _prepare_dataset(self, dataset, processing_class, args: FastSlowConfig, dataset_name):  # pyright: ignore
        return prepare_pairs(
            dataset,
            self.judge_prompt,
            max_length=args.max_length,
            num_proc=args.dataset_num_proc,
            name=dataset_name,
        )

    def _check_rows(self, dataset, name, args):
        given = self._given_judge
        check_judge_rows(dataset, args.verdicts if given is None else given.config.verdicts, name)

    def _count_items(self, inputs):
        pairs = torch.ones_like(inputs["chosen_rows"])
        judgments = inputs["continuation_mask"].any(-1).long()
        return {"pairs": pairs, "judgments": torch.zeros_like(pairs).index_add(0, inputs["pair"], judgments)}

    def _batch_loss(self, model, inputs) -> BatchLoss:
        logits = self._logits(model, inputs)
        ids = self.judge_prompt.first_ids.to(logits.device)
        first = logits[:, 0].float()
        values = None if self.judge_prompt.values is None else self.judge_prompt.values.to(logits.device)
        chosen, rejected = (fast_score(first[inputs[f"{side}_rows"]][:, ids], values) for side in SIDES)
        rows = torch.cat([inputs[f"{side}_rows"] for side in SIDES])
        targets = torch.cat([inputs[f"{side}_targets"] for side in SIDES])
        verdicts = verdict_token_loss(first[rows], ids, targets).view(2, -1).mean(0)
        logps = gather_token_logps(logits[:, :-1], inputs["continuation_ids"])
        written = judgment_losses(logps, inputs["continuation_mask"])
        counts = self._count_items(inputs)
        judgments = torch.zeros_like(chosen).index_add(0, inputs["pair"], written.to(chosen))
        comparison = self._comparison(chosen, rejected, inputs.get("margin", 0.0))
        centering = (chosen + rejected).square()
        args, pairs = self.args, counts["pairs"]
        return BatchLoss(
            [
                LossTerm("bradley_terry_loss", comparison, pairs, "pairs", args.bradley_terry_weight),
                LossTerm("centering_loss", centering, pairs, "pairs", args.center_rewards_coefficient or 0.0),
                LossTerm("verdict_loss", verdicts, pairs, "pairs", args.verdict_weight),
                LossTerm("judgment_loss", judgments, counts["judgments"], "judgments", args.judgment_weight),
            ],
            self._metrics_of(chosen, rejected, verdict_mass(first[rows], ids).view(2, -1).mean(0)),
            torch.stack([chosen, rejected], -1),
        )

    def _logits(self, model, inputs) -> Tensor:
        """Return the logits of the first verdict and of the tokens after it; no other prompt logits are computed."""
        kept = inputs["continuation_ids"].shape[1] + 1
        mask = inputs["attention_mask"]
        optional = {"position_ids": positions_of(mask), "logits_to_keep": kept, "use_cache": False}
        known = forward_parameters(self.accelerator.unwrap_model(model))
        given = {name: value for name, value in optional.items() if name in known}
        return model(input_ids=inputs["input_ids"], attention_mask=mask, **given).logits[:, -kept:]

    def _comparison(self, chosen: Tensor, rejected: Tensor, margin: Tensor | float) -> Tensor:
        """Return the comparison loss of each pair; with pairwise verdicts the mean over both orders."""
        beta = 1 / self._temperature
        if not self.judge_prompt.is_pairwise:
            return bradley_terry_loss(chosen, rejected, beta=beta, margin=margin)
        orders = pairwise_margins(chosen, rejected).unbind(-1)
        losses = [bradley_terry_loss(order, torch.zeros_like(order), beta=beta, margin=margin) for order in orders]
        return torch.stack(losses).mean(0)

    def _metrics_of(self, chosen: Tensor, rejected: Tensor, mass: Tensor) -> dict[str, Tensor]:
        difference = chosen - rejected
        metrics = {
            "accuracy": (difference > 0).float(),
            "margin": difference * (0.5 if self.judge_prompt.is_pairwise else 1.0),
            "verdict_mass": mass,
        }
        if self.judge_prompt.is_pairwise:
            metrics["consistency"] = (chosen * rejected <= 0).float()
        return metrics

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save weights or adapter, tokenizer, and the config of a [`FastSlowRewardModel`]."""
        super().save_model(output_dir, _internal_call)
        if self.args.should_save:
            config = FastSlowRewardModelConfig.from_dict(self._config.to_dict())
            describe(config, self.accelerator.unwrap_model(self.model), self.processing_class)  # pyright: ignore[reportArgumentType]
            save_config(config, output_dir or str(self.args.output_dir))  # pyright: ignore[reportArgumentType]

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
    return config  # pyright: ignore[reportReturnType]

"""Trains an autoregressive reward model on TRL's `RewardTrainer`."""

from typing import Any, cast

from datasets import Dataset, IterableDataset
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_reward_ext.base.preference.pairs import prepare_preference_dataset
from hf_reward_ext.base.private_api import add_fused_lm_head, narrow_head_tiles
from hf_reward_ext.base.saving.card import CardText
from hf_reward_ext.base.training.losses import bradley_terry_loss, hinge_pair_loss
from hf_reward_ext.base.training.trainer import BaseRewardTrainer
from hf_reward_ext.genarm.data_collator import PairCollator
from hf_reward_ext.genarm.metrics import gathered, logps_drift, pair_metrics
from hf_reward_ext.genarm.model_card import PAPER, guide_card
from hf_reward_ext.genarm.trainer_config import GenARMConfig


class GenARMTrainer(BaseRewardTrainer):
    r"""
    Trains a causal LM so that its log-probability is a reward.

    $$ L = -\log\sigma\big(\beta(\log\pi_r(y^+|x) - \log\pi_r(y^-|x)) - \gamma\big), \qquad
       \log\pi_r(y|x) = \sum_t \log\pi_r(y_t|x,y_{<t}) $$

    Training objective of [GenARM](https://huggingface.co/papers/2410.08193): no reference model, no value head. What is
    saved is a plain causal LM or an adapter; `GenARMLogitsProcessor` or `GuidedCausalLM` let it guide.

    Args:
        model (`str`, `PreTrainedModel` or `PeftModel`): A causal LM, usually the supervised fine-tuned policy or a
            smaller model of its family.
        args ([`GenARMConfig`], *optional*): Training arguments.
        train_dataset (`Dataset` or `IterableDataset`): Preference pairs in any of TRL's formats, text or chat, with an
            optional `margin`.
        eval_dataset, processing_class, peft_config, **kwargs: As for [`~trl.RewardTrainer`].

    Attributes:
        num_filtered (`dict[str, int]`): Pairs longer than `max_length` tokens, by map-style dataset.

    Raises:
        TypeError: If the model is no causal LM.
        ValueError: Before training: missing columns, no pair short enough, an adapter that cannot guide.

    Logs beside the loss: `accuracy`, `margin`, `rewards/chosen`, `rewards/rejected` (scaled by beta), `logps/chosen`,
    `logps/rejected` (nats), and in evaluation `logps_drift`, the change of the chosen log-probability since the first
    evaluation: likelihoods of both sides may fall together, which guidance feels.

    Example:
    ```python
    >>> trainer = GenARMTrainer(model, GenARMConfig("arm"), train_dataset=pairs, processing_class=tokenizer)
    >>> trainer.train()
    >>> trainer.save_model()
    ```
    """

    args: GenARMConfig

    _tag_names = ["trl", "hf-reward-ext", "genarm"]
    _name = "GenARM"
    _paper = PAPER
    _card_settings = ["loss_type", "beta", "gamma", "learning_rate", "num_train_epochs"]
    _columns = ["prompt_ids", "chosen_ids", "rejected_ids", "chosen_mask", "rejected_mask", "margin"]

    def __init__(
        self,
        model,
        args: GenARMConfig | None = None,
        data_collator=None,
        train_dataset: Dataset | IterableDataset | None = None,
        eval_dataset: Dataset | IterableDataset | dict | None = None,
        processing_class=None,
        **kwargs,
    ):
        name = model if isinstance(model, str) else model.config._name_or_path
        args = args or GenARMConfig(f"{name.split('/')[-1]}-GenARM")
        init_kwargs = args.model_init_kwargs
        if processing_class is None:
            processing_class = AutoTokenizer.from_pretrained(
                name,
                revision=cast(dict, init_kwargs or {}).get("revision"),
                trust_remote_code=args.trust_remote_code,
            )
        if isinstance(model, str):
            model = _load(model, args, kwargs.pop("quantization_config", None))
            args.model_init_kwargs = None  # used up; TRL would say that they are ignored
        _check_adapters(model, kwargs.get("peft_config"))
        causal_lm = _causal_lm(model)
        add_fused_lm_head(causal_lm)
        if processing_class.pad_token is None:
            processing_class.pad_token = processing_class.eos_token
        label_names = {field: getattr(causal_lm.config, field) for field in ("id2label", "label2id")}
        causal_lm.config.num_labels = 1  # what TRL asks of a reward model; a causal LM does not use it
        self.num_filtered: dict[str, int] = {}
        multiple = cast(int | None, args.pad_to_multiple_of)
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator or PairCollator(processing_class.pad_token_id, multiple),
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            **kwargs,
        )
        args.model_init_kwargs = init_kwargs
        for field, value in label_names.items():
            setattr(causal_lm.config, field, value)

    def _prepare_dataset(self, dataset, processing_class, args: GenARMConfig, dataset_name):  # pyright: ignore[reportIncompatibleMethodOverride]
        prepared = prepare_preference_dataset(
            dataset,
            processing_class,
            max_length=args.max_length,
            turns=args.turns,
            num_proc=args.dataset_num_proc,
            name=dataset_name,
        )
        if isinstance(dataset, Dataset) and isinstance(prepared, Dataset):
            self.num_filtered[dataset_name] = len(dataset) - len(prepared)
        return prepared

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        mask = inputs["completion_mask"]
        with narrow_head_tiles(inputs["input_ids"].device):
            output = model(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                labels=inputs["input_ids"].masked_fill(~mask, -100),
                fused_lm_head=True,
            )
        logps = output.log_probs.float().sum(-1)
        if self.args.length_normalization:
            logps = logps / mask[:, 1:].sum(-1)
        chosen, rejected = logps.chunk(2)
        margin = inputs.get("margin", 0.0)
        if self.args.loss_type == "hinge":
            loss = hinge_pair_loss(chosen, rejected, margin=margin, beta=self.args.beta)
        else:
            loss = bradley_terry_loss(
                chosen,
                rejected,
                margin=margin,
                beta=self.args.beta,
                gamma=self.args.gamma,
                label_smoothing=self.args.label_smoothing,
            )
        self._note(chosen.detach(), rejected.detach(), inputs["attention_mask"])
        loss = loss.mean()
        return (loss, {"rewards": self.args.beta * logps.detach()}) if return_outputs else loss

    def _note(self, chosen: Tensor, rejected: Tensor, attention_mask: Tensor) -> None:
        """Every pair's values, so that a small last batch weighs no more than its pairs."""
        mode = "train" if self.model.training else "eval"
        for name, values in gathered(self.accelerator, pair_metrics(chosen, rejected, self.args.beta)).items():
            self._metrics[mode][name] += values
        if mode == "train":
            self._total_train_tokens += int(cast(Tensor, self.accelerator.gather(attention_mask.sum())).sum())
        self._metrics[mode]["num_tokens"] = [self._total_train_tokens]

    def log(self, logs, start_time=None):
        mode = "train" if self.model.training else "eval"
        losses = [key for key in logs if key.startswith("eval_") and key.endswith("_loss")]
        prefix = losses[0].removesuffix("loss") if mode == "eval" and losses else ""  # one per evaluation dataset
        means = {f"{prefix}{key}": sum(values) / len(values) for key, values in self._metrics[mode].items()}
        self._metrics[mode].clear()  # TRL's own log has nothing to add then
        logs.update({**means, **logps_drift(means, self.state.log_history)})
        super().log(logs, start_time)

    def _card(self) -> CardText:
        place, model = self._card_name(), self.model
        return guide_card(place, model.config._name_or_path or place, place, hasattr(model, "peft_config"))  # pyright: ignore


def _load(name: str, args: GenARMConfig, quantization_config):
    """In float32 unless asked otherwise, as TRL's trainers load models to train."""
    settings: dict[str, Any] = {"dtype": "float32", "trust_remote_code": args.trust_remote_code}
    if quantization_config is not None:
        settings["quantization_config"] = quantization_config
    return AutoModelForCausalLM.from_pretrained(name, **{**settings, **cast(dict, args.model_init_kwargs or {})})


def _causal_lm(model):
    causal_lm = model.get_base_model() if hasattr(model, "get_base_model") else model
    if causal_lm.get_output_embeddings() is None or causal_lm.config.is_encoder_decoder:
        raise TypeError(
            f"A `{type(causal_lm).__name__}` was given, but an autoregressive reward model is a causal LM. Load it "
            "with `AutoModelForCausalLM`."
        )
    return causal_lm


def _check_adapters(model, peft_config) -> None:
    configs = [*getattr(model, "peft_config", {}).values(), *([peft_config] if peft_config else [])]
    for config in configs:
        if config.is_prompt_learning or config.task_type not in (None, "CAUSAL_LM"):
            raise ValueError(
                f"A `{type(config).__name__}` with `task_type={config.task_type!r}` was given, but a guide is a causal "
                "LM whose weights an adapter changes. Use `LoraConfig(task_type='CAUSAL_LM', "
                "target_modules='all-linear')`."
            )
        if "lm_head" in (config.target_modules or ()):
            raise ValueError(
                "An adapter on `lm_head` was given, but the log-probabilities are read from the head's own weights, so "
                "it would never be trained. Leave 'lm_head' out of `target_modules`."
            )

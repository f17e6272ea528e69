"""Trains an autoregressive reward model on TRL's `RewardTrainer`."""

from typing import Any, cast

import torch
from datasets import Dataset, IterableDataset
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_reward_ext.base.losses import bradley_terry_loss, hinge_pair_loss
from hf_reward_ext.base.preference import prepare_preference_dataset
from hf_reward_ext.base.private_api import add_fused_lm_head
from hf_reward_ext.base.trainer import BaseRewardTrainer
from hf_reward_ext.genarm.data_collator import PairCollator
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

    Raises:
        ValueError: Before training: missing columns, no pair short enough, options that exclude each other.

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
    _paper = {
        "title": "GenARM: Reward Guided Generation with Autoregressive Reward Model for Test-time Alignment",
        "id": "2410.08193",
    }
    _what = "An autoregressive reward model: its next-token log-probabilities are rewards that guide another model."
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
        if args is None:
            args = GenARMConfig(f"{name.split('/')[-1]}-GenARM")
        if processing_class is None:
            processing_class = AutoTokenizer.from_pretrained(name, trust_remote_code=args.trust_remote_code)
        if isinstance(model, str):
            model = AutoModelForCausalLM.from_pretrained(
                model, trust_remote_code=args.trust_remote_code, **cast(dict, args.model_init_kwargs or {})
            )
            args.model_init_kwargs = None
        causal_lm = model.get_base_model() if hasattr(model, "peft_config") else model
        if causal_lm.get_output_embeddings() is None:
            raise TypeError(
                f"A `{type(causal_lm).__name__}` was given, but an autoregressive reward model is a causal LM. Load it "
                "with `AutoModelForCausalLM`."
            )
        add_fused_lm_head(causal_lm)
        if processing_class.pad_token is None:
            processing_class.pad_token = processing_class.eos_token
        num_labels = causal_lm.config.num_labels
        causal_lm.config.num_labels = 1  # what TRL asks of a reward model; a causal LM does not use it
        self._first_logps: dict[str, float] = {}
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator or PairCollator(processing_class.pad_token_id),
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            **kwargs,
        )
        causal_lm.config.num_labels = num_labels

    def _prepare_dataset(self, dataset, processing_class, args, dataset_name):
        return prepare_preference_dataset(
            dataset,
            processing_class,
            max_length=args.max_length,
            turns=args.turns,
            num_proc=args.dataset_num_proc,
            name=dataset_name,
        )

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        mask = inputs["completion_mask"]
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

    @torch.no_grad()
    def _note(self, chosen: Tensor, rejected: Tensor, attention_mask: Tensor) -> None:
        mode = "train" if self.model.training else "eval"
        values = {
            "accuracy": (chosen > rejected).float(),
            "margin": self.args.beta * (chosen - rejected),
            "rewards/chosen": self.args.beta * chosen,
            "rewards/rejected": self.args.beta * rejected,
            "logps/chosen": chosen,
            "logps/rejected": rejected,
        }
        for name, value in values.items():
            gathered = cast(Tensor, self.accelerator.gather_for_metrics(value))
            self._metrics[mode][name].append(gathered.mean().item())
        if mode == "train":
            self._total_train_tokens += int(cast(Tensor, self.accelerator.gather(attention_mask.sum())).sum())
        self._metrics[mode]["num_tokens"] = [self._total_train_tokens]

    def evaluate(self, *args, metric_key_prefix: str = "eval", **kwargs) -> dict[str, float]:
        metrics = super().evaluate(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        now: Any = self.state.log_history[-1].get("eval_logps/chosen") if self.state.log_history else None
        if now is not None:
            first = self._first_logps.setdefault(metric_key_prefix, now)
            metrics[f"{metric_key_prefix}_logps_drift"] = now - first
            self.state.log_history[-1][f"{metric_key_prefix}_logps_drift"] = now - first
        return metrics

    def _card_snippet(self) -> str:
        base = self._card_base() or self._card_name()
        load = "AutoPeftModelForCausalLM" if hasattr(self.model, "peft_config") else "AutoModelForCausalLM"
        package = "peft" if hasattr(self.model, "peft_config") else "transformers"
        imports = "from transformers import AutoModelForCausalLM, AutoTokenizer"
        if package == "peft":
            imports = "from peft import AutoPeftModelForCausalLM\n" + imports
        return f"""\
{imports}

from hf_reward_ext import GenARMLogitsProcessor

policy = AutoModelForCausalLM.from_pretrained({base!r})
guide = {load}.from_pretrained({self._card_name()!r})
tokenizer = AutoTokenizer.from_pretrained({self._card_name()!r})
inputs = tokenizer("Once upon a time", return_tensors="pt")
out = policy.generate(**inputs, max_new_tokens=32, logits_processor=[GenARMLogitsProcessor(guide, alpha=1.0)])
print(tokenizer.decode(out[0]))"""

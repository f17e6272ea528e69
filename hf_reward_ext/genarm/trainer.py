"""Trains an autoregressive reward model on TRL's `RewardTrainer`."""

from datasets import Dataset, IterableDataset
from transformers import AutoModelForCausalLM

from hf_reward_ext.base.losses import bradley_terry_loss, hinge_pair_loss
from hf_reward_ext.base.preference import prepare_preference_dataset
from hf_reward_ext.base.token_rewards import masked_mean, masked_sum
from hf_reward_ext.base.trainer import BaseRewardTrainer
from hf_reward_ext.genarm.chunked_logps import answer_with_logps, check_head
from hf_reward_ext.genarm.data_collator import PairCollator
from hf_reward_ext.genarm.metrics import drift, gathered, pair_metrics, per_token_metrics
from hf_reward_ext.genarm.trainer_config import GenARMConfig


class GenARMTrainer(BaseRewardTrainer):
    r"""
    Trains a causal LM whose log-probabilities are token rewards: the guide of [`GenARMLogitsProcessor`].

    $$ L = -\log\sigma\Big(\beta_r \big(\log\pi_r(y^+|x) - \log\pi_r(y^-|x)\big) - \gamma\Big), \quad
    \log\pi_r(y|x) = \sum_t \log\pi_r(y_t|x,y_{<t}) $$

    The loss of [GenARM](https://huggingface.co/papers/2410.08193), with the label smoothing, margin and hinge of the
    authors' code. There is no reference model. Start from a language model of the task; for guidance it may be much
    smaller than the policy, but it needs the policy's tokenizer.

    Args:
        model (`str`, `PreTrainedModel` or `PeftModel`): A causal LM.
        args ([`GenARMConfig`], *optional*): Training arguments.
        data_collator (*optional*): Default: [`~hf_reward_ext.genarm.data_collator.PairCollator`].
        train_dataset (`Dataset` or `IterableDataset`): Preference pairs, text or chat, with or without `prompt`;
            optional `margin`, in scaled reward units. Pairs that are too long are left out; `num_filtered` counts them.
        eval_dataset (*optional*): The same, or a `dict` of several.
        processing_class (*optional*): The tokenizer. Default: loaded by the model's name.
        **kwargs: Those of [`~trl.RewardTrainer`] (`peft_config`, `quantization_config`, `callbacks`, ...).

    Attributes:
        num_filtered (`dict[str, int]`): Pairs with more than `max_length` tokens, by map-style dataset.

    Raises:
        TypeError: If the model is no causal LM.
        ValueError: If data or adapter do not fit, or the model's head cannot be computed in blocks.

    Example:
    ```python
    >>> trainer = GenARMTrainer("Qwen/Qwen3-0.6B", GenARMConfig("arm"), train_dataset=pairs)
    >>> trainer.train()
    >>> trainer.save_model()  # AutoModelForCausalLM.from_pretrained("arm")
    ```
    """

    args: GenARMConfig

    _tag_names = ["trl", "hf-reward-ext", "genarm"]
    _name = "GenARM"
    _paper = {
        "title": "GenARM: Reward Guided Generation with Autoregressive Reward Model for Test-time Alignment",
        "id": "2410.08193",
    }
    _what = (
        "An autoregressive reward model: a causal LM whose log-probabilities are token rewards. It guides any policy "
        "with the same tokenizer while that writes."
    )
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
        _check_adapter(kwargs.get("peft_config"))
        if isinstance(model, str):
            model = _load(model, args, kwargs.pop("quantization_config", None))
            args.model_init_kwargs = None  # used up; TRL warns of those of a loaded model
        _check_causal_lm(model)
        self.num_filtered: dict[str, int] = {}
        self._pad_to_multiple_of = args.pad_to_multiple_of
        labels = {field: getattr(model.config, field, None) for field in ("id2label", "label2id")}
        model.config.num_labels = 1  # what TRL asks of a reward model
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator or _not_yet,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            **kwargs,
        )
        for field, value in labels.items():
            setattr(model.config, field, value)
        if data_collator is None:
            self.data_collator = PairCollator(self.processing_class.pad_token_id, _multiple(args.pad_to_multiple_of))
        causal_lm = _unwrapped(self.model)
        check_head(causal_lm)
        answer_with_logps(causal_lm)

    def _prepare_dataset(self, dataset, processing_class, args: GenARMConfig, dataset_name):  # pyright: ignore
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
        mode = "train" if self.model.training else "eval"
        mask = inputs["completion_mask"]
        token_logps = model(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], completion_mask=mask
        ).token_logps
        reduce = masked_mean if self.args.length_normalization else masked_sum
        chosen, rejected = reduce(token_logps, mask).chunk(2)
        loss = self._losses(chosen, rejected, inputs.get("margin", 0.0)).mean()
        metrics = {**pair_metrics(chosen, rejected, self.args.beta), **per_token_metrics(token_logps, mask)}
        for key, values in gathered(self.accelerator, metrics).items():
            self._metrics[mode][key] += values
        if mode == "train":
            self._total_train_tokens += int(self.accelerator.gather(inputs["attention_mask"].sum()).sum())  # pyright: ignore
        self._metrics[mode]["num_tokens"] = [self._total_train_tokens]
        return (loss, {"chosen": chosen, "rejected": rejected}) if return_outputs else loss

    def _losses(self, chosen, rejected, margin):
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

    def log(self, logs, start_time=None):
        mode = "train" if self.model.training else "eval"
        prefix = next((key.removesuffix("loss") for key in logs if key.endswith("_loss") and mode == "eval"), "")
        means = {f"{prefix}{key}": sum(values) / len(values) for key, values in self._metrics[mode].items()}
        self._metrics[mode].clear()  # TRL's own log adds nothing then
        logs.update({**means, **drift(means, self.state.log_history)})
        super().log(logs, start_time)

    def _card_snippet(self) -> str:
        policy = self._card_base() or "path/to/policy"
        return f"""\
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_reward_ext.genarm import GenARMLogitsProcessor

policy = AutoModelForCausalLM.from_pretrained({policy!r})  # or a bigger model with the same tokenizer
tokenizer = AutoTokenizer.from_pretrained({self._card_name()!r})
guide = AutoModelForCausalLM.from_pretrained({self._card_name()!r})
inputs = tokenizer("Once upon a time", return_tensors="pt")
out = policy.generate(**inputs, logits_processor=[GenARMLogitsProcessor(guide, alpha=1.0)], max_new_tokens=50)
print(tokenizer.batch_decode(out)[0])"""

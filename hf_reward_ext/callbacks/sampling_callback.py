"""Base class of callbacks that sample from the model in training."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset, IterableDataset
from transformers import Trainer, TrainerCallback, TrainingArguments

from hf_reward_ext.base.scoring.rewards import Rewards
from hf_reward_ext.callbacks.candidates import Sampling
from hf_reward_ext.callbacks.completions_table import CompletionsTable
from hf_reward_ext.callbacks.evaluation_mode import evaluation_mode, same_random_states
from hf_reward_ext.callbacks.processes import gather_shares, own_share
from hf_reward_ext.callbacks.prompts import Prompt, evaluation_prompts, given_prompts
from hf_reward_ext.callbacks.reporting import log_metrics, metric_prefix
from hf_reward_ext.callbacks.rewards import RewardCaller


class SamplingCallback(TrainerCallback):
    """
    Callback that samples from the model at each evaluation of a trainer and adds values to the metrics.

    Args:
        prompts (`list`, `Dataset` or `None`): Prompts, see [`given_prompts`]; `None` for those of the evaluation data.
        reward_model (`str`, `PreTrainedModel` or `callable`): Reward, see [`RewardCaller`].
        name (`str`): Beginning of the metrics' names.
        trainer (`Trainer`, *optional*): Trainer that the callback is added to, as for TRL's
            `LogCompletionsCallback`. Its trackers receive the values, and its `eval_dataset` is known before the first
            evaluation.
        num_prompts (`int`, *optional*): Number of prompts to take. Default: all.
        reward_processing_class (*optional*): Tokenizer of a reward model given as an object.
        batch_size (`int`, *optional*): Number of prompts per batch. Default: the trainer's
            `per_device_eval_batch_size`.
        num_completions_to_print (`int`, *optional*, defaults to 0): Number of rows of the table to print
            at each evaluation.
        save_completions (`bool`, *optional*, defaults to `False`): Whether to write the rows of each evaluation to
            `<output_dir>/completions/<name>_completions_<step>.parquet`.
        **sampling: Arguments of [`Sampling`].
    """

    def __init__(
        self,
        prompts,
        reward_model,
        *,
        name: str,
        trainer: Trainer | None = None,
        num_prompts: int | None = None,
        reward_processing_class: Any = None,
        batch_size: int | None = None,
        num_completions_to_print: int = 0,
        save_completions: bool = False,
        **sampling,
    ):
        for option, value in {"num_prompts": num_prompts, "batch_size": batch_size}.items():
            if value is not None and value < 1:
                raise ValueError(f"`{option}` must be at least 1, got {value}.")
        if isinstance(prompts, str):
            raise ValueError(f"`prompts` must be a list of prompts, got the text {prompts[:80]!r}. Pass a list.")
        if prompts is not None and not isinstance(prompts, Dataset | IterableDataset):
            prompts = list(prompts)  # columns are passed at each evaluation
        self.prompts = prompts
        self.name = name
        self.trainer = trainer
        self.num_prompts = num_prompts
        self.rewards = RewardCaller(reward_model, reward_processing_class)
        self.batch_size = batch_size
        self.sampling = Sampling(**sampling)
        self.table = CompletionsTable(f"{name}_completions", num_completions_to_print, save_completions)

    def on_evaluate(self, args, state, control, metrics, model, processing_class, eval_dataloader=None, **kwargs):
        prompts = self.read_prompts(processing_class, eval_dataloader)
        results = self.measure_all(prompts, model, processing_class, args, self.sampling)
        values = self.summarize(results, self.prompt_set(metrics))
        log_metrics(values, metrics, args, state, control, self.trainer)
        if state.is_world_process_zero:
            callbacks = [] if self.trainer is None else self.trainer.callback_handler.callbacks
            self.table.log(self.table_rows(prompts, results), state.global_step, args, callbacks)

    @abstractmethod
    def measure(self, policy, processing_class, prompts: list[Prompt], first: int, sampling: Sampling) -> list[dict]:
        """Measure prompts; `first` is the index of the first one among all prompts."""

    @abstractmethod
    def summarize(self, results: Sequence[dict], prompt_set: str) -> Mapping[str, float]:
        """Return the metrics without prefix, from the results of all prompts of a set."""

    @abstractmethod
    def table_rows(self, prompts: list[Prompt], results: Sequence[dict]) -> list[dict]:
        """Return the rows of the table."""

    def measure_all(
        self, prompts: list[Prompt], model, processing_class, args: TrainingArguments, sampling: Sampling
    ) -> list[dict]:
        """Run [`measure`] on all processes, and return the results of all prompts on each of them."""
        sampling.batch_size = self.batch_size or args.per_device_eval_batch_size
        self.rewards.to(args.device)
        first, share = own_share(prompts)
        with evaluation_mode(model, args) as policy:
            results = self.measure(policy, processing_class, share, first, sampling)
        return gather_shares(results, len(prompts))

    def score_all(self, prompts: list[Prompt], texts: list[list[str]], args: TrainingArguments) -> list[Rewards]:
        """Return the rewards of completions, computed on all processes."""
        self.rewards.to(args.device)
        _, share = own_share(list(zip(prompts, texts, strict=True)))
        with same_random_states(args.device):
            rewards = self.rewards([prompt for prompt, _ in share], [group for _, group in share])
        return gather_shares(rewards, len(prompts))

    def read_prompts(self, processing_class, eval_dataloader) -> list[Prompt]:
        """Return the given prompts, or those of the evaluation data, after checking columns for the reward."""
        if self.prompts is None:
            prompts = evaluation_prompts(eval_dataloader, processing_class, self.num_prompts)
        else:
            prompts = given_prompts(self.prompts, processing_class, self.num_prompts)
        self.rewards.check_columns(prompts)
        return prompts

    def prompt_set(self, metrics: Mapping[str, float]) -> str:
        """Return the name of the set of prompts, which is that of the evaluation set if there are several."""
        return metric_prefix(metrics) if self.prompts is None else "given"

    def known_prompt_sets(self, processing_class) -> dict[str, list[Prompt]]:
        """Return the sets of prompts that are known before the first evaluation."""
        if self.prompts is not None:
            return {"given": self.read_prompts(processing_class, None)}
        if self.trainer is None or self.trainer.eval_dataset is None:
            return {}
        sets = self.trainer.eval_dataset
        names = list(sets) if isinstance(sets, dict) else [None]
        return {
            "eval" if name is None else f"eval_{name}": self.read_prompts(
                processing_class, self.trainer.get_eval_dataloader(name)
            )
            for name in names
        }

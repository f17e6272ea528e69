"""What the callbacks share that sample from the model in training: prompts, rewards, and where results go."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence

from transformers import TrainerCallback, TrainingArguments

from hf_reward_ext.base.private_api import running_trainer
from hf_reward_ext.callbacks.candidates import Sampling
from hf_reward_ext.callbacks.completions_table import CompletionsTable
from hf_reward_ext.callbacks.processes import gather_shares, own_share
from hf_reward_ext.callbacks.prompts import Prompt, evaluation_prompts, given_prompts
from hf_reward_ext.callbacks.reporting import check_early_stopping, metric_prefix, report
from hf_reward_ext.callbacks.rewards import RewardCaller
from hf_reward_ext.callbacks.undisturbed import same_random_states, undisturbed


class SamplingCallback(TrainerCallback):
    """
    Samples from the model at each evaluation of a trainer and adds what it measures to the metrics.

    Args:
        prompts (`list`, `Dataset` or `None`): See [`given_prompts`]; `None` takes those of the evaluation data.
        reward_model (`str`, `PreTrainedModel` or `callable`): See [`RewardCaller`].
        name (`str`): Beginning of the metrics' names.
        num_prompts (`int`, *optional*): The first so many.
        reward_processing_class (*optional*): Tokenizer of a reward model given as an object.
        batch_size (`int`, *optional*): Prompts at a time. Default: the trainer's `per_device_eval_batch_size`.
        num_completions_to_print (`int`, *optional*, defaults to 0): Rows of the table that are printed each time.
        **sampling: For [`Sampling`].
    """

    def __init__(
        self,
        prompts,
        reward_model,
        *,
        name: str,
        num_prompts: int | None = None,
        reward_processing_class=None,
        batch_size: int | None = None,
        num_completions_to_print: int = 0,
        **sampling,
    ):
        self.prompts = prompts
        self.name = name
        self.num_prompts = num_prompts
        self.rewards = RewardCaller(reward_model, reward_processing_class)
        self.batch_size = batch_size
        self.sampling = Sampling(**sampling)
        self.table = CompletionsTable(f"{name}_completions", num_completions_to_print)

    def on_train_begin(self, args, state, control, **kwargs):
        check_early_stopping(self)

    def on_evaluate(self, args, state, control, metrics, model, processing_class, eval_dataloader=None, **kwargs):
        prompts = self.read_prompts(processing_class, eval_dataloader)
        results = self.measure_all(prompts, model, processing_class, args, self.sampling)
        report(self.summarize(results, self.prompt_set(metrics)), metrics, args, state, control)
        if state.is_world_process_zero:
            self.table.log(self.table_rows(prompts, results), state.global_step, args)

    @abstractmethod
    def measure(self, policy, processing_class, prompts: list[Prompt], first: int, sampling: Sampling) -> list[dict]:
        """What is found out about each of some prompts; `first` is the place of the first among all."""

    @abstractmethod
    def summarize(self, results: Sequence[dict], prompt_set: str) -> Mapping[str, float]:
        """Metrics, without the evaluation's prefix, of what was found out about all prompts of a set."""

    @abstractmethod
    def table_rows(self, prompts: list[Prompt], results: Sequence[dict]) -> list[dict]:
        """What the table shows of it."""

    def measure_all(
        self, prompts: list[Prompt], model, processing_class, args: TrainingArguments, sampling: Sampling
    ) -> list[dict]:
        """[`measure`] on all processes: every one gets the results of all prompts."""
        sampling.batch_size = self.batch_size or args.per_device_eval_batch_size
        self.rewards.to(args.device)
        first, share = own_share(prompts)
        with undisturbed(model, args) as policy:
            results = self.measure(policy, processing_class, share, first, sampling)
        return gather_shares(results, len(prompts))

    def score_all(self, prompts: list[Prompt], texts: list[list[str]], args: TrainingArguments) -> list[list[float]]:
        """Rewards of given completions, on all processes."""
        self.rewards.to(args.device)
        _, share = own_share(list(zip(prompts, texts, strict=True)))
        with same_random_states(args.device):
            rewards = self.rewards([prompt for prompt, _ in share], [group for _, group in share])
        return gather_shares(rewards, len(prompts))

    def read_prompts(self, processing_class, eval_dataloader) -> list[Prompt]:
        """The prompts given, or else those of the data that is evaluated."""
        if self.prompts is None:
            return evaluation_prompts(eval_dataloader, processing_class, self.num_prompts)
        return given_prompts(self.prompts, processing_class, self.num_prompts)

    def prompt_set(self, metrics: Mapping[str, float]) -> str:
        """What tells sets of prompts apart: those of several evaluation sets by their prefix."""
        return metric_prefix(metrics) if self.prompts is None else "given"

    def prompt_sets(self, processing_class) -> dict[str, list[Prompt]]:
        """All sets of prompts, before anything was evaluated."""
        if self.prompts is not None:
            return {"given": self.read_prompts(processing_class, None)}
        trainer = running_trainer()
        if trainer is None or trainer.eval_dataset is None:
            return {}
        names = list(trainer.eval_dataset) if isinstance(trainer.eval_dataset, dict) else [None]
        return {
            "eval" if name is None else f"eval_{name}": self.read_prompts(
                processing_class, trainer.get_eval_dataloader(name)
            )
            for name in names
        }

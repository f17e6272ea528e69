"""Callback for the reward of the policy in training and of its best of N samples."""

import statistics
from collections.abc import Sequence

import numpy as np

from hf_reward_ext.base.scoring.rewards import Rewards
from hf_reward_ext.callbacks.candidates import Sampling, sample_candidates
from hf_reward_ext.callbacks.prompts import Prompt
from hf_reward_ext.callbacks.reference import Reference, win_rate
from hf_reward_ext.callbacks.rewards import share_unanswered
from hf_reward_ext.callbacks.sampling_callback import SamplingCallback
from hf_reward_ext.evaluation.curves import chances_by_rank


class BestOfNCallback(SamplingCallback):
    r"""
    Callback that logs the policy's reward, best-of-N curve and win rate at each evaluation of any trainer.

    $$ \operatorname{BoN@}k = \sum_{j=0}^{N-1} \frac{\binom{N-1-j}{k-1}}{\binom{N}{k}} r_{(j)}, \qquad
       \text{win} = \frac{1}{NM} \sum_{i,j} \left([r_i > r'_j] + \tfrac12 [r_i = r'_j]\right) $$

    $r_{(j)}$ is the reward of rank $j$ among the N candidates of a prompt, and $r'$ are the rewards of the M reference
    completions. Both values are means over prompts. The sum over $i, j$ omits $i = j$ if both were drawn with the same
    seed. Candidates without a reward (`None`) are ignored and counted in `bon_unanswered_ratio`.
    `eval_bon_reward` (the whole N) can be `metric_for_best_model`. Also logged, without the prefix:
    `bon_reward_at_k` for powers of two, `bon_win_rate`, `bon_completion_length` in tokens, and `bon_clipped_ratio`, the
    share of completions that were cut.

    All processes take part, and the state that sampling changes is restored, so a run with this callback trains the
    same weights as one without it. Add an `EarlyStoppingCallback` that uses these metrics after it.

    Args:
        prompts (`list` of `str` or of messages, `Dataset`, or `None`): Prompts to sample from. A dataset has a column
            `prompt`; its other columns are passed to reward functions. `None`: the prompts of the trainer's
            `eval_dataset`.
        reward_model (`str`, `PreTrainedModel` or `callable`): Reward of single completions: any sequence-classification
            reward model or its name, a model of this library, or a reward function as for TRL's trainers, see
            [`as_scorer`].
        num_candidates (`int`, *optional*, defaults to 8): Number of candidates N.
        reference (`list`, `PreTrainedModel`, *optional*): Reference for the win rate: one or more completions per
            prompt, or another policy. Default: the policy at the beginning of training, or at the first evaluation if
            the prompts are not known before it (`prompts=None` without `trainer`); see `eval_on_start=True` of
            `TrainingArguments`.
        trainer (`Trainer`, *optional*): The trainer that the callback is added to (`trainer.add_callback`). Its
            trackers (`report_to`) receive the values. Without it they are in the metrics and the log history only.
        num_prompts (`int`, *optional*): Number of prompts to take. Default: all.
        max_new_tokens (`int`, *optional*, defaults to 256), temperature (`float`, *optional*, defaults to 1.0),
            generation_kwargs (`dict`, *optional*): Settings of the samples. Only EOS, BOS and padding
            tokens are taken from the policy's generation config.
        seed (`int`, *optional*, defaults to 0): Random seed for sampling, the same at each evaluation.
        batch_size (`int`, *optional*): Number of prompts per batch. Default: `per_device_eval_batch_size`.
        reward_processing_class (*optional*): Tokenizer of a reward model that is passed as an object.
        num_completions_to_print (`int`, *optional*, defaults to 0): Number of prompts whose best candidate is
            printed.
        save_completions (`bool`, *optional*, defaults to `False`): Whether to write the rows of each evaluation to
            `<output_dir>/completions/<name>_completions_<step>.parquet`.
        name (`str`, *optional*, defaults to `"bon"`): Prefix of the metrics' names, which must differ between several
            callbacks.

    Attributes:
        table ([`CompletionsTable`]): Best candidates of all evaluations; `table.frame` is a `DataFrame`.

    Raises:
        TypeError: If the reward model cannot score text, or a function needs columns that the prompts do not have.
        ValueError: If a number is out of range, prompts are missing, or a reward is not a number.

    Example:
    ```python
    >>> callback = BestOfNCallback(prompts, "path/to/reward_model", num_candidates=8)
    >>> args = DPOConfig("dpo", eval_strategy="steps", save_strategy="best", metric_for_best_model="eval_bon_reward")
    >>> DPOTrainer(policy, args=args, ..., callbacks=[callback]).train()
    ```
    """

    def __init__(
        self,
        prompts,
        reward_model,
        num_candidates: int = 8,
        reference=None,
        *,
        name: str = "bon",
        **settings,
    ):
        if num_candidates < 1:
            raise ValueError(f"`num_candidates` must be at least 1, got {num_candidates}. Pass 1 or more.")
        super().__init__(prompts, reward_model, name=name, **settings)
        self.num_candidates = num_candidates
        self.reference = Reference(reference, f"{name}_reference")
        self._first_step: int | None = None  # unknown outside of training

    def on_train_begin(self, args, state, control, model, processing_class, **kwargs):
        self._first_step = state.global_step
        for prompt_set, prompts in self.known_prompt_sets(processing_class).items():
            self._meet_reference(prompt_set, prompts, model, processing_class, args, state)

    def on_evaluate(self, args, state, control, metrics, model, processing_class, eval_dataloader=None, **kwargs):
        prompts = self.read_prompts(processing_class, eval_dataloader)
        self._meet_reference(self.prompt_set(metrics), prompts, model, processing_class, args, state)
        super().on_evaluate(args, state, control, metrics, model, processing_class, eval_dataloader, **kwargs)

    def _meet_reference(self, prompt_set: str, prompts: list[Prompt], model, processing_class, args, state) -> None:
        if self.reference.is_known(prompt_set, len(prompts), state, self._first_step):
            return
        texts = self.reference.completions(len(prompts))
        if texts is not None:
            rewards = self.score_all(prompts, texts, args)
        else:
            policy = model if self.reference.source is None else self.reference.source.to(args.device)
            results = self.measure_all(prompts, policy, processing_class, args, self.sampling)
            rewards = [result["rewards"] for result in results]
        self.reference.keep(prompt_set, rewards, state)

    def measure(self, policy, processing_class, prompts: list[Prompt], first: int, sampling: Sampling) -> list[dict]:
        groups, _ = sample_candidates(policy, processing_class, prompts, self.num_candidates, sampling, first=first)
        ids = [[candidate.ids for candidate in group] for group in groups]
        texts = [processing_class.batch_decode(group, skip_special_tokens=True) for group in ids]
        return [
            {
                "texts": group_texts,
                "rewards": rewards,
                "lengths": [len(candidate.ids) for candidate in group],
                "clipped": [candidate.is_cut for candidate in group],
            }
            for group_texts, rewards, group in zip(texts, self.rewards(prompts, texts, ids), groups, strict=True)
        ]

    def summarize(self, results: Sequence[dict], prompt_set: str) -> dict[str, float]:
        rewards = [result["rewards"] for result in results]
        answered = [_answered(group) for group in rewards]
        ks = sorted({2**power for power in range(self.num_candidates.bit_length())} | {self.num_candidates})
        curve = {k: _best_of(answered, k) for k in ks}
        won = win_rate(rewards, self.reference[prompt_set], same_seed=self.reference.is_sampled)
        return {
            f"{self.name}_reward": curve[self.num_candidates],
            **{f"{self.name}_reward_at_{k}": value for k, value in curve.items()},
            f"{self.name}_win_rate": won,
            f"{self.name}_completion_length": float(np.mean([result["lengths"] for result in results])),
            f"{self.name}_clipped_ratio": float(np.mean([result["clipped"] for result in results])),
            **share_unanswered(rewards, f"{self.name}_unanswered_ratio"),
        }

    def table_rows(self, prompts: list[Prompt], results: Sequence[dict]) -> list[dict]:
        rows = []
        for prompt, result in zip(prompts, results, strict=True):
            rewards = np.array(result["rewards"], dtype=float)  # `None` becomes NaN
            best = 0 if np.isnan(rewards).all() else int(np.nanargmax(rewards))
            answered = _answered(result["rewards"])
            rows.append(
                {
                    "prompt": prompt.shown,
                    "completion": result["texts"][best],
                    "reward": float(rewards[best]),
                    "mean_reward": float(np.mean(answered)) if answered else float("nan"),
                }
            )
        return rows


def _answered(rewards: Rewards) -> list[float]:
    return [reward for reward in rewards if reward is not None]


def _best_of(groups: Sequence[list[float]], k: int) -> float:
    """Return the mean over prompts of the expected best of k rewards, or of fewer if fewer have an answer."""
    best = [
        float(np.sort(rewards)[::-1] @ chances_by_rank(len(rewards), min(k, len(rewards))))
        for rewards in groups
        if rewards
    ]
    if not best:
        raise ValueError(
            f"The reward must have an answer to a candidate of at least one prompt, got `None` for all of "
            f"{len(groups)} prompts. Pass prompts that it applies to."
        )
    return statistics.mean(best)  # exact for equal rewards

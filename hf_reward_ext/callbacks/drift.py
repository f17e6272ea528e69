"""Callback that watches for a policy that games its reward."""

import math
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState

from hf_reward_ext.base.options import check_count, check_number
from hf_reward_ext.callbacks.candidates import Sampling, sample_candidates
from hf_reward_ext.callbacks.parting import Measured, Parting, parting
from hf_reward_ext.callbacks.policy_shift import StartPolicy, feature_shift, shift_from_start
from hf_reward_ext.callbacks.prompts import Prompt
from hf_reward_ext.callbacks.rewards import RewardCaller
from hf_reward_ext.callbacks.sampling_callback import SamplingCallback
from hf_reward_ext.evaluation.plots import plot_drift


class RewardDriftCallback(SamplingCallback):
    r"""
    Callback that compares the reward in training with a held-out reward, and warns when they part.

    At the beginning of training and at each evaluation it samples from the policy with the same seeds and logs, with
    the prefix `eval_`:

    | metric | meaning |
    |---|---|
    | `drift_reward`, `drift_held_out_reward` | mean of both rewards of the same samples |
    | `drift_reward_unanswered`, `drift_held_out_unanswered` | share of samples without the reward (`None`) |
    | `drift_kl` | KL divergence from the policy at the start, in nats per completion, exact at every token |
    | `drift_length` | mean number of tokens |
    | `drift_feature_shift` | shift of the mean last hidden state of the texts, in deviations of the start |
    | `drift_parted` | 1 if the rewards part, else 0 |

    The rewards part if, since the evaluation with the best held-out reward, the reward in training rose and the
    held-out reward fell, both by more than `threshold` standard errors over prompts. Then the policy satisfies the
    model, not what the model stands for; the warning names the step before. It warns too if the share of samples
    without a reward rose as much since the start.

    Args:
        prompts (`list` of `str` or of messages, or `Dataset`): Prompts to sample from, with the columns that the
            rewards need. The more prompts, the smaller the change that is seen.
        reward_model (`str`, `PreTrainedModel` or `callable`): Reward in training, see [`as_scorer`]; a
            [`WeightedReward`] for several.
        held_out (`str`, `PreTrainedModel` or `callable`): Reward that is not used in training: a rule, a larger model,
            or a model of other data.
        reference (`PreTrainedModel`, *optional*): Policy at the start. Default: with PEFT the model without its
            adapters, else a copy of the model, taken at the beginning of training.
        num_candidates (`int`, *optional*, defaults to 4): Number of samples per prompt.
        threshold (`float`, *optional*, defaults to 3.0): Number of standard errors.
        held_out_processing_class (*optional*): Tokenizer of a held-out model that is passed as an object.
        name (`str`, *optional*, defaults to `"drift"`): Prefix of the metrics' names.
        trainer, num_prompts, max_new_tokens, temperature, generation_kwargs, seed, batch_size, reward_processing_class,
            num_completions_to_print, save_completions (*optional*): See [`BestOfNCallback`].

    Attributes:
        history (`list` of `dict`): Metrics of the beginning and of each evaluation, without prefix, with `step`.
        table ([`CompletionsTable`]): A sample of each prompt with both rewards.

    Raises:
        TypeError: If a reward cannot score text, or needs columns that the prompts do not have.
        ValueError: If prompts are missing or a number is out of range; when training goes on from a checkpoint
            without `reference`.

    Example:
    ```python
    >>> callback = RewardDriftCallback(prompts, "path/to/reward_model", is_right, num_prompts=64)
    >>> trainer = GRPOTrainer(policy, "path/to/reward_model", args=args, ..., callbacks=[callback])
    >>> trainer.train()
    >>> callback.plot("drift.png")
    ```
    """

    def __init__(
        self,
        prompts,
        reward_model,
        held_out,
        *,
        reference=None,
        num_candidates: int = 4,
        threshold: float = 3.0,
        held_out_processing_class: Any = None,
        name: str = "drift",
        **settings,
    ):
        if prompts is None:
            raise ValueError(
                "`prompts` must be given, since the policy is measured before the first evaluation, got None. Pass the "
                "prompts of the evaluation data."
            )
        check_count("num_candidates", num_candidates)
        check_number("threshold", threshold, above=0)
        super().__init__(prompts, reward_model, name=name, **settings)
        self.held_out = RewardCaller(held_out, held_out_processing_class)
        self.start = StartPolicy(reference)
        self.num_candidates = num_candidates
        self.threshold = threshold
        self.history: list[dict[str, float]] = []
        self._measured: list[Measured] = []
        self._start_features = np.empty((0, 0))
        self._samples_start = False
        self._step = 0

    def on_train_begin(self, args, state, control, model, processing_class, **kwargs):
        prompts = self.read_prompts(processing_class, None)
        self.start.keep(model, state.global_step)
        self._samples_start = True
        results = self.measure_all(prompts, model, processing_class, args, self.sampling)
        self._samples_start = False
        self.history, self._measured = [], []
        self._start_features = _features(results)
        self._record(results, 0)

    def on_evaluate(self, args, state, control, metrics, model, processing_class, eval_dataloader=None, **kwargs):
        if not self._measured:
            raise RuntimeError(
                "The policy at the start was not measured, since training has not begun. Call `trainer.train()` before "
                "`trainer.evaluate()`."
            )
        self._step = state.global_step
        super().on_evaluate(args, state, control, metrics, model, processing_class, eval_dataloader, **kwargs)

    def read_prompts(self, processing_class, eval_dataloader) -> list[Prompt]:
        prompts = super().read_prompts(processing_class, eval_dataloader)
        self.held_out.check_columns(prompts)
        return prompts

    def measure_all(self, prompts: list[Prompt], model, processing_class, args, sampling: Sampling) -> list[dict]:
        self.held_out.to(args.device)
        return super().measure_all(prompts, model, processing_class, args, sampling)

    def measure(self, policy, processing_class, prompts: list[Prompt], first: int, sampling: Sampling) -> list[dict]:
        with self.start.loaded(policy) if self._samples_start else nullcontext(policy) as sampled:
            groups, shifts = sample_candidates(
                sampled,
                processing_class,
                prompts,
                self.num_candidates,
                sampling,
                first=first,
                visit=partial(shift_from_start, sampled, self.start),
            )
        ids = [[candidate.ids for candidate in group] for group in groups]
        texts = [processing_class.batch_decode(group, skip_special_tokens=True) for group in ids]
        trained, held_out = self.rewards(prompts, texts, ids), self.held_out(prompts, texts, ids)
        size = self.num_candidates
        return [
            {
                "texts": texts[row],
                "rewards": trained[row],
                "held_out": held_out[row],
                "lengths": [len(one) for one in ids[row]],
                "kl": [shift.kl for shift in shifts[row * size : (row + 1) * size]],
                "features": [shift.features for shift in shifts[row * size : (row + 1) * size]],
            }
            for row in range(len(prompts))
        ]

    def summarize(self, results: Sequence[dict], prompt_set: str) -> dict[str, float]:
        """Return the metrics, and warn if the rewards part."""
        return self._record(results, self._step)

    def _record(self, results: Sequence[dict], step: int) -> dict[str, float]:
        measured = Measured(step, _means(results, "rewards"), _means(results, "held_out"))
        change = parting(self._measured or [measured], measured)
        values = {
            "reward": change.trained[1],
            "held_out_reward": change.held_out[1],
            "reward_unanswered": _share_unanswered(results, "rewards"),
            "held_out_unanswered": _share_unanswered(results, "held_out"),
            "kl": float(np.mean([result["kl"] for result in results])),
            "length": float(np.mean([result["lengths"] for result in results])),
            "feature_shift": feature_shift(_features(results), self._start_features),
            "parted": float(change.is_beyond(self.threshold)),
        }
        self._warn(change, values, step, sum(len(result["rewards"]) for result in results))
        self._measured.append(measured)
        self.history.append({"step": step, **values})
        return {f"{self.name}_{name}": value for name, value in values.items()}

    def _warn(self, change: Parting, values: dict[str, float], step: int, num_samples: int) -> None:
        """Warn, on the main process, if the rewards part or more samples have none."""
        if not PartialState().is_main_process:
            return
        if values["parted"]:
            warnings.warn(
                f"The rewards part at step {step}: since step {change.since} the reward in training rose from "
                f"{change.trained[0]:.3g} to {change.trained[1]:.3g}, but the held-out reward fell from "
                f"{change.held_out[0]:.3g} to {change.held_out[1]:.3g} (KL {values['kl']:.3g} nats, "
                f"{values['length']:.1f} tokens). Keep the checkpoint of step {change.since}, raise `beta`, or add "
                "another reward.",
                stacklevel=2,
            )
        for name in ("reward_unanswered", "held_out_unanswered"):
            now, start = values[name], self.history[0][name] if self.history else values[name]
            error = math.sqrt((now * (1 - now) + start * (1 - start)) / num_samples)
            if now - start > self.threshold * error:
                warnings.warn(
                    f"At step {step} {now:.1%} of the samples have no {name.removesuffix('_unanswered')} (`None`), at "
                    f"the start {start:.1%}: the policy leaves what the reward applies to. Give such completions a low "
                    "reward.",
                    stacklevel=2,
                )

    def table_rows(self, prompts: list[Prompt], results: Sequence[dict]) -> list[dict]:
        return [
            {
                "prompt": prompt.shown,
                "completion": result["texts"][0],
                "reward": _number(result["rewards"][0]),
                "held_out_reward": _number(result["held_out"][0]),
                "kl": result["kl"][0],
            }
            for prompt, result in zip(prompts, results, strict=True)
        ]

    def plot(self, path: str | Path) -> None:
        """Plot both rewards, divergence, length and the shift of features over steps. Requires matplotlib."""
        plot_drift(self.history, path)


def _means(results: Sequence[dict], name: str) -> np.ndarray:
    """Return the mean reward of each prompt; NaN without any."""
    means = []
    for result in results:
        answered = [reward for reward in result[name] if reward is not None]
        means.append(float(np.mean(answered)) if answered else float("nan"))
    if np.isnan(means).all():
        raise ValueError(
            f"`{'reward_model' if name == 'rewards' else name}` must have an answer to a sample of at least one "
            f"prompt, got `None` for all of {len(results)} prompts. Pass prompts that it applies to."
        )
    return np.array(means)


def _share_unanswered(results: Sequence[dict], name: str) -> float:
    return float(np.mean([reward is None for result in results for reward in result[name]]))


def _features(results: Sequence[dict]) -> np.ndarray:
    return np.array([row for result in results for row in result["features"]])


def _number(reward: float | None) -> float:
    return float("nan") if reward is None else reward

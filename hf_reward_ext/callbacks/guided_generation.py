"""Callback for the policy in training under guides, at several weights."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hf_reward_ext.base.lm.forward import run_forward
from hf_reward_ext.callbacks.candidates import Sampling, sample_candidates
from hf_reward_ext.callbacks.prompts import Prompt
from hf_reward_ext.callbacks.rewards import share_unanswered
from hf_reward_ext.callbacks.sampling_callback import SamplingCallback
from hf_reward_ext.genarm import GenARMLogitsProcessor, trace_guidance
from hf_reward_ext.genarm.vocabulary import common_size
from hf_reward_ext.genarm.weights import GuideWeights


class GuidedGenerationCallback(SamplingCallback):
    r"""
    Callback that logs the reward and the divergence of guided samples at each evaluation of any trainer.

    $$ \pi_\alpha(y_t) \propto \pi(y_t) \prod_k \pi_k(y_t)^{\alpha}, \qquad
       KL_\alpha = E_{y \sim \pi_\alpha} \sum_t KL(\pi_\alpha(\cdot \mid y_{<t}) \,\|\, \pi(\cdot \mid y_{<t})) $$

    For each weight it logs `eval_guided_reward_alpha_<alpha>` and `eval_guided_kl_alpha_<alpha>` (nats per completion,
    exact at every token of the samples). At weight 0, the policy alone, it logs the reward only.
    `metric_for_best_model="eval_guided_reward_alpha_1"` selects the checkpoint that is best under its guide.

    The model in training is the policy, or the guide if `policy` is given. Other arguments are those of
    [`BestOfNCallback`].

    Args:
        prompts (`list` of `str` or of messages, `Dataset`, or `None`): Prompts to sample from; `None`: the prompts of
            the trainer's `eval_dataset`.
        reward_model (`str`, `PreTrainedModel` or `callable`): Reward of the samples, see [`BestOfNCallback`].
        guides (`PreTrainedModel`, `PeftModel` or a list of them, *optional*): Guides of the policy in training.
        policy (`PreTrainedModel`, *optional*): Policy that the model in training guides, instead of `guides`.
        alphas (`Sequence[float]`, *optional*, defaults to `(0.5, 1.0)`): Weights, each used for all guides.
        num_candidates (`int`, *optional*, defaults to 1): Number of samples per prompt and weight.
        name (`str`, *optional*, defaults to `"guided"`): Prefix of the metrics' names.
        trainer, num_prompts, max_new_tokens, temperature, generation_kwargs, seed, batch_size, reward_processing_class,
            num_completions_to_print, save_completions (*optional*): See [`BestOfNCallback`].

    Attributes:
        table ([`CompletionsTable`]): One sample per prompt and weight; `table.frame` is a `DataFrame`.

    Raises:
        ValueError: Unless exactly one of `guides` and `policy` is given, or if a weight occurs twice.

    Example:
    ```python
    >>> callback = GuidedGenerationCallback(prompts, "path/to/reward_model", guides=arm, alphas=(0.5, 1.0))
    >>> DPOTrainer(policy, args=args, ..., callbacks=[callback]).train()
    ```
    """

    def __init__(
        self,
        prompts,
        reward_model,
        guides=None,
        *,
        policy=None,
        alphas: Sequence[float] = (0.5, 1.0),
        num_candidates: int = 1,
        name: str = "guided",
        **settings,
    ):
        if (guides is None) == (policy is None):
            raise ValueError(
                f"Exactly one of `guides` and `policy` must be given, got {'neither' if guides is None else 'both'}: "
                "the model in training is the other one."
            )
        if num_candidates < 1:
            raise ValueError(f"`num_candidates` must be at least 1, got {num_candidates}.")
        if not all(math.isfinite(alpha) for alpha in alphas):
            raise ValueError(f"`alphas` must be finite numbers, got {tuple(alphas)}.")
        if len({f"{alpha:g}" for alpha in alphas}) < len(alphas):
            raise ValueError(f"`alphas` must be different weights, got {tuple(alphas)}. Remove the repetition.")
        super().__init__(prompts, reward_model, name=name, **settings)
        self.guides = guides
        self.policy = policy
        self.alphas = tuple(dict.fromkeys((0.0, *alphas)))
        self.num_candidates = num_candidates

    def measure(self, policy, processing_class, prompts: list[Prompt], first: int, sampling: Sampling) -> list[dict]:
        trained = policy
        policy, guides = (
            (trained, self.guides) if self.policy is None else (self.policy.to(trained.device).eval(), trained)
        )
        guides = [
            guide.to(policy.device).eval() for guide in (guides if isinstance(guides, list | tuple) else [guides])
        ]
        results: list[dict] = [{} for _ in prompts]
        for alpha in self.alphas:
            measured = self._at(alpha, policy, guides, processing_class, prompts, first, sampling)
            for result, values in zip(results, measured, strict=True):
                result[alpha] = values
        return results

    def _at(self, alpha, policy, guides, processing_class, prompts, first, sampling) -> list[dict]:
        """Sample at a weight, and return texts, rewards and divergences of each prompt."""
        guided: dict[str, Any] = {}
        if alpha != 0:
            guided["logits_processor"] = [GenARMLogitsProcessor(guides, alpha)]
            models = _SeparateModels(policy, guides, alpha)
            guided["visit"] = partial(_divergences, models)
        groups, divergences = sample_candidates(
            policy, processing_class, prompts, self.num_candidates, sampling, first=first, **guided
        )
        ids = [[candidate.ids for candidate in group] for group in groups]
        texts = [processing_class.batch_decode(group, skip_special_tokens=True) for group in ids]
        kl = np.reshape(divergences or np.zeros((len(prompts), self.num_candidates)), (len(prompts), -1)).tolist()
        rewards = self.rewards(prompts, texts, ids)
        return [
            {"texts": group, "rewards": group_rewards, "kl": group_kl}
            for group, group_rewards, group_kl in zip(texts, rewards, kl, strict=True)
        ]

    def summarize(self, results: Sequence[dict], prompt_set: str) -> dict[str, float]:
        values = {}
        for alpha in self.alphas:
            rewards = [result[alpha]["rewards"] for result in results]
            answered = [reward for group in rewards for reward in group if reward is not None]
            if not answered:
                raise ValueError(
                    f"The reward must have an answer to a completion at weight {alpha:g}, got `None` for all. Pass "
                    "prompts that it applies to."
                )
            values[f"{self.name}_reward_alpha_{alpha:g}"] = float(np.mean(answered))
            if alpha:
                values[f"{self.name}_kl_alpha_{alpha:g}"] = float(np.mean([result[alpha]["kl"] for result in results]))
            values |= share_unanswered(rewards, f"{self.name}_unanswered_ratio_alpha_{alpha:g}")
        return values

    def table_rows(self, prompts: list[Prompt], results: Sequence[dict]) -> list[dict]:
        return [
            {
                "prompt": prompt.shown,
                "completion": result[alpha]["texts"][0],
                "reward": float(np.array(result[alpha]["rewards"][0], dtype=float)),  # `None` becomes NaN
                "alpha": alpha,
                "kl": result[alpha]["kl"][0],
            }
            for prompt, result in zip(prompts, results, strict=True)
            for alpha in self.alphas
        ]


class _SeparateModels:
    """Policy and guides for [`trace_guidance`], run one after another, so that they need no shared cache."""

    def __init__(self, policy, guides: Sequence, alpha: float):
        self.models = [policy, *guides]
        self.weights = GuideWeights(alpha, len(guides))
        self.generation_config = policy.generation_config

    def separate_logits(self, input_ids: Tensor, attention_mask: Tensor, logits_to_keep: int) -> list[Tensor]:
        logits = [
            run_forward(
                model, input_ids.to(model.device), attention_mask.to(model.device), logits_to_keep=logits_to_keep
            ).logits
            for model in self.models
        ]
        return [values[:, -logits_to_keep:] for values in logits]

    def weights_of_columns(self, columns: Tensor, prompt_length: int, rows: int, device: torch.device) -> Tensor:
        return self.weights.of_columns(columns, prompt_length, rows, device)

    def common_size(self, base: Tensor, guides: Sequence[Tensor]) -> int:
        return common_size(base.shape[-1], [logits.shape[-1] for logits in guides], None)


def _divergences(
    models: _SeparateModels, sequences: Tensor, attention_mask: Tensor, completion_mask: Tensor
) -> list[float]:
    """Return KL(guided || policy) of the tokens that each row has written, in nats."""
    trace = trace_guidance(models, sequences, attention_mask.shape[1], attention_mask, completion_mask=completion_mask)
    return trace.kl.sum(-1).tolist()

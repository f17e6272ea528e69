"""GRPO with the rewards of steps as advantages of tokens."""

from typing import Any

import torch
from torch import Tensor
from trl import GRPOTrainer

from hf_reward_ext.base.options import check_number
from hf_reward_ext.base.preference.step_ends import find_step_ends
from hf_reward_ext.rewards.step_advantages import step_advantages
from hf_reward_ext.rewards.step_reward import StepReward
from hf_reward_ext.rewards.steps import split_steps

_TOKEN_LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo")


class StepGRPOTrainer(GRPOTrainer):
    r"""
    [`~trl.GRPOTrainer`] that adds advantages of steps to those of whole completions.

    $$ A_{i,t} = A_i + w \sum_{j:\, e_{ij} \ge t} \tilde r_{ij} $$

    See [`step_advantages`] for the sum, which is process supervision of
    [DeepSeekMath](https://huggingface.co/papers/2402.03300). The advantages $A_i$ are TRL's, from `reward_funcs`. With
    $w = 0$ it is TRL's trainer. Its gain over a reward of whole completions was not measured here.

    Logs `step_reward`, the mean reward of a step.

    Args:
        model, reward_funcs, args, train_dataset, processing_class, **kwargs: Arguments of [`~trl.GRPOTrainer`].
        step_reward ([`StepReward`]): Reward of steps; its aggregation is not used.
        step_weight (`float`, *optional*, defaults to 1.0): Weight $w$.

    Raises:
        TypeError: If `step_reward` is not a [`StepReward`].
        ValueError: For losses of whole sequences, the Liger kernel or tools, and if the completions of a prompt are
            divided among processes.

    Example:
    ```python
    >>> steps = StepReward(ModelReward("path/to/reward_model"), ";", credit="difference")
    >>> StepGRPOTrainer(policy, is_right, args, prompts, step_reward=steps, step_weight=0.5).train()
    ```
    """

    def __init__(
        self,
        model,
        reward_funcs,
        args=None,
        train_dataset=None,
        *,
        step_reward: StepReward,
        step_weight: float = 1.0,
        **kwargs,
    ):
        if not isinstance(step_reward, StepReward):
            raise TypeError(f"`step_reward` must be a `StepReward`, got a `{type(step_reward).__name__}`. Wrap it.")
        check_number("step_weight", step_weight, least=0)
        if kwargs.get("tools") or kwargs.get("environment_factory"):
            raise ValueError("`tools` must not be given: tokens of their results are not steps of the policy.")
        super().__init__(model, reward_funcs, args, train_dataset, **kwargs)
        _check_losses(self.args)
        self.step_reward = step_reward
        self.step_weight = step_weight

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        if self.step_weight:
            added = self._step_advantages(inputs, output["completion_ids"], output["completion_mask"])
            output["advantages"] = output["advantages"][:, None] + self.step_weight * added
        return output

    @torch.no_grad()
    def _step_advantages(self, inputs: list[dict[str, Any]], completion_ids: Tensor, mask: Tensor) -> Tensor:
        is_training = self.model.training
        num_generations: Any = self.num_generations if is_training else self.num_generations_eval
        tokenizer: Any = self.processing_class
        if len(inputs) % num_generations:
            raise ValueError(
                f"A process must get all {num_generations} completions of a prompt, got {len(inputs)} completions. Set "
                "the batch size per device to a multiple of `num_generations`."
            )
        ids = [row[kept].tolist() for row, kept in zip(completion_ids, mask.bool(), strict=True)]
        texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
        prompts = [row["prompt"] for row in inputs]
        completions = [
            text if isinstance(prompt, str) else [{"role": "assistant", "content": text}]
            for prompt, text in zip(prompts, texts, strict=True)
        ]
        rewards = self.step_reward.step_rewards(prompts, completions)
        ends = [
            find_step_ends(tokenizer, own, split_steps(text, self.step_reward.marks)) if own else []
            for own, text in zip(ids, texts, strict=True)
        ]
        values = [reward for own in rewards for reward in own or ()]
        if values:
            self._metrics["train" if is_training else "eval"]["step_reward"].append(sum(values) / len(values))
        return step_advantages(rewards, ends, num_generations, completion_ids.shape[1]).to(completion_ids.device)


def _check_losses(args: Any) -> None:
    """Reject losses whose advantages are those of whole completions."""
    if args.use_liger_kernel or args.loss_type not in _TOKEN_LOSSES or args.importance_sampling_level != "token":
        raise ValueError(
            f"`loss_type` must be one of {', '.join(map(repr, _TOKEN_LOSSES))} with "
            f"`importance_sampling_level='token'` and without the Liger kernel, since advantages are those of "
            f"tokens, got {args.loss_type!r}, {args.importance_sampling_level!r} and "
            f"`use_liger_kernel={args.use_liger_kernel}`."
        )
